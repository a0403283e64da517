"""Sparse matrices: those in a file are checked, and so is each that is made afterwards.

Models make them of numbers of theirs: the places of words, of categories, of labels. scipy's
compiled code writes to such a place without a look at the shape, and scipy itself looks only when
it is told to. With what a file may say, there are too many ways to a wrong place to name them all;
so once a model came through the gate, scipy looks at each matrix that it makes in this process.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

import numpy as np

from bundleserver.frameworks.pickles.gate.models.checking import check, own_arrays, within
from bundleserver.frameworks.pickles.gate.refusal import Refused
from bundleserver.frameworks.pickles.gate.session import Session

_GUARDED = (("scipy.sparse._compressed", "_cs_matrix"), ("scipy.sparse._bsr", "_bsr_base"))


@functools.cache
def guard_sparse() -> None:
    """Let scipy compare the places of each sparse matrix that it makes with its shape.

    It takes as long as to read them once; matrices that are sound stay as they are.
    """
    for module, name in _GUARDED:
        kind: Any = getattr(import_module(module), name)
        if "check_format" in vars(kind):
            kind.check_format = _strict(kind.check_format)


def _strict(check_format: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(check_format)
    def strict(self: Any, full_check: bool = True) -> None:
        check_format(self, full_check)
        _check_places(self)

    return strict


def _check_places(matrix: Any) -> None:
    """Check what no compiled code does: pointers that rise, and places inside of the shape.

    Raises:
        ValueError: others.
    """
    pointers, places = matrix.indptr, matrix.indices
    if pointers.dtype.kind not in "iu" or places.dtype.kind not in "iu":
        raise ValueError("a sparse matrix has places that are no integers")
    if pointers[0] != 0 or pointers[-1] > len(places) or (pointers[1:] < pointers[:-1]).any():
        raise ValueError("a sparse matrix has pointers that do not rise to the number of values")
    if not len(places):
        return
    sizes = getattr(matrix, "_shape_as_2d", matrix.shape)
    is_of_blocks = matrix.format == "bsr"
    highest = sizes[1] // matrix.blocksize[1] if is_of_blocks else matrix._swap(sizes)[1]
    if places.min() < 0 or places.max() >= highest:
        raise ValueError("a sparse matrix has values outside of its shape")


def check_sparse(_session: Session, made: object) -> None:
    """Check that a sparse matrix has its values inside of its shape.

    Raises:
        Refused: it has others.
    """
    matrix: Any = made
    own_arrays(made)
    shape: Any = vars(made).get("_shape")
    is_shape = type(shape) is tuple and all(isinstance(size, (int, np.integer)) for size in shape)
    check(holds=is_shape and all(0 <= s < 1 << 62 for s in shape), what="sizes of a sparse matrix")
    try:
        if (form := matrix.format) in _OTHER_FORMATS:
            is_sound = _OTHER_FORMATS[form](matrix, shape)
            check(holds=is_sound, what="the values of a sparse matrix")
        else:
            guard_sparse()
            matrix.check_format(full_check=True)
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise Refused(f"a sparse matrix is not consistent: {error}") from error


def _is_list_sound(matrix: Any, shape: tuple[int, ...]) -> bool:
    rows, values = matrix.rows, matrix.data
    return (
        len(shape) == 2
        and all(type(part) is np.ndarray and part.shape == shape[:1] for part in (rows, values))
        and all(type(row) is list for row in (*rows, *values))
        and all(len(row) == len(of) for row, of in zip(rows, values, strict=True))
        and within([column for row in rows for column in row], 0, shape[1])
    )


def _is_coordinates_sound(matrix: Any, shape: tuple[int, ...]) -> bool:
    places = getattr(matrix, "coords", None) or (matrix.row, matrix.col)
    return len(places) == len(shape) and all(
        np.shape(of) == matrix.data.shape and within(of, 0, size)
        for of, size in zip(places, shape, strict=True)
    )


def _is_diagonal_sound(matrix: Any, shape: tuple[int, ...]) -> bool:
    offsets, values = matrix.offsets, matrix.data
    return bool(
        len(shape) == 2
        and values.ndim == 2
        and offsets.dtype.kind == "i"
        and offsets.shape == values.shape[:1]
        and len(np.unique(offsets)) == len(offsets)
    )


def _is_keyed_sound(matrix: Any, shape: tuple[int, ...]) -> bool:
    keys = [*cast("dict[Any, Any]", matrix._dict if hasattr(matrix, "_dict") else matrix).keys()]
    if len(shape) == 1:
        return within([key[0] if type(key) is tuple else key for key in keys], 0, shape[0])
    places = [*zip(*keys, strict=True)]
    return not keys or (
        len(places) == len(shape)
        and all(within(of, 0, size) for of, size in zip(places, shape, strict=True))
    )


_OTHER_FORMATS: dict[str, Callable[[Any, tuple[int, ...]], bool]] = {
    "coo": _is_coordinates_sound,
    "dia": _is_diagonal_sound,
    "dok": _is_keyed_sound,
    "lil": _is_list_sound,
}
