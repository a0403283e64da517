"""Inputs that a graph is likely to take: its declared shapes, with sizes for what varies."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from bundleserver.frameworks.onnx.structure import Structure
from bundleserver.frameworks.onnx.value_types import Dimension
from bundleserver.frameworks.onnx.values import ModelInput
from bundleserver.tensors import NUMPY_DTYPES, Array, NamedTensor

_SIZES = (4, 1, 32, 224)
"""What a size that varies may be, beside the rows."""

_UNKNOWN_RANKS: tuple[tuple[Dimension, ...], ...] = ((None, 1), (None,), ())
_MOST_VALUES = 1 << 22
_MOST_FOLLOWED = 50
_PASSING = frozenset({"Identity", "Reshape", "Concat", "Flatten", "Cast", "Squeeze", "Unsqueeze"})
_WORDS: tuple[str | int, ...] = ("a", "b")


def samples_of(
    structure: Structure, inputs: Sequence[ModelInput], rows: int
) -> list[list[NamedTensor]]:
    """Return inputs for calls of so many rows, the most plausible first.

    Sizes of one name are equal; a fixed number of rows stays as it is.
    """
    found: list[list[NamedTensor]] = []
    ranks = _UNKNOWN_RANKS if any(each.shape is None for each in inputs) else ((),)
    is_open = has_open_sizes(inputs)
    for rank in ranks:
        for size in _SIZES if is_open else _SIZES[:1]:
            sizes: dict[str, int] = {}
            shapes = [
                _shape(structure.inputs[each.name].shape, rank, rows, size, sizes)
                for each in inputs
            ]
            if sum(map(prod, shapes)) > _MOST_VALUES:
                continue
            words = [_words_of(structure, each.name) for each in inputs]
            found.append(
                [
                    NamedTensor(each.name, _values(each.datatype, shape, known))
                    for each, shape, known in zip(inputs, shapes, words, strict=True)
                ]
            )
    return found


def has_open_sizes(inputs: Sequence[ModelInput]) -> bool:
    """Ask whether a size beside the rows, or a rank, is not known."""
    return any(each.shape is None or -1 in each.shape[1:] for each in inputs)


def _shape(
    declared: tuple[Dimension, ...] | None,
    rank: tuple[Dimension, ...],
    rows: int,
    size: int,
    sizes: dict[str, int],
) -> tuple[int, ...]:
    """Give each axis a size; ``sizes`` has those of names that came before."""
    shape: list[int] = []
    for place, each in enumerate(rank if declared is None else declared):
        free = size if place else rows
        shape.append(sizes.setdefault(each, free) if isinstance(each, str) else each or free)
    return tuple(shape)


def _values(datatype: str, shape: tuple[int, ...], words: Sequence[str | int]) -> Array:
    dtype, rng = NUMPY_DTYPES[datatype], np.random.default_rng(len(shape))
    if datatype == "BYTES":
        texts = [str(words[i % len(words)]) for i in range(prod(shape))]
        return np.array(texts, dtype=object).reshape(shape)
    if dtype.kind == "f":
        return np.asarray(rng.normal(size=shape), dtype)
    return np.asarray(rng.integers(0, 2, size=shape), dtype)


def _words_of(structure: Structure, name: str) -> tuple[str | int, ...]:
    """Return the categories that the first operator compares an input with."""
    names = {name}
    for node in structure.nodes[:_MOST_FOLLOWED]:
        if names.isdisjoint(node.inputs):
            continue
        if any(isinstance(label, str) for label in node.labels):
            return node.labels
        if node.operator in _PASSING:
            names.update(node.outputs)
    return _WORDS
