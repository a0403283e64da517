"""The kinds of Arrow's types, and which of them are valid for a model's datatypes."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.types as kinds

from bundleserver.batch.uses import Use
from bundleserver.errors import InvalidInput
from bundleserver.tensors import NUMPY_DTYPES

_NUMBER, _BOOL, _STRING, _TIME, _NULL, _OTHER = "numbers", "booleans", "strings", "dates", "", "?"

_VALID = {
    "b": (_BOOL,),
    "i": (_NUMBER,),
    "u": (_NUMBER,),
    "f": (_NUMBER,),
    "O": (_STRING, _TIME),
}
"""The kinds that are valid for numpy's; a datatype that is not known takes any."""


def is_list(kind: pa.DataType) -> bool:
    """Ask whether a type's values are lists."""
    return bool(kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind))


def is_string(kind: pa.DataType) -> bool:
    """Ask whether a type's values are strings, or bytes that may be some."""
    return bool(
        kinds.is_string(kind)
        or kinds.is_large_string(kind)
        or kinds.is_string_view(kind)
        or kinds.is_binary(kind)
        or kinds.is_large_binary(kind)
        or kinds.is_fixed_size_binary(kind)
    )


def depth_of(kind: pa.DataType) -> int:
    """Return how deep a type's lists are nested; 0 is a plain value."""
    kind = storage_of(kind)
    return 1 + depth_of(kind.value_type) if is_list(kind) else 0


def storage_of(kind: pa.DataType) -> pa.DataType:
    """Return what the values of a dictionary or of an extension type are."""
    if kinds.is_dictionary(kind):
        return kind.value_type
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def check_kind(
    column: str, kind: pa.DataType, use: Use, taker: str, *, is_text: bool = False
) -> None:
    """Refuse a column whose values are of another kind than the model's, before any is read.

    Raises:
        InvalidInput: names the column, its type and what is expected.
    """
    if is_text:
        _check_text(column, use, taker)
        return
    depth = None if use.shape is None else len(use.shape)
    if depth is not None and depth != depth_of(kind) and not kinds.is_null(kind):
        wanted = "a plain value" if not depth else f"a list nested {depth} deep"
        raise InvalidInput(f"column '{column}' is {kind}; {taker} expects {wanted} in each row")
    leaf = kind
    while is_list(storage_of(leaf)):
        leaf = storage_of(leaf).value_type
    came = _kind_of(storage_of(leaf))
    if came == _OTHER:
        raise InvalidInput(
            f"column '{column}' is {kind}; expected numbers, booleans, strings, dates or lists"
        )
    datatype = use.datatype or use.text_datatype
    if datatype is None or not came or (use.is_flag and came == _NUMBER):
        return
    if depth is None and came == _TIME:
        return  # a forecaster's dates
    if came not in _VALID[NUMPY_DTYPES[datatype].kind]:
        if use.datatype is None and came != _STRING:
            return  # a table's intake converts what it can
        raise InvalidInput(
            f"column '{column}' is {kind}; {taker} expects {datatype}, and nothing is converted"
        )


def _check_text(column: str, use: Use, taker: str) -> None:
    if use.shape:
        raise InvalidInput(
            f"column '{column}' must have lists for {taker}, which CSV has not; use Parquet, Arrow "
            "or JSON lines"
        )
    if use.datatype is None and use.text_datatype is None:
        raise InvalidInput(
            f"column '{column}' is text in CSV, and {taker} does not say which datatype it "
            "expects; use Parquet or Arrow, whose columns have types"
        )


def _kind_of(kind: pa.DataType) -> str:
    if kinds.is_null(kind):
        return _NULL
    if kinds.is_boolean(kind):
        return _BOOL
    if kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind):
        return _NUMBER
    if is_string(kind):
        return _STRING
    if kinds.is_timestamp(kind) or kinds.is_date(kind):
        return _TIME
    return _OTHER
