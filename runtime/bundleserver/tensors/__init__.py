"""Named tensors: their datatypes, their declared shapes, and their validation.

Datatypes are the Open Inference Protocol's. Inside the server every tensor is a numpy array; BYTES
is an object array whose elements are ``str`` (``bytes`` only where the value is not UTF-8).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bundleserver.errors import InvalidInput
from bundleserver.tensors.narrowing import narrowed
from bundleserver.tensors.nested import array_of

Array = npt.NDArray[np.generic]

NUMPY_DTYPES: Mapping[str, np.dtype[np.generic]] = MappingProxyType(
    {
        "BOOL": np.dtype(np.bool_),
        "UINT8": np.dtype(np.uint8),
        "UINT16": np.dtype(np.uint16),
        "UINT32": np.dtype(np.uint32),
        "UINT64": np.dtype(np.uint64),
        "INT8": np.dtype(np.int8),
        "INT16": np.dtype(np.int16),
        "INT32": np.dtype(np.int32),
        "INT64": np.dtype(np.int64),
        "FP16": np.dtype(np.float16),
        "FP32": np.dtype(np.float32),
        "FP64": np.dtype(np.float64),
        "BYTES": np.dtype(np.object_),
    }
)
"""The protocol's datatypes and the numpy dtype that holds each."""

_MANTISSA_BITS = {"FP16": 11, "FP32": 24, "FP64": 53}

DATATYPES: Mapping[np.dtype[np.generic], str] = {
    dtype: datatype for datatype, dtype in NUMPY_DTYPES.items()
}


def datatype_of(array: Array) -> str:
    """Return the protocol datatype of an array; strings and objects are BYTES.

    Raises:
        TypeError: the dtype has no datatype in the protocol (complex numbers, structured arrays).
    """
    datatype = DATATYPES.get(array.dtype)
    if datatype is not None:
        return datatype
    if array.dtype.kind in "OSUTMm":
        return "BYTES"
    datatype = DATATYPES.get(array.dtype.newbyteorder("="))
    if datatype is not None:
        return datatype
    raise TypeError(f"dtype '{array.dtype}' has no datatype in the Open Inference Protocol")


def is_widening(came: str, wanted: str) -> bool:
    """Ask whether ``came`` converts to ``wanted`` without loss; INT64 to FP64 does not."""
    if came == wanted:
        return True
    if "BYTES" in (came, wanted) or "BOOL" in (came, wanted):
        return False
    source, target = NUMPY_DTYPES[came], NUMPY_DTYPES[wanted]
    if source.kind in "iu" and target.kind == "f":
        # numpy calls int64 -> float64 safe, although the mantissa has fewer bits.
        return source.itemsize * 8 <= _MANTISSA_BITS[wanted]
    return bool(np.can_cast(source, target, casting="safe"))


@dataclass(frozen=True)
class TensorSpec:
    """A declared tensor.

    ``None`` allows any datatype or shape, -1 any size of a dimension. ``columns`` names the entries
    of the last dimension. ``optional`` marks an input that a request may omit: the forecast
    contract has some, a manifest cannot declare any. ``column_datatypes``: a datatype for each
    column, where they are not all FP64. ``required_columns``: the columns that have any effect,
    where others have none and may be missing. ``kinds_known``: false where the datatypes of its
    columns are a guess. ``likely``: a datatype that is announced until an answer was seen, where
    none is certain. ``is_flag``: 0 and 1 stand for false and true. ``nullable``: it may have null.
    """

    name: str
    datatype: str | None = None
    shape: tuple[int, ...] | None = None
    columns: tuple[str, ...] = ()
    optional: bool = False
    column_datatypes: tuple[str, ...] = ()
    required_columns: tuple[str, ...] = ()
    kinds_known: bool = True
    likely: str | None = None
    is_flag: bool = False
    nullable: bool = False

    def validate(self, array: Array, taker: str) -> Array:
        """Validate one input against this spec and coerce its datatype where that is lossless.

        Args:
            array: the input's values.
            taker: the model, for the message: ``'fraud' version 7``.

        Raises:
            InvalidInput: rank, a dimension or the datatype differs.
        """
        is_rows = array.ndim and array.shape[1:] == self._row
        if not is_rows and not self._matches(array.shape):
            raise InvalidInput(
                f"input '{self.name}' has shape {list(array.shape)}; {taker} expects "
                f"{list(self.shape or ())}"
            )
        if self.datatype == "BYTES" and array.dtype.kind in "OM":
            return self._strings(array, taker)
        if self.datatype is None or array.dtype == NUMPY_DTYPES[self.datatype]:
            return array
        if is_flags(array, self):
            return array.astype(NUMPY_DTYPES[self.datatype])
        if self.nullable and array.dtype.kind == "O":
            return _with_nulls(array, self, taker)
        came = datatype_of(array)
        if not is_widening(came, self.datatype):
            raise InvalidInput(
                f"input '{self.name}' has datatype {came}; {taker} expects {self.datatype}"
            )
        return array.astype(NUMPY_DTYPES[self.datatype], copy=False)

    def _strings(self, array: Array, taker: str) -> Array:
        """Return strings; dates become ISO 8601, where their integers would be meaningless."""
        if array.dtype.kind == "M":
            return array.astype(str).astype(object)
        if not (self.optional or self.nullable) and any(value is None for value in array.flat):
            raise InvalidInput(f"input '{self.name}' has null; {taker} expects BYTES without nulls")
        return array

    def coerce(self, array: Array) -> Array:
        """Validate one output against this spec; numbers may be coerced to another width.

        Raises:
            TypeError: the datatype differs in kind.
            ValueError: rank or a dimension differs.
        """
        target = NUMPY_DTYPES[self.datatype] if self.datatype is not None else array.dtype
        if array.dtype != target and datatype_of(array) != self.datatype:
            is_other = array.dtype.kind in "OSU" or target.kind == "O"
            if is_other or not np.can_cast(array.dtype, target, "same_kind"):
                raise TypeError(
                    f"has datatype {datatype_of(array)}; the manifest declares {self.datatype}"
                )
            array = array.astype(target)
        is_rows = array.ndim and array.shape[1:] == self._row
        if not is_rows and not self._matches(array.shape):
            raise ValueError(
                f"has shape {list(array.shape)}; the manifest declares {list(self.shape or ())}"
            )
        return array

    @cached_property
    def _row(self) -> tuple[int, ...] | None:
        """The shape of a row, where that and no more is declared: what most requests bring."""
        shape = self.shape or ()
        return shape[1:] if shape[:1] == (-1,) and -1 not in shape[1:] else None

    def _matches(self, came: tuple[int, ...]) -> bool:
        wanted = self.shape
        return wanted is None or (
            len(came) == len(wanted)
            and all(known in (-1, size) for size, known in zip(came, wanted, strict=True))
        )


def describe(spec: TensorSpec) -> str:
    """Format an input for messages: ``'features' FP64 [-1, 3]``."""
    parts = [f"'{spec.name}'"]
    if spec.datatype is not None:
        parts.append(spec.datatype)
    if spec.shape is not None:
        parts.append(str(list(spec.shape)))
    if spec.columns:
        parts.append("with columns " + ", ".join(f"'{column}'" for column in spec.columns))
    return " ".join(parts)


class NamedTensor(NamedTuple):
    """One named tensor, as an input of a bundle or a step; ``columns`` as in TensorSpec."""

    name: str
    values: Array
    columns: tuple[str, ...] = ()


def array_from_rows(rows: Sequence[object], spec: TensorSpec, taker: str) -> Array:
    """Decode JSON values, nested to any depth, to an array of the declared datatype.

    JSON has one kind of number, so an integer is valid for every numeric datatype. ``null`` is NaN
    in a floating-point tensor. Without a declared datatype integers become INT64, other numbers
    FP64, strings BYTES, and mixed values stay as they are in an object array.

    Raises:
        InvalidInput: the rows are ragged, or a value is not valid for the datatype.
    """
    what = f"input '{spec.name}'"
    try:
        values = array_of(rows)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(
            f"{what} has rows of different lengths, or is nested too deep; {taker} expects rows of "
            "equal length"
        ) from error
    if spec.datatype is None:
        return values
    if is_flags(values, spec):
        return values.astype(NUMPY_DTYPES[spec.datatype])
    if spec.nullable and any(row is None for row in rows):
        return _with_nulls(np.array(rows, dtype=object), spec, taker)
    if spec.optional and spec.datatype == "BYTES" and _is_string_or_null(values):
        return values.astype(object, copy=False)
    return _convert(values, spec.datatype, what, taker)


def is_flags(values: Array, spec: TensorSpec) -> bool:
    """Ask whether values are only 0 and 1, or false and true, of a tensor that has such."""
    return spec.is_flag and values.dtype.kind in "biuf" and bool(np.isin(values, (0, 1)).all())


def _with_nulls(values: Array, spec: TensorSpec, taker: str) -> Array:
    """Validate the values of a tensor that are not null; floating-point numbers become NaN."""
    datatype = spec.datatype or "BYTES"
    is_null = np.array([value is None for value in values.flat], dtype=bool).reshape(values.shape)
    known = array_of(values[~is_null].tolist())
    filled = np.full(values.shape, None, dtype=object)
    if known.size:
        filled[~is_null] = _convert(known, datatype, f"input '{spec.name}'", taker)
    return filled.astype(NUMPY_DTYPES[datatype]) if datatype.startswith("FP") else filled


def _is_string_or_null(values: Array) -> bool:
    return all(value is None or isinstance(value, str) for value in values.flat)


def _convert(values: Array, datatype: str, what: str, taker: str) -> Array:
    target = NUMPY_DTYPES[datatype]
    kind = values.dtype.kind
    if values.dtype == target and kind != "O":
        return values
    whole = kind == "f" and target.kind in "iu" and bool(np.all(values == np.floor(values)))
    fits = {
        "b": target.kind == "b",
        "i": target.kind in "iuf",
        "u": target.kind in "iuf",
        "f": target.kind == "f" or whole,
        "O": target.kind == "O" and all(isinstance(value, str) for value in values.flat),
    }.get(kind, False)
    if fits and target.kind in "iu" and values.size:
        limits = np.iinfo(datatype.lower())
        # As Python numbers, which compare integers and floats exactly.
        fits = limits.min <= values.min().item() and values.max().item() <= limits.max
    if not fits:
        raise InvalidInput(f"{what} has {_sample(values, target)}; {taker} expects {datatype}")
    return narrowed(values, target, what, taker)


def _sample(values: Array, target: np.dtype[np.generic]) -> str:
    """Format the first invalid value, so that the caller finds it."""
    for value in values.flat:
        plain = value.item() if isinstance(value, np.generic) else value
        if not _is_one_of(plain, target):
            # JSON has no NaN: numpy made it of null.
            return "null" if plain is None or plain != plain else f"the value {plain!r}"
    return "no values"


def _is_one_of(plain: object, target: np.dtype[np.generic]) -> bool:
    if target.kind == "O":
        return isinstance(plain, str)
    if target.kind == "b" or isinstance(plain, bool):
        return target.kind == "b" and isinstance(plain, bool)
    if not isinstance(plain, int | float):
        return False
    if target.kind == "f":
        return True
    limits = np.iinfo(target.name)
    return float(plain).is_integer() and limits.min <= plain <= limits.max
