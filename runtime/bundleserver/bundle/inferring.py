"""Directories without a manifest: what their files are, and the manifest that follows from that.

The rules are those of ADR-031's directories as they lie on disk. The frameworks say whose a file is
(by its suffix and content; nothing is unpickled); files pair by stem and role suffix, as
``lstm_autoencoder.pt`` and ``lstm_scaler.pkl`` do.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundleserver.errors import BundleError
from bundleserver.frameworks import framework_of_file, model_suffixes
from bundleserver.manifest import Component, Manifest, Step
from bundleserver.tensors.signature import DEFAULT_INPUT, DEFAULT_OUTPUT

_TRANSFORMING = ("preprocessor", "encoder", "scaler")
"""Roles that come before a model, in the order in which they run."""

_ROLE = re.compile(
    r"(?:(?P<stem>.+)[_-])?(?P<role>model|autoencoder|config|preprocessor|encoder|scaler)"
)


@dataclass(frozen=True)
class _ModelFile:
    """A file that holds a model: whose it is (``stem``), what it does (``role``), who opens it."""

    name: str
    stem: str
    role: str
    framework: str

    @property
    def transforms(self) -> bool:
        return self.role in _TRANSFORMING


def infer_manifest(directory: Path, name: str, only: Collection[str] = ()) -> Manifest:
    """Infer the manifest of a directory without one.

    Args:
        directory: where the files are; its sub-directories are ignored.
        name: the model's name, which goes into the manifest.
        only: names of the files to use; all if empty.

    Raises:
        BundleError: there is no model file, or the files cannot be combined.
    """
    files = _model_files(directory, only)
    models = [file for file in files if not file.transforms]
    if len(models) > 1:
        raise BundleError(_no_rule(directory, models))
    if not models:
        if len(files) > 1:
            raise BundleError(_no_rule(directory, files))
        return _manifest(name, files[0], ())
    model = models[0]
    chain = [file for file in files if file.transforms]
    strangers = [file for file in chain if file.stem and model.stem and file.stem != model.stem]
    if strangers:
        raise BundleError(_no_rule(directory, [model, *strangers]))
    return _manifest(name, model, chain)


def _manifest(name: str, model: _ModelFile, chain: Sequence[_ModelFile]) -> Manifest:
    names = _component_names((*chain, model))
    components = {
        names[file.name]: Component(names[file.name], file.framework, path=file.name)
        for file in (*chain, model)
    }
    steps: list[Step] = []
    tensor = DEFAULT_INPUT
    for file in chain:
        made = f"{names[file.name]}-output"
        steps.append(_call(names[file.name], "transform", tensor, made))
        tensor = made
    if model.role == "autoencoder":
        steps.append(_call(names[model.name], "predict", tensor, "reconstruction"))
        error = Step(
            op="reconstruction_error", inputs=(tensor, "reconstruction"), outputs=("error",)
        )
        steps.append(error)
    elif chain:
        steps.append(_call(names[model.name], "predict", tensor, DEFAULT_OUTPUT))
    return Manifest(name=name, components=components, steps=tuple(steps), inferred=True)


def _call(component: str, method: str, taken: str, made: str) -> Step:
    return Step(component=component, method=method, inputs=(taken,), outputs=(made,))


def _component_names(files: Sequence[_ModelFile]) -> dict[str, str]:
    """Name each component after its role, or after its file where roles repeat."""
    roles = [file.role for file in files]
    return {
        file.name: file.role
        if roles.count(file.role) == 1
        else re.sub(r"[^A-Za-z0-9_-]", "_", Path(file.name).stem)
        for file in files
    }


def _model_files(directory: Path, only: Collection[str]) -> list[_ModelFile]:
    """Find the files that hold models, transformers first and in the order in which they run."""
    try:
        present = sorted(
            entry.name
            for entry in directory.iterdir()
            if not entry.name.startswith((".", "_")) and not entry.is_dir()
        )
    except OSError as error:
        raise BundleError(f"{directory} cannot be listed: {error.strerror or error}") from error
    missing = [name for name in only if name not in present]
    if missing:
        raise BundleError(f"{directory} has no file '{missing[0]}'; it has: {_listed(present)}")
    chosen = [name for name in present if not only or name in only]
    files = [file for name in chosen if (file := _model_file(directory / name)) is not None]
    if not files:
        found = f"holds only {_listed(chosen)}" if chosen else "is empty"
        raise BundleError(
            f"{directory} {found}; expected manifest.json, or a model file "
            f"({', '.join('*' + suffix for suffix in sorted(model_suffixes()))})"
        )
    order = {role: index for index, role in enumerate(_TRANSFORMING)}
    return sorted(files, key=lambda file: (order.get(file.role, len(order)), file.name))


def _model_file(path: Path) -> _ModelFile | None:
    if path.suffix.lower() not in model_suffixes():
        return None
    if not path.is_file():
        # Without this a scaler could be left out silently.
        raise BundleError(
            f"'{path}' is a broken link or not a regular file; put the file itself there"
        )
    found = framework_of_file(path)
    if found is None:
        return None
    framework, content = found
    match = _ROLE.fullmatch(path.stem.lower())
    stem, role = (match["stem"] or "", match["role"]) if match else (path.stem.lower(), content)
    return _ModelFile(path.name, stem, role, framework)


def _no_rule(directory: Path, files: Sequence[_ModelFile]) -> str:
    names = [file.name for file in files]
    return (
        f"{directory} holds {len(files)} models, {_listed(names)}, which cannot be combined; keep "
        f"each in a directory of its own, or create a manifest for one of them with: "
        f"bundleserver init {directory} --model {names[0]}"
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:10])
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown or "nothing"
