"""Columns of JSON values that a model takes, with Arrow's types for them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from bundleserver.errors import InvalidInput
from bundleserver.serving.codecs.tensor_json import kind_of

Bad = dict[int, str]
"""Why rows are not valid, by their places."""

_KINDS: dict[type, str] = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
}
_EXPECTED = {"BOOL": "a boolean", "BYTES": "a string"}


def column_of_json(
    values: Sequence[object], datatype: str | None, is_list: bool | None, name: str, bad: Bad
) -> pa.Array:
    """Make a column of JSON values, with null for those of another kind, which ``bad`` tells of.

    The kind is an array or the datatype's, or else that of the first value.

    Args:
        values: the values.
        datatype: what the model takes, if it says so.
        is_list: whether it takes arrays, if it says so.
        name: the column.
        bad: is told of rows, by their places.

    Raises:
        InvalidInput: the arrays in it are of more than one kind.
    """
    kinds = [_KINDS.get(type(value), "") for value in values]
    wanted = next((kind for kind in kinds if kind and (kind != "an array" or is_list is None)), "")
    if is_list:
        wanted = "an array"
    elif wanted != "an array" and datatype is not None:
        wanted = _EXPECTED.get(datatype, "a number")
    kept = list(values)
    for at, kind in enumerate(kinds):
        if kind and (kind != wanted or kind == "an object"):
            kept[at] = None
            came = kind_of(values[at])
            bad.setdefault(at, f"column '{name}' has {came}; expected {wanted or 'a value'}")
    if wanted == "an array":
        return _lists(kept, name, bad)
    if wanted == "a number":
        return _numbers(kept, datatype, name, bad)
    return pa.array(kept)


def _numbers(values: list[object], datatype: str | None, name: str, bad: Bad) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        pass
    # Integers among other numbers; floating-point datatypes round them, as in a V1 request.
    is_rounded = (datatype or "").startswith("FP")
    floats: list[float | None] = []
    for at, value in enumerate(values):
        exact = float(value) if isinstance(value, int | float) else None
        if isinstance(value, int) and exact != value and not is_rounded:
            bad.setdefault(
                at,
                f"column '{name}' has the integer {value}, which is not a floating-point number of "
                "64 bits",
            )
            exact = None
        floats.append(exact)
    return pa.array(floats, pa.float64())


def _lists(values: list[object], name: str, bad: Bad) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        pass
    for at, value in enumerate(values):
        try:
            pa.array([value])
        except (pa.ArrowException, OverflowError):
            values[at] = None
            bad.setdefault(at, f"column '{name}' has an array of values of different kinds")
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError) as error:
        raise InvalidInput(f"column '{name}' has arrays of different kinds: {error}") from error
