"""Random rows on which an implementation is compared with the library's, and the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

CHECKED_ROWS = 256
"""The number of random rows that every method is compared on."""

FloatArray = npt.NDArray[np.float64]


class Splits(Protocol):
    """The nodes of one tree as arrays: ``left`` is -1 at a leaf."""

    @property
    def left(self) -> npt.NDArray[Any]:
        """The left child of each node."""

    @property
    def feature(self) -> npt.NDArray[Any]:
        """The column that each node reads."""

    @property
    def threshold(self) -> npt.NDArray[Any]:
        """What the column is compared with."""


def same_bits(one: Any, other: Any) -> bool:
    """Ask whether two results are equal in class, datatype, shape and every bit."""
    if type(one) is not type(other) or (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    if one.dtype.kind == "O":
        return bool(np.array_equal(one, other))
    return bool(one.tobytes() == other.tobytes())


def draw_rows(trees: Sequence[Splits], width: int, count: int = CHECKED_ROWS) -> FloatArray:
    """Return random rows on the trees' thresholds, a last bit beside them, and far away.

    Half of the values are from the roots, which decide about every row.
    """
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(count, width))
    inner = [tree.left != -1 for tree in trees]
    roots = [tree.left[:1] != -1 for tree in trees]
    for chosen, share in ((inner, 1.0), (roots, 0.5)):
        feature, threshold = _decisions(trees, chosen)
        for column in range(width):
            # Trees that were fitted with missing values have infinite thresholds too.
            if len(known := threshold[(feature == column) & np.isfinite(threshold)]):
                hit = generator.random(count) < share
                rows[hit, column] = generator.choice(known, size=int(hit.sum()))
    return _beside(rows, generator)


def _decisions(
    trees: Sequence[Splits], chosen: Sequence[npt.NDArray[Any]]
) -> tuple[npt.NDArray[Any], FloatArray]:
    pairs = list(zip(trees, chosen, strict=True))
    feature = np.concatenate([tree.feature[: len(mask)][mask] for tree, mask in pairs])
    return feature, np.concatenate([tree.threshold[: len(mask)][mask] for tree, mask in pairs])


def _beside(rows: FloatArray, generator: np.random.Generator) -> FloatArray:
    single = rows.astype(np.float32)
    spread = rows.std(axis=0)
    variants = [
        rows,
        single,
        np.nextafter(single, np.float32(np.inf)),
        np.nextafter(single, np.float32(-np.inf)),
        np.nextafter(rows, np.inf),
        np.nextafter(rows, -np.inf),
        rows + spread * generator.normal(size=rows.shape),
        np.broadcast_to(generator.choice([0.0, -0.0, 1e-40, 3e38, -3e38], rows.shape), rows.shape),
    ]
    which = generator.integers(len(variants), size=rows.shape)
    drawn: FloatArray = np.choose(which, variants).astype(np.float64)
    return np.where(np.abs(drawn) < 3.1e38, drawn, 0.0)  # the range of float32
