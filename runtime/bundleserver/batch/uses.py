"""How a model takes one column of a table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Use:
    """One column of a table as a model takes it.

    Attributes:
        column: its name in the table.
        datatype: the protocol's datatype of its values; None leaves them as they are.
        shape: the shape of one row's value, ``()`` for a plain one, -1 for any size; None for any.
        text_datatype: what its strings stand for where the file has nothing but strings.
        has_nulls: whether null is valid where the datatype has no NaN.
        is_flag: whether 0 and 1 stand for false and true.
    """

    column: str
    datatype: str | None = None
    shape: tuple[int, ...] | None = ()
    text_datatype: str | None = None
    has_nulls: bool = True
    is_flag: bool = False
