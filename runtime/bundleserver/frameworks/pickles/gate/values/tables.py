"""pandas' tables, indexes and arrays, made anew by constructors that compare their sizes.

pandas believes its own pickles: codes of categories, places of columns and sizes of blocks are used
unchecked, some in compiled code. So nothing of its own unpickling is called with more than what was
compared here, and each table has arrays of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, cast

import numpy as np

from bundleserver.frameworks.pickles.gate.listing import NEW, own_names
from bundleserver.frameworks.pickles.gate.refusal import Refused, kind_of
from bundleserver.frameworks.pickles.gate.session import Form, Session
from bundleserver.frameworks.pickles.gate.values.calls import check_keys
from bundleserver.frameworks.pickles.gate.values.table_arrays import copied, is_a, is_array

_INDEX = "pandas.core.indexes.base.Index"
_BLOCK = "pandas.core.internals.blocks.Block"
_MANAGERS = "pandas.core.internals.managers"
_LONGEST_RANGE = 1 << 32


def _new_index(session: Session, args: tuple[object, ...]) -> object:
    """Make an index of checked parts."""
    if len(args) != 2 or type(args[1]) is not dict:
        raise Refused("it makes an index with other arguments than pandas")
    of, parts = session.reference_to(args[0]), cast("dict[object, object]", args[1])
    is_index = of is not None and isinstance(of.real, type) and _INDEX in own_names(of.real)
    if of is None or not is_index or NEW not in of.ways:
        raise Refused("it makes an index of no listed class of pandas")
    kind = cast(Any, of.real)
    name = kind.__qualname__
    if name == "RangeIndex":
        return _range_index(session, kind, parts)
    if name == "MultiIndex":
        return _multi_index(session, kind, parts)
    if name == "IntervalIndex":
        return _interval_index(session, kind, parts)
    data = _only(parts, "data", "name")["data"]
    if not is_array(data) or cast(Any, data).ndim != 1:
        raise Refused(f"an index is made of a {kind_of(data)}")
    return _named(session, kind, copied(data), parts)


def _named(session: Session, make: Callable[..., Any], data: Any, parts: Mapping[Any, Any]) -> Any:
    name = parts.get("name")
    check_keys(session, [name])
    if type(data) is np.ndarray:
        return make(data, dtype=data.dtype, name=name)
    return make(data, name=name)


def _range_index(session: Session, kind: Any, parts: Mapping[Any, Any]) -> object:
    _only(parts, "start", "stop", "step", "name")
    bounds = [parts.get("start", 0), parts.get("stop"), parts.get("step", 1)]
    if not all(type(bound) is int and abs(bound) < _LONGEST_RANGE for bound in bounds):
        raise Refused("an index of a range has bounds that are no numbers, or very large ones")
    check_keys(session, [parts.get("name")])
    return kind(range(*bounds), name=parts.get("name"))


def _multi_index(session: Session, kind: Any, parts: Mapping[Any, Any]) -> object:
    _only(parts, "levels", "codes", "sortorder", "names")
    levels, codes, names = (_listed(parts.get(name)) for name in ("levels", "codes", "names"))
    order = parts.get("sortorder")
    if not len(levels) == len(codes) == len(names) or type(order) not in (int, type(None)):
        raise Refused("an index of several levels has not as many codes and names")
    for level, places in zip(levels, codes, strict=True):
        if not is_a(level, _INDEX) or not _are_codes(places, len(cast(Any, level))):
            raise Refused("an index of several levels has codes outside of them")
    check_keys(session, names)
    own = [cast(Any, places).copy() for places in codes]
    return kind(levels=levels, codes=own, names=names, sortorder=order, verify_integrity=True)


def _are_codes(places: object, count: int) -> bool:
    if type(places) is not np.ndarray or places.ndim != 1 or places.dtype.kind != "i":
        return False
    return not places.size or (int(places.min()) >= -1 and int(places.max()) < count)


def _interval_index(session: Session, kind: Any, parts: Mapping[Any, Any]) -> object:
    _only(parts, "left", "right", "closed", "name", "dtype")
    left, right, closed = (parts.get(name) for name in ("left", "right", "closed"))
    are_ends = all(is_array(end) or is_a(end, _INDEX) for end in (left, right))
    if not are_ends or type(closed) is not str:
        raise Refused("an index of intervals has ends that are no arrays")
    check_keys(session, [parts.get("name")])
    return kind.from_arrays(copied(left), copied(right), closed=closed, name=parts.get("name"))


def _only(parts: Mapping[Any, Any], *names: str) -> Mapping[Any, Any]:
    if not {*parts} <= {*names}:
        raise Refused(f"it makes an index with other parts than {sorted(names)}")
    return {**dict.fromkeys(names), **parts}


def _listed(parts: object) -> list[object]:
    if type(parts) not in (list, tuple):
        raise Refused(f"an index has a {kind_of(parts)} in place of a list")
    return [*cast("Sequence[object]", parts)]


def _block(session: Session, args: tuple[object, ...]) -> object:
    """Make some columns of a table: their values, and their places."""
    values, places, dimensions = args if len(args) == 3 else (None, None, None)
    if not is_array(values) or type(dimensions) is not int or dimensions not in (1, 2):
        raise Refused("the columns of a table are no arrays")
    return _made_block(values, places, dimensions)


def _made_block(values: Any, places: object, dimensions: int) -> object:
    count = values.shape[0] if values.ndim == 2 or dimensions == 1 else 1
    if values.ndim not in (1, 2) or (dimensions == 1 and values.ndim != 1):
        raise Refused("the columns of a table have other dimensions")
    if type(values) is np.ndarray and values.ndim != dimensions:
        raise Refused("the columns of a table have other dimensions")
    own = _places(places, count)
    unpickle = import_module("pandas._libs.internals")._unpickle_block
    return unpickle(copied(values), own, dimensions)


def _places(places: object, count: int) -> object:
    if type(places) is slice:
        bounds = (places.start, places.stop, places.step)
        if all(type(bound) in (int, type(None)) for bound in bounds):
            found = range(*places.indices(1 << 40))
            if len(found) == count and bounds[0] is not None and bounds[1] is not None:
                return places
    elif type(places) is np.ndarray and places.dtype == np.int64 and places.shape == (count,):
        return places.copy()
    raise Refused("the columns of a table have other places than pandas writes")


def _manager(session: Session, args: tuple[object, ...]) -> object:
    """Make the inside of a table: each column has one place, and one value for each row."""
    blocks, axes = args if len(args) == 2 else (None, None)
    if type(blocks) not in (list, tuple) or type(axes) is not list or len(axes) != 2:
        raise Refused("a table is made of something else than blocks and two axes")
    own = tuple(cast("Sequence[Any]", blocks))
    if not all(is_a(axis, _INDEX) for axis in axes) or not all(is_a(of, _BLOCK) for of in own):
        raise Refused("a table is made of something else than blocks and two axes")
    rows = len(cast(Any, axes[1]))
    places = [np.asarray(block.mgr_locs.as_array) for block in own]
    all_places = np.sort(np.concatenate([np.empty(0, np.int64), *places]))
    is_sound = np.array_equal(all_places, np.arange(len(cast(Any, axes[0]))))
    if not is_sound or not all(block.ndim == 2 and block.shape[-1] == rows for block in own):
        raise Refused("the columns of a table have not one place each, or not as many rows")
    return import_module(_MANAGERS).BlockManager(own, [*axes], verify_integrity=True)


def _set_single(session: Session, made: object, state: object) -> None:
    """Give the inside of a series its values and its index."""
    parts = state[3] if type(state) is tuple and len(state) == 4 else None
    parts = parts.get("0.14.1") if type(parts) is dict else None
    axes, blocks = (parts.get("axes"), parts.get("blocks")) if type(parts) is dict else (None,) * 2
    if not (type(axes) is type(blocks) is list and len(axes) == len(blocks) == 1):
        raise Refused("a series is made of something else than values and an index")
    axis, block = axes[0], blocks[0]
    values = block.get("values") if type(block) is dict else None
    is_sound = is_a(axis, _INDEX) and is_array(values) and cast(Any, values).ndim == 1
    if not is_sound or len(cast(Any, values)) != len(axis):
        raise Refused("a series has not as many values as its index")
    places = _places(block.get("mgr_locs"), len(axis))
    own = {"axes": [axis], "blocks": [{"values": copied(values), "mgr_locs": places}]}
    cast(Any, made).__setstate__(([], [], [], {"0.14.1": own}))


def _set_table(session: Session, made: object, state: object) -> None:
    """Give a table or a series its inside, and the name; its other attributes are not believed."""
    manager = state.get("_mgr") if type(state) is dict else None
    is_series = is_a(made, "pandas.core.series.Series")
    expected = f"{_MANAGERS}.{'SingleBlockManager' if is_series else 'BlockManager'}"
    if type(state) is not dict or not is_a(manager, expected):
        raise Refused("a table has something else inside than pandas writes")
    is_unique = state.get("_flags") == {"allows_duplicate_labels": False}
    own: dict[str, object] = {
        "_mgr": manager,
        "_typ": "series" if is_series else "dataframe",
        "_metadata": ["_name"] if is_series else [],
        "attrs": {},
        "_flags": {"allows_duplicate_labels": not is_unique},
    }
    if is_series:
        check_keys(session, [state.get("_name")])
        own["_name"] = state.get("_name")
    cast(Any, made).__setstate__(own)


TABLE_FORMS: Mapping[str, Form] = {
    "pandas.core.indexes.base._new_Index": _new_index,
    "pandas.core.indexes.datetimes._new_DatetimeIndex": _new_index,
    "pandas.core.indexes.interval._new_IntervalIndex": _new_index,
    "pandas._libs.internals._unpickle_block": _block,
    f"{_MANAGERS}.BlockManager": _manager,
}

TABLE_SETTERS = {
    f"{_MANAGERS}.SingleBlockManager": _set_single,
    "pandas.core.generic.NDFrame": _set_table,
}
