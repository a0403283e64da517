"""What a directory from a registry is: a bundle, or a native MLflow model and its manifest.

A flavour is mapped to a component of ours where that opens the same file in the same way. All else
goes through ``mlflow.pyfunc``, and so does every model that brings code of its own, since only
there that code is kept apart from other versions'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from packaging.requirements import InvalidRequirement, Requirement

from bundleserver.bundle import opening
from bundleserver.bundle.integrity import file_sha256
from bundleserver.errors import BundleError, FrameworkError
from bundleserver.frameworks import frameworks
from bundleserver.manifest import MANIFEST_NAME, Component, Manifest, Requirements

MLMODEL = "MLmodel"
PYFUNC = "pyfunc"

_PYTHON_FUNCTION = "python_function"
_COMPONENT = "model"
_PATHS = frozenset({"pickled_model", "data", "model_data"})
"""Where flavours name their file or directory."""
# What opens a model here is this server's own; it need not be what logged it.
_NOT_REQUIRED = ("mlflow", "mlflow-skinny")


def manifest_of(directory: Path, name: str) -> Manifest:
    """Say what a registered version is.

    Args:
        directory: its artifacts.
        name: the model's name, which an inferred manifest gets.

    Raises:
        ManifestError, IntegrityError: its manifest cannot be used.
        FrameworkError: nothing here opens its flavours.
        BundleError: it is neither a bundle nor a model of MLflow's.
    """
    path = directory / MLMODEL
    if (directory / MANIFEST_NAME).exists() or not path.is_file():
        return opening.manifest_of(directory, name)
    mlmodel = _read(path)
    component = _component(directory, mlmodel, path)
    file = directory / (component.path or "")
    if not file.is_file():
        raise BundleError(f"'{path}' names '{component.path}', which is not among the artifacts")
    measured = replace(component, sha256=file_sha256(file), size=file.stat().st_size)
    return Manifest(
        name=name,
        components={_COMPONENT: measured},
        requirements=_requirements(directory, mlmodel),
        metadata=_metadata(mlmodel),
        inferred=True,
    )


def _read(path: Path) -> Mapping[str, object]:
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        first = str(error).partition("\n")[0]
        raise BundleError(f"'{path}' cannot be read: {first}") from error
    if not isinstance(document, dict) or not isinstance(document.get("flavors"), dict):
        raise BundleError(f"'{path}' has no 'flavors'; expected what MLflow writes")
    return document


def _component(directory: Path, mlmodel: Mapping[str, object], path: Path) -> Component:
    flavours = _flavours(mlmodel)
    brings_code = any(flavour.get("code") for flavour in flavours.values())
    for framework in frameworks().values():
        flavour = framework.flavour
        if flavour is None or flavour.name not in flavours or brings_code:
            continue
        said = flavours[flavour.name]
        for key in _PATHS & said.keys():
            _check_inside(str(said[key]), path)
        file = flavour.file_of(directory, said)
        if file is not None:
            _check_inside(file, path)
            return Component(_COMPONENT, framework.name, path=file)
    if _PYTHON_FUNCTION in flavours:
        return Component(_COMPONENT, PYFUNC, path=MLMODEL)
    listed = ", ".join(f"'{name}'" for name in sorted(flavours)) or "none"
    raise FrameworkError(
        f"'{path}' has the flavours {listed}, which nothing here opens; log the model with a "
        f"flavour that has '{_PYTHON_FUNCTION}' too, which the extra of MLflow opens: pip install "
        "'bundleserver[mlflow]'"
    )


def _flavours(mlmodel: Mapping[str, object]) -> dict[str, Mapping[str, object]]:
    flavours = mlmodel.get("flavors")
    entries = flavours.items() if isinstance(flavours, dict) else ()
    return {str(name): entry for name, entry in entries if isinstance(entry, dict)}


def _check_inside(path: str, mlmodel: Path) -> None:
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "\\" in path:
        raise BundleError(f"'{mlmodel}' names the file '{path}', which is not among the artifacts")


def _metadata(mlmodel: Mapping[str, object]) -> dict[str, object]:
    known = {
        "trained_at": str(mlmodel.get("utc_time_created") or "").replace(" ", "T")[:19],
        "mlflow_version": mlmodel.get("mlflow_version"),
        "flavours": sorted(_flavours(mlmodel)),
    }
    if known["trained_at"]:
        known["trained_at"] = f"{known['trained_at']}Z"
    return {key: value for key, value in known.items() if value}


def _requirements(directory: Path, mlmodel: Mapping[str, object]) -> Requirements:
    python = _flavours(mlmodel).get(_PYTHON_FUNCTION, {}).get("python_version")
    minor = ".".join(str(python).split(".")[:2]) if python else None
    packages: dict[str, str] = {}
    try:
        lines = (directory / "requirements.txt").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return Requirements(minor, packages)
    for line in lines:
        try:
            requirement = Requirement(line.partition("#")[0].strip())
        except InvalidRequirement:
            continue  # options, URLs and blank lines pin no version
        pins = [spec.version for spec in requirement.specifier if spec.operator == "=="]
        if len(pins) == 1 and requirement.name not in _NOT_REQUIRED:
            packages[requirement.name] = pins[0]
    return Requirements(minor, packages)
