"""Widths of tensors: those of steps that do not chain, and those of an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path

from bundleserver.bundle.members import BundleMember, ModelMember
from bundleserver.documents.printable import shell_word
from bundleserver.errors import BundleError
from bundleserver.frameworks import Predictor
from bundleserver.manifest import Manifest, Step
from bundleserver.tensors import TensorSpec
from bundleserver.tensors.signature import Signature


def values_per_row(signature: Signature, predictors: Mapping[str, Predictor]) -> int:
    """Return how many values the outputs have for one row, or for one step of a forecast.

    Outputs of nested bundles are values too. A size that is not known is 1 here: what it was is
    counted when it comes.
    """
    own = sum(prod(max(size, 1) for size in (spec.shape or ())[1:]) for spec in signature.outputs)
    nested = (p.values_per_row for p in predictors.values() if isinstance(p, BundleMember))
    return own + sum(nested)


def has_open_widths(signature: Signature, predictors: Mapping[str, Predictor]) -> bool:
    """Ask whether an answer may have more values than ``values_per_row`` tells."""
    own = not signature.outputs or any(
        spec.shape is None or min(spec.shape[1:], default=1) < 0 for spec in signature.outputs
    )
    return own or any(
        isinstance(p, ModelMember) or (isinstance(p, BundleMember) and p.has_open_widths)
        for p in predictors.values()
    )


def check_widths(
    directory: Path,
    manifest: Manifest,
    steps: Sequence[Step],
    predictors: Mapping[str, Predictor],
) -> None:
    """Compare what each step returns with what the next one was fitted with.

    Args:
        directory: where the files are, for messages.
        manifest: the manifest, read or inferred.
        steps: the manifest's steps, or those that are made where it has none.
        predictors: the open components.

    Raises:
        BundleError: two widths differ; names both files and both widths.
    """
    made: dict[str, tuple[str, int]] = {}
    for step in steps:
        predictor = predictors.get(step.component or "")
        method = step.method or (next(iter(predictor.methods)) if predictor else "")
        if predictor is None or method not in predictor.methods:
            continue
        signature, file = predictor.methods[method], _file_of(step, manifest)
        if len(signature.inputs) == len(step.inputs):
            for name, spec in zip(step.inputs, signature.inputs, strict=True):
                width = _width(spec)
                if width is not None and name in made and made[name][1] != width:
                    raise BundleError(_problem(directory, manifest, made[name], (file, width)))
        for name, spec in zip(step.outputs, signature.outputs, strict=False):
            width = _width(spec)
            if width is not None:
                made[name] = (file, width)


def _file_of(step: Step, manifest: Manifest) -> str:
    component = manifest.components[step.component or ""]
    return component.path or component.name


def _width(spec: TensorSpec) -> int | None:
    """Return the length of a tensor's last axis; of rows of single values, and 0, it is unknown."""
    if spec.shape is None or len(spec.shape) < 2 or spec.shape[-1] < 1:
        return None
    return spec.shape[-1]


def _problem(
    directory: Path, manifest: Manifest, made: tuple[str, int], taken: tuple[str, int]
) -> str:
    said = f"'{made[0]}' returns {made[1]} columns, and '{taken[0]}' takes {taken[1]}"
    if not manifest.inferred:
        return f"{directory}: {said}; correct 'steps' in the manifest, or save the right files"
    return (
        f"{directory} holds files that cannot be combined: {said}; save those that were fitted "
        f"together, or create a manifest for one of them with: bundleserver init "
        f"{shell_word(directory)} --model {shell_word(taken[0])}"
    )
