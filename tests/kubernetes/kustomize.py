"""Two ways to build a kustomization: ``kubectl kustomize``, and the part of it that ours use.

``kubectl`` is not everywhere. The own part knows ``resources``, ``components``, JSON patches and
``images``, and refuses everything else: a kustomization that needs more is not half built.
"""

from __future__ import annotations

import copy
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.kubernetes.documents import parse, read

Documents = list[dict[str, Any]]

_FIELDS = {"apiVersion", "kind", "resources", "components", "patches", "images"}
_PATCH_FIELDS = {"target", "patch", "options"}
_TARGET_FIELDS = {"kind", "name"}
_LISTS_OF_CONTAINERS = ("containers", "initContainers")


def build_here(directory: Path) -> Documents:
    """Build a kustomization with the part that ours use."""
    return _built(directory, [])


def _built(directory: Path, documents: Documents) -> Documents:
    """Add what a kustomization has to documents, and change them all as it says."""
    (kustomization,) = read(directory / "kustomization.yaml")
    _refuse_unknown(kustomization, _FIELDS, directory)
    for resource in kustomization.get("resources", ()):
        path = directory / resource
        documents = documents + (build_here(path) if path.is_dir() else read(path))
    for component in kustomization.get("components", ()):
        documents = _built(directory / component, documents)
    for patch in kustomization.get("patches", ()):
        _refuse_unknown(patch, _PATCH_FIELDS, directory)
        documents = _patched(documents, patch, directory)
    for image in kustomization.get("images", ()):
        _rename_images(documents, image)
    return documents


def build_with_kubectl(directory: Path) -> Documents:
    """Build a kustomization with ``kubectl kustomize``."""
    built = subprocess.run(
        ["kubectl", "kustomize", str(directory)], capture_output=True, text=True, check=False
    )
    assert 0 == built.returncode, built.stderr
    return parse(built.stdout)


BUILDERS: Mapping[str, Callable[[Path], Documents]] = MappingProxyType(
    {"here": build_here} | ({"kubectl": build_with_kubectl} if shutil.which("kubectl") else {})
)
"""The ways there are on this machine."""


def _refuse_unknown(node: dict[str, Any], known: set[str], directory: Path) -> None:
    unknown = sorted(set(node) - known)
    assert not unknown, f"{directory}: build_here knows no {unknown}"


def _patched(documents: Documents, patch: dict[str, Any], directory: Path) -> Documents:
    target = patch["target"]
    _refuse_unknown(target, _TARGET_FIELDS, directory)
    found = [document for document in documents if _is_target(document, target)]
    assert found, f"{directory}: no {target} to patch"
    (operations,) = parse(patch["patch"])
    return [
        _applied(document, operations) if document in found else document for document in documents
    ]


def _is_target(document: dict[str, Any], target: dict[str, Any]) -> bool:
    name = document["metadata"]["name"]
    return target["kind"] == document["kind"] and target.get("name", name) == name


def _applied(document: dict[str, Any], operations: list[dict[str, Any]]) -> dict[str, Any]:
    """Apply the ``add`` and ``replace`` of RFC 6902."""
    patched = copy.deepcopy(document)
    for operation in operations:
        *way, last = (_unescaped(part) for part in operation["path"].split("/")[1:])
        parent: Any = patched
        for part in way:
            parent = parent[int(part) if isinstance(parent, list) else part]
        value = copy.deepcopy(operation["value"])
        if operation["op"] == "replace":
            key = int(last) if isinstance(parent, list) else last
            assert isinstance(parent, list) or key in parent, f"nothing at {operation['path']}"
            parent[key] = value
        elif operation["op"] == "add" and isinstance(parent, list) and last == "-":
            parent.append(value)
        elif operation["op"] == "add" and isinstance(parent, dict):
            parent[last] = value
        else:
            raise AssertionError(f"build_here knows no {operation['op']} at {operation['path']}")
    return patched


def _unescaped(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")


def _rename_images(node: Any, image: dict[str, str]) -> None:
    """Change the images of all lists of containers, at whatever depth, and no others."""
    if isinstance(node, list):
        for item in node:
            _rename_images(item, image)
    elif isinstance(node, dict):
        for key, value in node.items():
            _rename_images(value, image)
            for container in value if key in _LISTS_OF_CONTAINERS else ():
                name, _, tag = container["image"].rpartition(":")
                if name == image["name"]:
                    tag = image.get("newTag", tag)
                    container["image"] = f"{image.get('newName', name)}:{tag}"
