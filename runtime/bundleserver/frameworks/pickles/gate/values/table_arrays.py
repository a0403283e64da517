"""pandas' own arrays and datatypes: their states are compared before they get them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from bundleserver.frameworks.pickles.gate.listing import own_names
from bundleserver.frameworks.pickles.gate.refusal import Refused, kind_of
from bundleserver.frameworks.pickles.gate.session import Session

_ARRAY = "pandas.core.arrays.base.ExtensionArray"
_INDEX = "pandas.core.indexes.base.Index"
_OFFSET = "pandas._libs.tslibs.offsets.BaseOffset"
_DTYPES = "pandas.core.dtypes.dtypes"
_ZONES = ("datetime.timezone", "zoneinfo.ZoneInfo", "pytz.tzinfo.BaseTzInfo", "pytz.UTC")

HELD = frozenset(
    {
        _ARRAY,
        "pandas._libs.arrays.NDArrayBacked",
        "pandas.core.generic.NDFrame",
        "pandas.core.internals.managers.SingleBlockManager",
    }
)
"""Classes whose objects become part of nothing before they have their state."""


def is_a(value: object, name: str) -> bool:
    """Ask whether a value is of a class, or of one that extends it."""
    return name in own_names(type(value))


def is_array(value: object) -> bool:
    """Ask whether a value is an array of numpy or pandas."""
    return type(value) is np.ndarray or is_a(value, _ARRAY)


def copied(values: Any) -> Any:
    """Return an array that nobody else has."""
    return values.copy()


def _set_backed(session: Session, made: object, state: object) -> None:
    """Give an array that is backed by one of numpy its values and its datatype."""
    if type(state) is not tuple or len(state) not in (2, 3):
        raise Refused("an array of pandas has a state that pandas does not write")
    dtype, values = state[:2]
    if type(dtype) is np.ndarray:
        dtype, values = values, dtype
    others = state[2] if len(state) == 3 else {}
    if type(values) is not np.ndarray or type(others) is not dict:
        raise Refused("an array of pandas has a state that pandas does not write")
    name = own_names(type(made))[0].rpartition(".")[2]
    if not _MATCHES.get(name, _never)(dtype, values):
        raise Refused(f"the values of a {kind_of(made)} are not of its datatype, or outside of it")
    frequency = others.get("_freq", others.get("freq"))
    if frequency is not None and not is_a(frequency, _OFFSET):
        raise Refused(f"the frequency of an array of pandas is a {kind_of(frequency)}")
    own = {"_freq": frequency} if name in ("DatetimeArray", "TimedeltaArray") else {}
    cast(Any, made).__setstate__((dtype, values.copy(), own))


def _never(dtype: object, values: np.ndarray[Any, Any]) -> bool:
    return False


def _is_categorical(dtype: object, values: np.ndarray[Any, Any]) -> bool:
    categories = dtype.categories if is_a(dtype, f"{_DTYPES}.CategoricalDtype") else None  # type: ignore[attr-defined]  # as is_a says
    if categories is None or values.dtype.kind != "i":
        return False
    return not values.size or (values.min() >= -1 and values.max() < len(categories))


def _is_datetime(dtype: object, values: np.ndarray[Any, Any]) -> bool:
    if values.dtype.kind != "M":
        return False
    if is_a(dtype, f"{_DTYPES}.DatetimeTZDtype"):
        return bool(cast(Any, dtype).unit == np.datetime_data(values.dtype)[0])
    return isinstance(dtype, np.dtype) and dtype == values.dtype


def _is_timedelta(dtype: object, values: np.ndarray[Any, Any]) -> bool:
    return values.dtype.kind == "m" and isinstance(dtype, np.dtype) and dtype == values.dtype


def _is_period(dtype: object, values: np.ndarray[Any, Any]) -> bool:
    return values.dtype == np.int64 and is_a(dtype, f"{_DTYPES}.PeriodDtype")


def _is_text(dtype: object, values: np.ndarray[Any, Any]) -> bool:
    is_dtype = is_a(dtype, "pandas.core.arrays.string_.StringDtype")
    return is_dtype and values.dtype == object and all(map(_is_text_or_none, values.ravel()))


def _is_text_or_none(value: object) -> bool:
    names = own_names(type(value))[0]
    return type(value) in (str, float, type(None)) or names == "pandas._libs.missing.NAType"


def _is_wrapped(dtype: object, values: np.ndarray[Any, Any]) -> bool:
    return is_a(dtype, f"{_DTYPES}.NumpyEADtype") and values.dtype == cast(Any, dtype).numpy_dtype


_MATCHES: Mapping[str, Callable[[object, np.ndarray[Any, Any]], bool]] = {
    "Categorical": _is_categorical,
    "DatetimeArray": _is_datetime,
    "NumpyExtensionArray": _is_wrapped,
    "PeriodArray": _is_period,
    "StringArray": _is_text,
    "TimedeltaArray": _is_timedelta,
}


def _set_masked(session: Session, made: object, state: object) -> None:
    """Give an array with missing values both of its arrays."""
    parts: Any = state if type(state) is dict else {}
    values, mask = parts.get("_data"), parts.get("_mask")
    are_arrays = type(values) is np.ndarray and type(mask) is np.ndarray
    if not (are_arrays and values.shape == mask.shape and mask.dtype == bool):
        raise Refused("an array with missing values has not as many marks as values")
    kinds = {"BooleanArray": "b", "FloatingArray": "f"}
    if values.dtype.kind not in kinds.get(type(made).__qualname__, "iu"):
        raise Refused("an array with missing values has values of another datatype")
    vars(made).update(_data=values.copy(), _mask=mask.copy())


def _set_intervals(session: Session, made: object, state: object) -> None:
    inner = state[0] if type(state) is tuple and len(state) == 1 else state
    parts: Any = inner if type(inner) is dict else {}
    left, right, dtype = (parts.get(name) for name in ("_left", "_right", "_dtype"))
    are_ends = all(is_array(end) or is_a(end, _INDEX) for end in (left, right))
    if not are_ends or len(left) != len(right) or not is_a(dtype, f"{_DTYPES}.IntervalDtype"):
        raise Refused("an array of intervals has not as many beginnings as ends")
    vars(made).update(_left=left.copy(), _right=right.copy(), _dtype=dtype)


def _set_categories(session: Session, made: object, state: object) -> None:
    parts: Any = state if type(state) is dict else {}
    categories, is_ordered = parts.get("categories"), parts.get("ordered", False)
    is_index = categories is None or is_a(categories, _INDEX)
    if not is_index or type(is_ordered) not in (bool, type(None)):
        raise Refused("a datatype of categories has no index of them")
    cast(Any, made).__setstate__({"categories": categories, "ordered": is_ordered})


def _set_zone(session: Session, made: object, state: object) -> None:
    parts: Any = state if type(state) is dict else {}
    zone, unit = parts.get("tz"), parts.get("unit")
    is_unit = type(unit) is str and unit in ("s", "ms", "us", "ns")
    if not is_unit or not any(is_a(zone, name) for name in _ZONES):
        raise Refused(f"a datatype of times has a {kind_of(zone)} for its time zone")
    cast(Any, made).__setstate__({"tz": zone, "unit": unit})


def _set_interval_dtype(session: Session, made: object, state: object) -> None:
    parts: Any = state if type(state) is dict else {}
    inner, closed = parts.get("subtype"), parts.get("closed")
    is_dtype = (
        inner is None or isinstance(inner, np.dtype) or is_a(inner, f"{_DTYPES}.DatetimeTZDtype")
    )
    if not is_dtype or type(closed) not in (str, type(None)):
        raise Refused("a datatype of intervals is made of no datatype")
    cast(Any, made).__setstate__({"subtype": inner, "closed": closed})


ARRAY_SETTERS = {
    "pandas._libs.arrays.NDArrayBacked": _set_backed,
    "pandas.core.arrays.masked.BaseMaskedArray": _set_masked,
    "pandas.core.arrays.interval.IntervalArray": _set_intervals,
    f"{_DTYPES}.CategoricalDtype": _set_categories,
    f"{_DTYPES}.DatetimeTZDtype": _set_zone,
    f"{_DTYPES}.IntervalDtype": _set_interval_dtype,
}
"""Classes whose state is set by a function of ours."""
