"""The manifest of an MLflow model: a directory whose ``MLmodel`` says what its files are.

A flavour is mapped to a component of ours where that loads the same file in the same way, and
enforces the columns of the model's signature as MLflow does. All others use ``mlflow.pyfunc``, and
so does every model with code of its own, since only there it is isolated from other versions' code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from bundleserver.bundle.inferring.mlmodel_files import (
    MLMODEL,
    PATHS,
    PYTHON_FUNCTION,
    are_missing,
    flavours_of,
    is_inside,
    missing_files,
    read_mlmodel,
)
from bundleserver.bundle.metadata_files import count_values, read_metadata
from bundleserver.documents.bounded_yaml import MOST_VALUES
from bundleserver.errors import BundleError, FrameworkError
from bundleserver.frameworks import Framework, frameworks
from bundleserver.frameworks.flavour import LoggedColumn
from bundleserver.manifest import (
    Component,
    Manifest,
    Requirements,
    is_model_name,
)
from bundleserver.manifest.packages import is_version

PYFUNC = "pyfunc"

_COMPONENT = "model"
_MOST_REQUIREMENTS = 5_000
_LONGEST_REQUIREMENT = 1_000
_LONGEST_FACT = 100
# The server's own version loads a model; it may differ from the version that logged it.
_NOT_REQUIRED = ("mlflow", "mlflow-skinny")


def manifest_of_mlflow(directory: Path, name: str) -> Manifest:
    """Return the manifest of an MLflow model.

    Args:
        directory: where its ``MLmodel`` is.
        name: the model's; one that a manifest cannot have is left out.

    Raises:
        FrameworkError: none of its flavours is supported.
        BundleError: its ``MLmodel`` is not valid, or refers to files that are not there.
    """
    path = directory / MLMODEL
    mlmodel = read_mlmodel(path)
    component = _component(directory, mlmodel, path)
    missing = missing_files(directory) if component.framework == PYFUNC else ()
    if missing:
        raise BundleError(are_missing(path, missing))
    return Manifest(
        # A registered name may have characters that a manifest's may not.
        name=name if is_model_name(name) else None,
        components={_COMPONENT: component},
        requirements=_requirements(directory, mlmodel),
        metadata=_metadata(mlmodel),
        inferred=True,
    )


def _component(directory: Path, mlmodel: Mapping[str, object], path: Path) -> Component:
    flavours = flavours_of(mlmodel)
    for framework in () if _needs_mlflow(flavours) else frameworks().values():
        native = _native(directory, mlmodel, path, framework)
        if native is not None:
            return native
    if PYTHON_FUNCTION in flavours:
        return Component(_COMPONENT, PYFUNC, path=MLMODEL)
    listed = ", ".join(f"'{name}'" for name in sorted(flavours)) or "none"
    raise FrameworkError(
        f"'{path}' has only unsupported flavours: {listed}; log the model with a flavour that "
        f"includes '{PYTHON_FUNCTION}', which requires: pip install 'bundleserver[mlflow]'"
    )


def _needs_mlflow(flavours: Mapping[str, Mapping[str, object]]) -> bool:
    """Ask whether a model has code of its own, or another method than ``predict`` was logged."""
    brings_code = any(flavour.get("code") for flavour in flavours.values())
    return (
        brings_code or flavours.get(PYTHON_FUNCTION, {}).get("predict_fn", "predict") != "predict"
    )


def _native(
    directory: Path, mlmodel: Mapping[str, object], path: Path, framework: Framework
) -> Component | None:
    """Return a framework's component for a model; None: it opens no such model as MLflow does."""
    flavour, flavours = framework.flavour, flavours_of(mlmodel)
    name = next((n for n in flavour.names if n in flavours), None) if flavour else None
    if flavour is None or name is None:
        return None
    said = flavours[name]
    for key in PATHS & said.keys():
        _check_inside(str(said[key]), path)
    file = flavour.file_of(directory, said)
    if file is None:
        return None
    _check_inside(file, path)
    if not (directory / file).is_file():
        raise BundleError(are_missing(path, [file]))
    options = flavour.options_of(directory / file, _columns(mlmodel, path))
    if options is None and PYTHON_FUNCTION in flavours:
        return None
    return Component(_COMPONENT, framework.name, path=file, options=options or {})


def _columns(mlmodel: Mapping[str, object], path: Path) -> Sequence[LoggedColumn]:
    """Return the input columns of a model's signature; none if its inputs are tensors.

    Raises:
        BundleError: MLflow could not read the signature.
    """
    signature = mlmodel.get("signature") or {}
    if not isinstance(signature, dict):
        raise _unreadable(path, "is not an object")
    entries, _, _ = (_entries(signature, key, path) for key in ("inputs", "outputs", "params"))
    return tuple(
        LoggedColumn(
            str(entry.get("name") or ""),
            str(entry.get("type", "")),
            entry.get("required", not entry.get("optional", False)) is True,
        )
        for entry in entries
        if entry.get("type") != "tensor"
    )


def _entries(
    signature: Mapping[str, object], key: str, path: Path
) -> Sequence[Mapping[str, object]]:
    """Return what a signature lists under a key, as JSON within the YAML."""
    text = signature.get(key) or "[]"
    if not isinstance(text, str):
        raise _unreadable(path, f"has no text under '{key}'")
    try:
        count_values(text.encode("utf-8", "replace"), MOST_VALUES)
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, f"has no JSON under '{key}'") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _unreadable(path, f"has no array of objects under '{key}'")
    return entries


def _unreadable(path: Path, why: str) -> BundleError:
    return BundleError(
        f"'{path}' has a signature that MLflow cannot read: it {why}; log the model again"
    )


def _check_inside(path: str, mlmodel: Path) -> None:
    if not is_inside(path):
        raise BundleError(f"'{mlmodel}' refers to '{path[:200]}', which is not in its directory")


def _metadata(mlmodel: Mapping[str, object]) -> dict[str, object]:
    known = {
        "trained_at": _text(mlmodel.get("utc_time_created")).replace(" ", "T")[:19],
        "mlflow_version": _text(mlmodel.get("mlflow_version"))[:_LONGEST_FACT],
        "flavours": sorted(flavours_of(mlmodel)),
    }
    if known["trained_at"]:
        known["trained_at"] = f"{known['trained_at']}Z"
    return {key: value for key, value in known.items() if value}


def _text(value: object) -> str:
    """Return a fact of one value; YAML may have anything in its place."""
    return str(value) if isinstance(value, (str, int, float, date)) else ""


def _requirements(directory: Path, mlmodel: Mapping[str, object]) -> Requirements:
    python = flavours_of(mlmodel).get(PYTHON_FUNCTION, {}).get("python_version")
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
        # One is a version, or the beginning of several: 1.*
        is_pinned = len(pins) == 1 and is_version(pins[0])
        if is_pinned and requirement.name not in _NOT_REQUIRED:
            packages[requirement.name] = pins[0]
    return Requirements(minor, packages)
