"""The rows of a large V1 request: numbers that are an array already."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import cast, overload

import numpy as np

from bundleserver.serving.codecs.json_pieces import NotPlain, Numbers
from bundleserver.tensors import Array


class NumberRows(Sequence[object]):
    """Rows of numbers, flat or nested alike; ``values`` is what numpy makes of all of them.

    Who asks for anything but the first row has everything read again, as a list.
    """

    def __init__(self, numbers: Numbers) -> None:
        """Read the numbers.

        Raises:
            NotPlain: there is something else among them, or they are not nested alike.
        """
        flat = numbers.read("id", _array_of)
        self._numbers = numbers
        self.values: Array = flat.reshape(numbers.shape)

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[object]:
        return iter(self._numbers.plain())

    @overload
    def __getitem__(self, index: int) -> object: ...

    @overload
    def __getitem__(self, index: slice) -> list[object]: ...

    def __getitem__(self, index: int | slice) -> object:
        return self._first if index == 0 else self._numbers.plain()[index]

    def __array__(
        self, dtype: np.dtype[np.generic] | None = None, copy: bool | None = None
    ) -> Array:
        """Give numpy a copy, since a model may write to what it is given."""
        return self.values.astype(dtype or self.values.dtype)

    @cached_property
    def _first(self) -> object:
        return self._numbers.first()


def _array_of(flat: list[object] | Array) -> Array:
    """Do what ``tensors.array_from_rows`` does: ``null`` is NaN among numbers."""
    if isinstance(flat, np.ndarray):
        return flat
    kinds = set(map(type, flat))
    if not kinds <= {int, float, type(None)}:
        raise NotPlain
    if kinds != {int}:
        return np.array(flat, dtype=np.float64)
    try:
        return np.array(array("q", cast("list[int]", flat)))
    except OverflowError as error:
        raise NotPlain from error
