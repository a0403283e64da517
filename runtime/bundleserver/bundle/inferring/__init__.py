"""Directories without a manifest: what their files are, and the manifest that follows from that.

An ``MLmodel`` says what a directory is. Else the rules are those of ADR-031's directories as they
lie on disk: files pair by stem and role, as ``lstm_autoencoder.pt`` and ``lstm_scaler.pkl`` do.
What is inferred is never a guess about numbers: a chain that is only probable is refused, and
``bundleserver init`` writes it to be checked.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundleserver.bundle.inferring.chains import Chain, probable_chain, problem_with_widths
from bundleserver.bundle.inferring.mlmodel import manifest_of_mlflow
from bundleserver.bundle.inferring.mlmodel_files import is_mlflow_model
from bundleserver.bundle.inferring.model_files import ModelFile, find_files, joined, listed
from bundleserver.documents.printable import shell_word
from bundleserver.errors import BundleError
from bundleserver.frameworks.file_names import stem_of
from bundleserver.manifest import Component, Manifest, Step
from bundleserver.tensors.signature import DEFAULT_INPUT, DEFAULT_OUTPUT

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProbableManifest:
    """The most probable manifest of a directory, and what was guessed in it."""

    manifest: Manifest
    guesses: tuple[str, ...]


def infer_manifest(directory: Path, name: str, only: Collection[str] = ()) -> Manifest:
    """Infer the manifest of a directory without one.

    Args:
        directory: where the files are; its sub-directories are ignored.
        name: the model's name, which goes into the manifest.
        only: names of the files to use; all if empty.

    Raises:
        BundleError: there is no model file, or how the files are combined is not certain.
        FrameworkError: it is an MLflow model of flavours that nothing opens.
    """
    if not only and is_mlflow_model(directory):
        return manifest_of_mlflow(directory, name)
    found = find_files(directory, only)
    chain = _chain(directory, found.files)
    if chain.doubts:
        raise BundleError(
            f"{_combination(directory, found.files)}: {'; '.join(chain.doubts)}; write the most "
            f"probable manifest, to be checked, with: bundleserver init "
            f"{shell_word(directory)}"
        )
    for file, what in found.ignored.items():
        LOG.info("%s: ignored '%s' (%s)", name, file, what)
    return _manifest(name, chain)


def probable_manifest(directory: Path, name: str, only: Collection[str] = ()) -> ProbableManifest:
    """Return a directory's most probable manifest, to be checked by whoever trained the model.

    Raises:
        BundleError: there is no model file, several models, or no order in which widths chain.
        FrameworkError: it is an MLflow model of flavours that nothing opens.
    """
    if not only and is_mlflow_model(directory):
        return ProbableManifest(manifest_of_mlflow(directory, name), ())
    chain = _chain(directory, find_files(directory, only).files)
    return ProbableManifest(_manifest(name, chain), chain.doubts)


def ignored_files(directory: Path) -> Mapping[str, str]:
    """Return the files of a directory that look like models and hold plain data, with what it is.

    Raises:
        BundleError: the directory or a file cannot be read, or there is no model file.
    """
    return {} if is_mlflow_model(directory) else find_files(directory).ignored


def _chain(directory: Path, files: Sequence[ModelFile]) -> Chain:
    models = [file for file in files if file.predicts]
    if len(models) > 1:
        raise BundleError(_no_rule(directory, models))
    others = [file for file in files if not file.predicts]
    if not models and len(files) > 1:
        raise BundleError(_no_rule(directory, files))
    if not models:
        return _alone(directory, files[0])
    chain = probable_chain(models[0], others)
    if chain is None:
        raise BundleError(
            f"{_combination(directory, files)}: {problem_with_widths(models[0], others)}; save "
            "those that were fitted together, or create a manifest for one of them with: "
            f"bundleserver init {shell_word(directory)} --model {shell_word(models[0].name)}"
        )
    return chain


def _alone(directory: Path, file: ModelFile) -> Chain:
    if not file.is_of_target:
        return Chain((), file)
    raise BundleError(
        f"{directory} holds only {file.description}, which transforms a model's target; put the "
        "model beside it"
    )


def _combination(directory: Path, files: Sequence[ModelFile]) -> str:
    described = joined([file.description for file in files])
    return f"{directory} holds {described}, which cannot be combined without a manifest"


def _no_rule(directory: Path, files: Sequence[ModelFile]) -> str:
    if any(file.predicts for file in files):
        which = f"models, {listed([file.name for file in files])}"
    else:
        which = f"transformers and no model, {joined([file.description for file in files])}"
    return (
        f"{directory} holds {len(files)} {which}, which cannot be combined; keep each in a "
        f"directory of its own, or create a manifest for one of them with: "
        f"bundleserver init {shell_word(directory)} --model {shell_word(files[0].name)}"
    )


def _manifest(name: str, chain: Chain) -> Manifest:
    names = _component_names(chain.files)
    components = {
        names[file.name]: Component(names[file.name], file.framework, path=file.name)
        for file in chain.files
    }
    steps: list[Step] = []
    tensor = DEFAULT_INPUT
    for file in chain.transformers:
        made = f"{names[file.name]}-output"
        steps.append(_call(names[file.name], "transform", tensor, made))
        tensor = made
    steps += _prediction(names[chain.model.name], chain, tensor)
    if chain.back is not None:
        back = names[chain.back.name]
        steps.append(_call(back, "inverse_transform", "prediction", DEFAULT_OUTPUT))
    return Manifest(name=name, components=components, steps=tuple(steps), inferred=True)


def _prediction(component: str, chain: Chain, tensor: str) -> list[Step]:
    if chain.model.role == "autoencoder":
        error = Step(
            op="reconstruction_error", inputs=(tensor, "reconstruction"), outputs=("error",)
        )
        return [_call(component, "predict", tensor, "reconstruction"), error]
    if chain.back is not None:
        return [_call(component, "predict", tensor, "prediction")]
    if chain.transformers:
        return [_call(component, "predict", tensor, DEFAULT_OUTPUT)]
    return []  # what the model's default method is


def _call(component: str, method: str, taken: str, made: str) -> Step:
    return Step(component=component, method=method, inputs=(taken,), outputs=(made,))


def _component_names(files: Sequence[ModelFile]) -> dict[str, str]:
    """Name components after their roles, or after their files where roles repeat."""
    for names in ([file.role for file in files], [stem_of(file.name) for file in files]):
        if len(set(names)) == len(files):
            break
    else:
        names = [file.name for file in files]
    valid = (re.sub(r"[^A-Za-z0-9_-]", "_", name) for name in names)
    return dict(zip((file.name for file in files), valid, strict=True))
