"""The YAML documents of ``servingruntimes/``: where they are, and reading them strictly."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parents[2]
ROOT = PROJECT / "servingruntimes"
BASE = ROOT / "base"
OVERLAYS = ROOT / "overlays"
EXAMPLES = ROOT / "examples"
README = ROOT / "README.md"
PROJECT_README = PROJECT / "README.md"

_FENCE = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class _StrictLoader(yaml.SafeLoader):
    """A loader that refuses a key given twice, which YAML forbids and PyYAML overwrites."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: {twice} given twice")
        return super().construct_mapping(node, deep)


def parse(text: str) -> list[dict[str, Any]]:
    """Read every document of a YAML text."""
    return [
        document for document in yaml.load_all(text, Loader=_StrictLoader) if document is not None
    ]


def read(path: Path) -> list[dict[str, Any]]:
    """Read every document of a YAML file."""
    return parse(path.read_text(encoding="utf-8"))


def example_files() -> list[Path]:
    """Return the examples, each a file to apply as it stands."""
    return sorted(EXAMPLES.glob("*.yaml"))


def examples(kind: str) -> list[dict[str, Any]]:
    """Return every example of a kind."""
    return [
        document for path in example_files() for document in read(path) if document["kind"] == kind
    ]


def kustomizations() -> list[Path]:
    """Return every directory that ``kubectl apply -k`` takes."""
    found = sorted(ROOT.rglob("kustomization.yaml"))
    return [path.parent for path in found if read(path)[0]["kind"] == "Kustomization"]


def readme_documents(readme: Path) -> list[dict[str, Any]]:
    """Return the documents that a README shows."""
    blocks = _FENCE.findall(readme.read_text(encoding="utf-8"))
    return [document for block in blocks for document in parse(block)]


def unpacked(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a document and, of an OpenShift template, the objects inside."""
    yield document
    if document.get("kind") == "Template":
        yield from document["objects"]


def containers(node: object) -> Iterator[dict[str, Any]]:
    """Yield everything below a node that has an image, at whatever depth."""
    if isinstance(node, dict):
        if isinstance(node.get("image"), str):
            yield node
        for value in node.values():
            yield from containers(value)
    elif isinstance(node, list):
        for value in node:
            yield from containers(value)
