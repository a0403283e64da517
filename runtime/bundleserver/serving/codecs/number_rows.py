"""The rows of a long V1 request, already decoded to an array."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np

from bundleserver.serving.codecs.json_pieces import Numbers
from bundleserver.tensors import Array


class NumberRows(Sequence[object]):
    """Rows of numbers, flat or nested regularly; ``values`` has all of them as an array.

    Rows are decoded again, into Python numbers, as far as they are asked for one after the other;
    access to any but the first one decodes all of them.
    """

    def __init__(self, numbers: Numbers) -> None:
        """Decode the numbers.

        Raises:
            NotPlain: there are other values among them, or they are nested irregularly.
        """
        self._numbers = numbers
        self.values: Array = numbers.decode("id")

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[object]:
        return self._numbers.plain()

    @overload
    def __getitem__(self, index: int) -> object: ...

    @overload
    def __getitem__(self, index: slice) -> list[object]: ...

    def __getitem__(self, index: int | slice) -> object:
        return self.values[0].tolist() if index == 0 else list(self._numbers.plain())[index]

    def __array__(
        self, dtype: np.dtype[np.generic] | None = None, copy: bool | None = None
    ) -> Array:
        """Return a copy, since a model may write to its inputs."""
        return self.values.astype(dtype or self.values.dtype)
