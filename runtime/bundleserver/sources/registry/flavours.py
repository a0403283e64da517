"""The manifest of a directory from a registry: a bundle's own, or that of a native MLflow model.

A flavour is mapped to a component of ours where that loads the same file in the same way, and
enforces the columns of the model's signature as MLflow does. All others use ``mlflow.pyfunc``, and
so does every model with code of its own, since only there it is isolated from other versions' code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path, PurePosixPath

from packaging.requirements import InvalidRequirement, Requirement

from bundleserver.bundle import opening
from bundleserver.bundle.integrity import file_sha256
from bundleserver.bundle.metadata_files import count_values, read_metadata
from bundleserver.documents.bounded_yaml import MOST_VALUES, parse_yaml
from bundleserver.errors import BundleError, FrameworkError
from bundleserver.frameworks import Framework, frameworks
from bundleserver.frameworks.flavour import LoggedColumn
from bundleserver.manifest import (
    MANIFEST_NAME,
    Component,
    Manifest,
    Requirements,
    is_model_name,
)
from bundleserver.manifest.paths import is_short_path

MLMODEL = "MLmodel"
PYFUNC = "pyfunc"

_PYTHON_FUNCTION = "python_function"
_COMPONENT = "model"
_PATHS = frozenset({"pickled_model", "data", "model_data"})
"""Where flavours name their file or directory."""
_MOST_REQUIREMENTS = 5_000
_LONGEST_REQUIREMENT = 1_000
_LONGEST_FACT = 100
# The server's own version loads a model; it may differ from the version that logged it.
_NOT_REQUIRED = ("mlflow", "mlflow-skinny")


def manifest_of(directory: Path, name: str) -> Manifest:
    """Return the manifest of a registered version.

    Args:
        directory: its artifacts.
        name: the model's name, for an inferred manifest.

    Raises:
        ManifestError, IntegrityError: its manifest is invalid.
        FrameworkError: none of its flavours is supported.
        BundleError: it is neither a bundle nor an MLflow model.
    """
    path = directory / MLMODEL
    if (directory / MANIFEST_NAME).exists() or not path.is_file():
        return opening.manifest_of(directory, name)
    mlmodel = _read(path)
    component = _component(directory, mlmodel, path)
    file = directory / (component.path or "")
    if not file.is_file():
        raise BundleError(f"'{path}' refers to '{component.path}', which is not an artifact")
    measured = replace(component, sha256=file_sha256(file), size=file.stat().st_size)
    return Manifest(
        # A registered name may have characters that a manifest's may not.
        name=name if is_model_name(name) else None,
        components={_COMPONENT: measured},
        requirements=_requirements(directory, mlmodel),
        metadata=_metadata(mlmodel),
        inferred=True,
    )


def _read(path: Path) -> Mapping[str, object]:
    try:
        document = parse_yaml(read_metadata(path).decode())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BundleError(f"'{path}' cannot be read: {reason}") from error
    if not isinstance(document, dict) or not isinstance(document.get("flavors"), dict):
        raise BundleError(f"'{path}' has no 'flavors'; expected a file written by MLflow")
    return document


def _component(directory: Path, mlmodel: Mapping[str, object], path: Path) -> Component:
    flavours = _flavours(mlmodel)
    for framework in () if _needs_mlflow(flavours) else frameworks().values():
        native = _native(directory, mlmodel, path, framework)
        if native is not None:
            return native
    if _PYTHON_FUNCTION in flavours:
        return Component(_COMPONENT, PYFUNC, path=MLMODEL)
    listed = ", ".join(f"'{name}'" for name in sorted(flavours)) or "none"
    raise FrameworkError(
        f"'{path}' has only unsupported flavours: {listed}; log the model with a flavour that "
        f"includes '{_PYTHON_FUNCTION}', which requires: pip install 'bundleserver[mlflow]'"
    )


def _needs_mlflow(flavours: Mapping[str, Mapping[str, object]]) -> bool:
    """Ask whether a model has code of its own, or another method than ``predict`` was logged."""
    brings_code = any(flavour.get("code") for flavour in flavours.values())
    return (
        brings_code or flavours.get(_PYTHON_FUNCTION, {}).get("predict_fn", "predict") != "predict"
    )


def _native(
    directory: Path, mlmodel: Mapping[str, object], path: Path, framework: Framework
) -> Component | None:
    """Return a framework's component for a model; None: it opens no such model as MLflow does."""
    flavour, flavours = framework.flavour, _flavours(mlmodel)
    if flavour is None or flavour.name not in flavours:
        return None
    said = flavours[flavour.name]
    for key in _PATHS & said.keys():
        _check_inside(str(said[key]), path)
    file = flavour.file_of(directory, said)
    if file is None:
        return None
    _check_inside(file, path)
    if not (directory / file).is_file():
        raise BundleError(f"'{path}' refers to '{file}', which is not an artifact")
    options = flavour.options_of(directory / file, _columns(mlmodel))
    if options is None and _PYTHON_FUNCTION in flavours:
        return None
    return Component(_COMPONENT, framework.name, path=file, options=options or {})


def _columns(mlmodel: Mapping[str, object]) -> Sequence[LoggedColumn]:
    """Return the input columns of a model's signature; none if its inputs are tensors."""
    signature = mlmodel.get("signature")
    inputs = signature.get("inputs") if isinstance(signature, dict) else None
    try:
        text = inputs if isinstance(inputs, str) else "[]"
        count_values(text.encode("utf-8", "replace"), MOST_VALUES)
        entries = json.loads(text)
    except (ValueError, RecursionError):
        return ()  # MLflow refuses it, if it is asked
    if not isinstance(entries, list):
        return ()
    return tuple(
        LoggedColumn(
            str(entry.get("name") or ""),
            str(entry.get("type", "")),
            entry.get("required", not entry.get("optional", False)) is True,
        )
        for entry in entries
        if isinstance(entry, dict) and entry.get("type") != "tensor"
    )


def _flavours(mlmodel: Mapping[str, object]) -> dict[str, Mapping[str, object]]:
    flavours = mlmodel.get("flavors")
    entries = flavours.items() if isinstance(flavours, dict) else ()
    return {str(name): entry for name, entry in entries if isinstance(entry, dict)}


def _check_inside(path: str, mlmodel: Path) -> None:
    pure = PurePosixPath(path)
    escapes = not path or pure.is_absolute() or ".." in pure.parts or "\\" in path
    if escapes or "\0" in path or not is_short_path(path):
        raise BundleError(f"'{mlmodel}' refers to the file '{path}', which is not an artifact")


def _metadata(mlmodel: Mapping[str, object]) -> dict[str, object]:
    known = {
        "trained_at": _text(mlmodel.get("utc_time_created")).replace(" ", "T")[:19],
        "mlflow_version": _text(mlmodel.get("mlflow_version"))[:_LONGEST_FACT],
        "flavours": sorted(_flavours(mlmodel)),
    }
    if known["trained_at"]:
        known["trained_at"] = f"{known['trained_at']}Z"
    return {key: value for key, value in known.items() if value}


def _text(value: object) -> str:
    """Return a fact of one value; YAML may have anything in its place."""
    return str(value) if isinstance(value, (str, int, float, date)) else ""


def _requirements(directory: Path, mlmodel: Mapping[str, object]) -> Requirements:
    python = _flavours(mlmodel).get(_PYTHON_FUNCTION, {}).get("python_version")
    minor = ".".join(_text(python)[:_LONGEST_FACT].split(".")[:2]) or None
    packages: dict[str, str] = {}
    try:
        lines = read_metadata(directory / "requirements.txt").decode().splitlines()
    except (OSError, UnicodeDecodeError):
        return Requirements(minor, packages)
    for line in lines[:_MOST_REQUIREMENTS]:
        if len(line) > _LONGEST_REQUIREMENT:
            continue
        try:
            requirement = Requirement(line.partition("#")[0].strip())
        except InvalidRequirement:
            continue  # options, URLs and blank lines pin no version
        pins = [spec.version for spec in requirement.specifier if spec.operator == "=="]
        if len(pins) == 1 and requirement.name not in _NOT_REQUIRED:
            packages[requirement.name] = pins[0]
    return Requirements(minor, packages)


def with_facts(manifest: Manifest, facts: Mapping[str, object]) -> Manifest:
    """Return a manifest with the registry's facts in its metadata, under ``registry``."""
    known = {key: value for key, value in facts.items() if value not in (None, "", {})}
    metadata = {**manifest.metadata, "registry": known}
    if "metrics" not in metadata and known.get("metrics"):
        metadata["metrics"] = known["metrics"]
    return replace(manifest, metadata=metadata)
