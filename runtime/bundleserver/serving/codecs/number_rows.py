"""The rows of a long V1 request: numbers that are an array already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np

from bundleserver.serving.codecs.json_pieces import Numbers
from bundleserver.tensors import Array


class NumberRows(Sequence[object]):
    """Rows of numbers, flat or nested alike; ``values`` is what numpy makes of all of them.

    Who asks for anything but the first row has everything decoded again, into Python's numbers.
    """

    def __init__(self, numbers: Numbers) -> None:
        """Decode the numbers.

        Raises:
            NotPlain: there is something else among them, or they are not nested alike.
        """
        self._numbers = numbers
        self.values: Array = numbers.read("id")

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[object]:
        return iter(self._numbers.plain())

    @overload
    def __getitem__(self, index: int) -> object: ...

    @overload
    def __getitem__(self, index: slice) -> list[object]: ...

    def __getitem__(self, index: int | slice) -> object:
        return self.values[0].tolist() if index == 0 else self._numbers.plain()[index]

    def __array__(
        self, dtype: np.dtype[np.generic] | None = None, copy: bool | None = None
    ) -> Array:
        """Give numpy a copy, since a model may write to what it is given."""
        return self.values.astype(dtype or self.values.dtype)
