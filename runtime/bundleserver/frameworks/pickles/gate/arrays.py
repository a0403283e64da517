"""numpy's arrays, datatypes and random states: each number that numpy would believe is checked.

A datatype's own state has flags; with the wrong ones, an array takes bytes of the file for the
addresses of objects. So datatypes are made anew from their description, and never by their state.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from bundleserver.frameworks.pickles.gate.listing import BUILD
from bundleserver.frameworks.pickles.gate.refusal import Refused, kind_of
from bundleserver.frameworks.pickles.gate.session import Form, Session

_PLAIN = re.compile(r"[<>|=]?[?biufcSUVmMO][0-9]{0,9}(\[[0-9]{0,9}[a-zA-Zμ]{1,7}\])?")
_MOST_DIMENSIONS = 64
_GETS_STATE = frozenset({BUILD})


class ArrayClass:
    """In place of ``numpy.ndarray`` as a value: whoever calls that gets memory as it was left."""


def _dtype(session: Session, args: tuple[object, ...]) -> object:
    """Make a datatype that nobody else has; its state says the rest."""
    code = args[0] if args else None
    if type(code) is not str or not _PLAIN.fullmatch(code):
        raise Refused(f"a datatype is {code!r:.50}; expected one such as 'f8'")
    made = np.dtype(code, False, True)
    session.note(made, _GETS_STATE)
    return made


def _set_dtype(session: Session, made: object, state: object) -> None:
    """Give a datatype the state that numpy itself computes from the description in the state."""
    dtype = cast("np.dtype[Any]", made)
    meant = _described(dtype, state)
    _, (code, *_), own = cast("tuple[Any, Any, Any]", meant.__reduce__())
    if dtype.str.lstrip("<>|=") != np.dtype(code).str.lstrip("<>|="):
        raise Refused(f"the datatype '{dtype.str}' has the state of '{code}'")
    cast(Any, dtype).__setstate__(own)


def _described(dtype: np.dtype[Any], state: object) -> np.dtype[Any]:
    if type(state) is not tuple or len(state) not in (8, 9):
        raise Refused("a datatype has a state that numpy does not write")
    order, inner, names, fields, size, _, flags = state[1:8]
    if order not in ("<", ">", "=", "|") or type(order) is not str:
        raise Refused("a datatype has an unknown byte order")
    if inner is not None:
        return _subarray(inner)
    if names is not None:
        return _structure(names, fields, size, aligned=flags)
    if dtype.kind in "mM":
        return _moment(dtype, state, order)
    if fields is not None or (len(state) == 9 and state[8] is not None):
        raise Refused("a datatype has fields without names, or metadata")
    return dtype.newbyteorder(order)  # type: ignore[arg-type]  # one of its literals


def _subarray(inner: object) -> np.dtype[Any]:
    if type(inner) is not tuple or len(inner) != 2 or not isinstance(inner[0], np.dtype):
        raise Refused("a datatype is an array of what is no datatype")
    return np.dtype((inner[0], checked_shape(inner[1])))


def _structure(names: object, fields: object, size: object, *, aligned: object) -> np.dtype[Any]:
    if type(names) is not tuple or not isinstance(fields, Mapping) or {*names} != {*fields}:
        raise Refused("a datatype has names that are not those of its fields")
    parts = [fields[name] for name in names]
    for part in parts:
        if type(part) is not tuple or len(part) < 2 or not isinstance(part[0], np.dtype):
            raise Refused("a datatype has a field that is no datatype with an offset")
    description: Any = {
        "names": [*names],
        "formats": [part[0] for part in parts],
        "offsets": [part[1] for part in parts],
        "itemsize": size,
    }
    made: np.dtype[Any] = np.dtype(description, align=type(aligned) is int and bool(aligned & 0x80))
    return made


def _moment(dtype: np.dtype[Any], state: tuple[object, ...], order: str) -> np.dtype[Any]:
    """Return a datatype of times with its unit, which stands in the metadata."""
    unit = state[8][1] if len(state) == 9 and type(state[8]) is tuple and state[8][1:] else None
    if unit is None:
        return dtype.newbyteorder(order)  # type: ignore[arg-type]  # one of its literals
    if type(unit) is not tuple or len(unit) < 2 or type(unit[1]) is not int:
        raise Refused("a datatype of times has no unit")
    name = unit[0].decode("ascii") if type(unit[0]) is bytes else unit[0]
    code = f"{dtype.kind}8[{unit[1]}{name}]"
    if not _PLAIN.fullmatch(code):
        raise Refused("a datatype of times has an unknown unit")
    return np.dtype(code).newbyteorder(order)  # type: ignore[arg-type]  # one of its literals


def checked_shape(shape: object) -> tuple[int, ...]:
    """Return the shape of an array.

    Raises:
        Refused: it is none.
    """
    sizes = shape if type(shape) is tuple else (shape,)
    if len(sizes) > _MOST_DIMENSIONS or not all(
        type(size) is int and 0 <= size < 1 << 63 for size in sizes
    ):
        raise Refused("an array has a shape that is no tuple of sizes")
    return sizes


def _array_class(session: Session, value: object) -> type[np.ndarray[Any, Any]]:
    found = session.reference_to(value)
    if found is not None and found.real is ArrayClass:
        return np.ndarray
    if found is not None and found.real is np.ma.MaskedArray:
        return np.ma.MaskedArray
    raise Refused(f"it makes an array of another class than numpy's: a {kind_of(value)}")


def _reconstruct(session: Session, args: tuple[object, ...]) -> object:
    """Make an empty array, which gets its values as its state."""
    if len(args) != 3 or args[1] != (0,) or args[2] not in (b"b", "b"):
        raise Refused("it makes an array that is not an empty one")
    made = np.ndarray.__new__(_array_class(session, args[0]), (0,), "b")
    session.note(made, _GETS_STATE)
    return made


def _masked(session: Session, args: tuple[object, ...]) -> object:
    """Make an empty masked array."""
    if len(args) != 4 or args[2] != (0,) or args[3] not in (b"b", "b"):
        raise Refused("it makes a masked array that is not an empty one")
    kinds = [_array_class(session, value) for value in args[:2]]
    if kinds != [np.ma.MaskedArray, np.ndarray]:
        raise Refused("it makes a masked array of other classes than numpy's")
    made = np.ma.MaskedArray(np.ndarray((0,), "b"), mask=np.ndarray((0,), "?"), dtype="b")
    session.note(made, _GETS_STATE)
    return made


def _set_array(session: Session, made: object, state: object) -> None:
    if type(state) is not tuple or len(state) != 5 or type(state[0]) is not int:
        raise Refused("an array has a state that numpy does not write")
    _check_values(*state[1:3], state[4])
    np.ndarray.__setstate__(cast("np.ndarray[Any, Any]", made), state)
    check_booleans(cast("np.ndarray[Any, Any]", made))


def _set_masked(session: Session, made: object, state: object) -> None:
    if type(state) is not tuple or len(state) != 7:
        raise Refused("a masked array has a state that numpy does not write")
    _, shape, dtype, _, values, mask, _ = state
    _check_values(shape, dtype, values)
    _check_values(shape, np.ma.make_mask_descr(dtype), mask)
    masked = cast(Any, made)
    masked.__setstate__(state)
    check_booleans(masked.data)
    check_booleans(np.ma.getmaskarray(masked))


def check_booleans(array: np.ndarray[Any, Any]) -> None:
    """Check that booleans are 0 or 1: what counts and copies them by these relies on it.

    Raises:
        Refused: one has another value.
    """
    if array.dtype.kind == "b" and array.size and int(array.view(np.uint8).max()) > 1:
        raise Refused("an array of booleans has other values than 0 and 1")


def _check_values(shape: object, dtype: object, values: object) -> None:
    if not isinstance(dtype, np.dtype) or dtype.subdtype or type(shape) is not tuple:
        raise Refused("an array has no datatype, or no shape")
    count = math.prod(checked_shape(shape))
    if dtype.hasobject:
        if type(values) is not list or len(values) != count:
            raise Refused(f"an array of {count} objects has no list of so many")
    elif type(values) not in (bytes, bytearray) or len(values) != count * dtype.itemsize:  # type: ignore[arg-type]  # bytes
        raise Refused(f"an array of {count} values of '{dtype}' has not the bytes of so many")


def _scalar(session: Session, args: tuple[object, ...]) -> object:
    if len(args) != 2 or not isinstance(args[0], np.dtype) or args[0].hasobject:
        raise Refused("a number of numpy has no plain datatype")
    _check_values((1,), args[0], args[1])
    if not args[0].itemsize:
        return np.zeros(1, args[0])[0]
    return np.frombuffer(cast(bytes, args[1]), args[0])[0]


def _frombuffer(session: Session, args: tuple[object, ...]) -> object:
    """Make an array of bytes, as protocol 5 does."""
    if len(args) not in (4, 5):
        raise Refused("it makes an array of bytes with other arguments than numpy's")
    values, dtype, shape, order, *axes = args
    if order not in ("C", "F", "K") or not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise Refused("it makes an array of bytes with another order or datatype")
    _check_values(shape, dtype, values)
    flat = np.frombuffer(cast(bytes, values), dtype) if values else np.empty(0, dtype)
    check_booleans(flat)
    sizes = checked_shape(shape)
    if order == "K":
        array = flat.reshape(sizes, order="C")
        return array.transpose(cast("tuple[int, ...]", axes[0])) if axes and axes[0] else array
    return flat.reshape(sizes, order=cast(Any, order))


ARRAY_FORMS: Mapping[str, Form] = {
    "numpy.dtype": _dtype,
    "numpy.ma.core._mareconstruct": _masked,
    **{
        f"numpy.{core}.{name}": form
        for core in ("core", "_core")
        for name, form in {
            "multiarray._reconstruct": _reconstruct,
            "multiarray.scalar": _scalar,
            "numeric._frombuffer": _frombuffer,
        }.items()
    },
}

ARRAY_SETTERS = {
    "numpy.dtype": _set_dtype,
    "numpy.ma.core.MaskedArray": _set_masked,
    "numpy.ma.MaskedArray": _set_masked,
    "numpy.ndarray": _set_array,
}
