"""Tables and indexes of a hostile pickle: codes, places and sizes that pandas would believe."""

from __future__ import annotations

import copyreg
import io
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pandas._libs.arrays import __pyx_unpickle_NDArrayBacked as new_backed
from pandas._libs.internals import _unpickle_block as new_block
from pandas.core.indexes.base import _new_Index as new_index
from pandas.core.indexes.datetimes import _new_DatetimeIndex as new_times
from pandas.core.internals.managers import BlockManager

from bundleserver.frameworks.pickles.gate import open_stream
from bundleserver.frameworks.pickles.gate.refusal import Refused
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy


class Forged:
    """An object that is pickled as anything."""

    def __init__(self, *parts: object) -> None:
        self.parts = parts

    def __reduce__(self) -> object:
        return self.parts


def opened(value: object) -> Any:
    """Save an object, and open it through the gate."""
    data = io.BytesIO(pickle.dumps(value, 4))
    return open_stream(data, CodeTrust(PicklePolicy.LISTED))


LEVELS = [pd.Index(["a", "b"])]
TIMES = pd.date_range("2020", periods=3)
ROWS = pd.RangeIndex(2)
VALUES = np.ones((1, 2))
PLAIN = {"sortorder": None, "names": ["x"]}
CATEGORIES = pd.CategoricalDtype(["a", "b"])


def block(values: object = VALUES, places: object = slice(0, 1, 1), dimensions: int = 2) -> object:
    """Return a forged block of a table."""
    return Forged(new_block, (values, places, dimensions))


def index(kind: type, **parts: object) -> object:
    """Return a forged index."""
    return Forged(new_index, (kind, parts))


def backed(kind: type, *state: object) -> object:
    """Return a forged array."""
    return Forged(new_backed, (kind, 82904607, None), (*state, {}))


HOSTILE = {
    "codes": index(pd.MultiIndex, levels=LEVELS, codes=[np.arange(9)], **PLAIN),
    "low_codes": index(pd.MultiIndex, levels=LEVELS, codes=[np.array([-2])], **PLAIN),
    "codes_of_objects": index(pd.MultiIndex, levels=LEVELS, codes=[np.array([1], "O")], **PLAIN),
    "levels": index(pd.MultiIndex, levels=[["a"]], codes=[np.array([0])], **PLAIN),
    "fewer_codes": index(pd.MultiIndex, levels=LEVELS, codes=[], **PLAIN),
    "range": index(pd.RangeIndex, start=0, stop=1 << 60, step=1),
    "data_of_an_index": index(pd.Index, data=range(9)),
    "table_as_index": index(pd.Index, data=pd.DataFrame({"a": [1]})),
    "path_of_a_zone": index(pd.Index, data=[1], dtype="datetime64[ns, dateutil//etc/passwd]"),
    "zone": Forged(new_times, (pd.DatetimeIndex, {"data": TIMES._data, "tz": "dateutil//etc/x"})),
    "categories": backed(pd.Categorical, CATEGORIES, np.array([5], np.int8)),
    "other_values": backed(pd.Categorical, CATEGORIES, np.array(["a"], "O")),
    "times": backed(type(TIMES._data), np.dtype("M8[ns]"), np.arange(3)),
    "places": Forged(BlockManager, ([block(places=slice(7, 8, 1))], [ROWS[:1], ROWS])),
    "twice": Forged(BlockManager, ([block(), block()], [ROWS, ROWS])),
    "rows": Forged(BlockManager, ([block(np.ones((1, 9)))], [ROWS[:1], ROWS])),
    "dimensions": block(np.ones((1, 2, 3))),
    "many_places": block(places=slice(0, 9, 1)),
    "array_of_places": block(places=np.array([1, 2])),
    "values": block([1, 2]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_tables_are_made_of_sizes_that_agree(name: str) -> None:
    """No code, place or zone is believed before it was compared."""
    with pytest.raises(Refused):
        opened(HOSTILE[name])


@pytest.mark.parametrize("key", ["_data", "_mgr", "attrs"])
def test_a_table_has_only_its_own_inside(key: str) -> None:
    """Nothing else is put in its place, and no attribute of the file is kept."""
    made = pd.DataFrame({"a": [1]})
    state = {**made.__getstate__(), key: {"a": 1}}
    forged = Forged(copyreg._reconstructor, (pd.DataFrame, object, None), state)
    if key == "_mgr":
        with pytest.raises(Refused):
            opened(forged)
    else:
        again = opened(forged)
        assert again.equals(made)
        assert again.attrs == {}


def test_honest_tables_open() -> None:
    """Columns of every kind, and indexes of every kind, are what was saved."""
    frame = pd.DataFrame(
        {
            "a": [1.0, 2], "b": [1, 2], "c": ["x", "y"], "d": pd.Categorical(["u", "v"]),
            "e": pd.to_datetime(["2020", "2021"]), "f": pd.array([1, None], dtype="Int64"),
            "g": pd.array(["a", None], dtype="string"), "h": TIMES[:2].tz_localize("UTC"),
            "i": pd.interval_range(0, 2), "j": pd.to_timedelta([1, 2], unit="D"),
        }
    )  # fmt: skip
    indexes = [
        pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["x", "y"]), pd.Index([1.5, 2]),
        pd.CategoricalIndex(["a", "b"]), pd.period_range("2020", periods=2, freq="M"), TIMES,
        pd.interval_range(0, 2), pd.RangeIndex(2, name="n"), pd.to_timedelta([1], unit="D"),
    ]  # fmt: skip
    pd.testing.assert_frame_equal(frame, opened(frame))
    pd.testing.assert_series_equal(frame["d"], opened(frame["d"]))
    for expected in indexes:
        pd.testing.assert_index_equal(expected, opened(expected))
