"""Arrow columns as arrays of a model's datatypes, with the rows whose values are not valid."""

from __future__ import annotations

from typing import Any

from bundleserver.batch.kinds import is_list
from bundleserver.batch.lists import nested_values
from bundleserver.batch.plain_values import flat_values, plain_column
from bundleserver.batch.texts import Problems, parsed
from bundleserver.batch.uses import Use
from bundleserver.tensors import Array


def values_of(column: Any, use: Use, *, is_text: bool = False) -> tuple[Array, Problems]:
    """Convert a column to an array whose first axis is the rows.

    Args:
        column: the column.
        use: how the model takes it.
        is_text: whether strings stand for other values, as in CSV.

    Returns:
        The values, and why rows are not valid; their values are then anything. Lists of different
        shapes, where the model takes any, become an object array of arrays.
    """
    column = plain_column(column)
    if is_list(column.type):
        return nested_values(column, use)
    problems: Problems = {}
    if is_text and (datatype := use.datatype or use.text_datatype) not in (None, "BYTES"):
        column = parsed(column, str(datatype), problems, use.column)
    values = flat_values(column, use, problems)
    return values, problems
