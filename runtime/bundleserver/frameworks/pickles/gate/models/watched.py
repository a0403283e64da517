"""A part of a model between it and compiled code that believes the shape of the part's results."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np


class Watched:
    """An estimator whose results have a row for each that it is asked with, and so many columns.

    It is pickled as the estimator itself.

    Args:
        part: the estimator.
        shapes: by a method's name, the sizes of each row of its results.
    """

    def __init__(self, part: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._part = part
        self._shapes = shapes

    @property  # type: ignore[misc]  # typeshed has it with a setter
    def __class__(self) -> Any:
        # So says who is asked; pickle compares it with what it writes.
        return type(self._part)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("_part", "_shapes"):
            raise AttributeError(name)
        found = getattr(self._part, name)
        if (shape := self._shapes.get(name)) is None:
            return found

        def asked(rows: Any, *args: Any) -> Any:
            answer = found(rows, *args)
            wanted = (rows.shape[0] if hasattr(rows, "shape") else len(rows), *shape)
            # A column of numbers is as good as their list.
            is_list = not shape and np.shape(answer) == (*wanted, 1)
            if type(answer) is not np.ndarray or not (answer.shape == wanted or is_list):
                raise ValueError(
                    f"a part of the model, {type(self._part).__name__}, returns "
                    f"{np.shape(answer)} numbers; expected {wanted}"
                )
            return answer

        return asked

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._part.__reduce_ex__(protocol)

    def __deepcopy__(self, memo: Any) -> Watched:
        return Watched(copy.deepcopy(self._part, memo), self._shapes)
