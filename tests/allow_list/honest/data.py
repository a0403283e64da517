"""Values that models hold, or that notebooks leave beside them."""

from __future__ import annotations

import collections
import datetime
import decimal
from collections.abc import Iterator

import numpy as np
import pandas as pd
import scipy.sparse

from tests.allow_list.honest.estimators import Model
from tests.allow_list.honest.forecasts import FREQUENCIES

_TYPES = (
    *("bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "longdouble", "complex64", "complex128", "clongdouble"),
    *("str_", "bytes_", "object_", "datetime64", "timedelta64", "void"),
    *("intc", "uintc", "longlong", "ulonglong", "intp", "uintp"),
)


def values() -> Iterator[Model]:
    """Yield values of Python, numpy, scipy and pandas."""
    now = datetime.datetime(2024, 5, 6, 7, 8, 9)
    yield from {
        "plain": [1, 1.5, "a", b"b", True, None, 2j, 10**40, (1, (2,)), {1: 2}, {3}],
        "sets": [set(), frozenset((1, 2)), {"a", "b"}],
        "bytes": [bytearray(b"abc"), bytearray(), b"", b"\xff"],
        "ranges": [range(3), slice(1, None, 2), Ellipsis, NotImplemented],
        "types": [int, float, str, bool, complex, bytes, object, list, tuple, dict],
        "collections": [
            collections.OrderedDict(a=1),
            collections.defaultdict(int, a=1),
            collections.defaultdict(list, a=[1]),
            collections.defaultdict(float),
            collections.defaultdict(dict),
            collections.deque([1], 3),
            collections.Counter("aab"),
        ],
        "moments": [now, now.date(), now.time(), now - now, datetime.timezone.utc],
        "exact": [decimal.Decimal("1.5")],
        "types of numpy": [getattr(np, name) for name in _TYPES],
        "dtypes of numpy": [
            np.dtype(code)
            for code in ("f8", ">i4", "M8[ns]", "m8[D]", "U7", "S3", "O", "?", "c16")
        ]
        + [np.dtype([("a", "f8"), ("b", "i4", (2,))])],
        "numbers of numpy": [
            np.float64(1.5), np.int32(3), np.bool_(True), np.str_("a"), np.bytes_(b"b"),
            np.datetime64("2024-01-01"), np.timedelta64(3, "D"), np.complex64(2j), np.float16(1),
        ],
        "arrays": [
            np.arange(4.0), np.arange(6).reshape(2, 3).T, np.array(["a", None], object),
            np.array(["ab", "c"]), np.zeros((0, 3)), np.array(3.0), np.zeros(3, [("a", "f8")]),
            np.arange(10)[::2], np.arange(4, dtype=">f4"),
        ],
        "masked": [np.ma.array([1.0, 2.0], mask=[0, 1]), np.ma.masked],
        "random": [
            np.random.RandomState(1), np.random.default_rng(1),
            *(np.random.Generator(kind(1)) for kind in _BITS), np.random.SeedSequence(3),
            *(kind(2) for kind in _BITS),
        ],
    }.items()  # fmt: skip
    for kind in ("csr", "csc", "coo", "lil", "dok", "dia", "bsr"):
        for form in ("matrix", "array"):
            made = getattr(scipy.sparse, f"{kind}_{form}")(np.eye(3))
            yield f"sparse {kind} {form}", made
    yield from _tables(now)


_BITS = (
    np.random.MT19937,
    np.random.PCG64,
    np.random.PCG64DXSM,
    np.random.Philox,
    np.random.SFC64,
)


def _tables(now: datetime.datetime) -> Iterator[Model]:
    dates = pd.date_range("2024-01-01", periods=3)
    columns: dict[str, object] = {
        "numbers": [1.0, 2.0, 3.0],
        "text": ["a", "b", None],
        "dates": dates,
        "zoned": dates.tz_localize("UTC"),
        "spans": dates - dates[0],
        "categories": pd.Categorical(["x", "y", "x"]),
        "ordered": pd.Categorical([1, 2, 1], ordered=True),
        "whole": pd.array([1, None, 3], "Int64"),
        "small": pd.array([1, None, 3], "UInt8"),
        "real": pd.array([1.0, None, 3.0], "Float64"),
        "flags": pd.array([True, None, False], "boolean"),
        "strings": pd.array(["a", None, "c"], "string[python]"),
        "periods": pd.period_range("2024-01", periods=3, freq="M"),
        "intervals": pd.interval_range(0, 3),
        "sparse": pd.arrays.SparseArray([0.0, 0.0, 1.0]),
        "complex": np.array([1j, 2j, 3j]),
        "bytes": [b"a", b"b", b"c"],
    }
    for name, values in columns.items():
        yield f"a column of {name}", pd.Series(values, name=name)  # type: ignore[call-overload]
        yield f"an index of {name}", pd.Index(values)  # type: ignore[call-overload]
        yield f"a type of {name}", pd.Series(values).dtype  # type: ignore[call-overload]
    yield "a table", pd.DataFrame({"a": [1, 2], "b": ["x", "y"], "c": [1.5, np.nan]})
    yield "a table of all", pd.DataFrame(columns)
    yield (
        "a table in levels",
        pd.DataFrame(
            {"v": [1, 2]}, pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["k", "l"])
        ),
    )
    yield "moments of pandas", [
        pd.Timestamp(now), pd.Timestamp(now, tz="UTC"), pd.Timedelta(3, "D"), pd.NaT, pd.NA,
        pd.Period("2024-01", "M"), pd.Interval(0, 1), pd.Timestamp(now).as_unit("s"),
    ]  # fmt: skip
    for frequency in (*FREQUENCIES, "ms", "us", "ns", "bh"):
        yield f"dates by {frequency}", pd.date_range("2024-01-01", periods=3, freq=frequency)
    for frequency in ("D", "B", "h", "min", "s", "W", "M", "Q", "Y", "Q-NOV", "Y-JUN"):
        yield f"periods by {frequency}", pd.period_range("2024-01-01", periods=3, freq=frequency)
