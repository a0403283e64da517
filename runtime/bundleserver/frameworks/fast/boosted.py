"""Boosters in treelite, used for a few rows if they answer them as their library does, but faster.

LightGBM adds leaves in double precision, from zero. XGBoost adds them in single precision, from
the booster's ``base_score``; treelite adds that last, so that it goes into the first trees' leaves.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from bundleserver.frameworks.fast import gtil
from bundleserver.frameworks.fast.comparing import CHECKED_ROWS, draw_rows, same_bits
from bundleserver.frameworks.fast.timing import choose_ways
from bundleserver.tensors import Array

LOG = logging.getLogger(__name__)

MOST_BYTES = 50 << 20
"""The largest file of a booster that is converted; its copy has about twice as many bytes."""

_GAPS = 0.1
"""The share of missing values in every other of the rows that are compared."""

Answers = Callable[[Array], Array]
"""From rows ``[n, f]`` to one method's answers."""


@dataclass(frozen=True)
class Shortcut:
    """A booster's methods through treelite; immutable, so any thread may call it.

    Attributes:
        most: the largest number of rows for which it was measured faster.
        methods: what answers each method.
        metadata: what is accelerated and how, ready for JSON.
    """

    most: int
    methods: Mapping[str, Answers]
    metadata: Mapping[str, object]

    @property
    def facts(self) -> Mapping[str, object]:
        """The entry of a component's metadata."""
        return {"accelerated": dict(self.metadata)}

    def answer(self, method: str, rows: Array) -> Array | None:
        """Return the library's answers ``[n]`` or ``[n, columns]``; None: its own must be called.

        Infinite numbers are left to the library, which refuses them.
        """
        ways = self.methods.get(method)
        if ways is None or not 0 < len(rows) <= self.most or np.isinf(rows).any():
            return None
        return ways(rows)


@dataclass(frozen=True)
class _Nodes:
    left: Array
    feature: Array
    threshold: Array


def of_xgboost(booster: Any, width: int, native: Mapping[str, Answers]) -> Shortcut | None:
    """Convert an ``xgboost.Booster``.

    Args:
        booster: the trained booster; categories, linear ones and DART's are not converted.
        width: the number of columns.
        native: the library's own answers by method, the sums of leaves last: unless these are
            equal nothing is used, since a function of them may hide a difference.
    """
    return _tried(lambda: _from_xgboost(booster, width), width, native)


def of_lightgbm(booster: Any, width: int, native: Mapping[str, Answers]) -> Shortcut | None:
    """Convert a ``lightgbm.Booster``; the arguments are those of :func:`of_xgboost`."""
    return _tried(lambda: _imported().from_lightgbm(booster), width, native)


def _from_xgboost(booster: Any, width: int) -> Any:
    return _with_base_first(_imported().from_xgboost(booster), _base_of(booster, width))


def _imported() -> Any:
    import treelite.frontend

    return treelite.frontend


def _tried(
    convert: Callable[[], Any], width: int, native: Mapping[str, Answers]
) -> Shortcut | None:
    try:
        with np.errstate(all="ignore"):
            return _shortcut(convert(), width, native)
    except Exception as error:  # noqa: BLE001 - the libraries' own code; the booster still works
        LOG.debug("a booster cannot be accelerated: %r", error)
        return None


def _shortcut(model: Any, width: int, native: Mapping[str, Answers]) -> Shortcut | None:
    trees = [_nodes(model, index) for index in range(model.num_tree)]
    if not trees:
        return None
    drawn = draw_rows(trees, width)
    gaps = np.random.default_rng(1).random(drawn.shape) < _GAPS
    gaps[::2] = False
    tables = (drawn[:1], np.where(gaps, np.nan, drawn))
    equal = {
        method: ways
        for method, library in native.items()
        if (ways := _equal(model, width, method, library, tables)) is not None
    }
    *_, sums = native
    if sums not in equal:
        return None
    method = next(iter(equal))
    choices = choose_ways(
        native[method],
        {"treelite": equal[method]},
        lambda size: np.resize(drawn, (size, width)),
        beyond=None,
    )
    most = max((most or 0 for most, name in choices if name is not None), default=0)
    if choices[0][1] is None or not most:
        return None
    known = {
        "methods": list(equal),
        "engines": [{"rows_at_most": most, "engine": "treelite"}],
        "equal": f"bit for bit on {CHECKED_ROWS} random rows",
        "treelite": gtil.version(),
    }
    return Shortcut(most, MappingProxyType(equal), MappingProxyType(known))


def _equal(
    model: Any, width: int, method: str, library: Answers, tables: Sequence[Array]
) -> Answers | None:
    """Return what answers a method with the library's bits; None if nothing does."""
    expected = [library(table) for table in tables]
    shape = expected[0].shape[1:]
    columns = int(np.prod(shape, dtype=int))
    for transformed in (False, True):
        try:
            sums = gtil.predictor(model, width, columns, transformed=transformed)
        except ValueError:
            continue
        ways = _Ways(sums, shape)
        if all(map(same_bits, expected, map(ways, tables))):
            return ways
    LOG.debug("a booster's %s is not accelerated: treelite's answers differ", method)
    return None


@dataclass(frozen=True)
class _Ways:
    sums: gtil.Sums
    shape: tuple[int, ...]

    def __call__(self, rows: Array) -> Array:
        return self.sums(rows).reshape(len(rows), *self.shape)


def _nodes(model: Any, index: int) -> _Nodes:
    tree = model.get_tree_accessor(index)
    if np.any(tree.get_field("category_list")):
        raise ValueError("it has categories")
    fields = (tree.get_field(name) for name in ("cleft", "split_index", "threshold"))
    return _Nodes(*(np.array(values) for values in fields))


def _base_of(booster: Any, width: int) -> Array:
    """Return the margins ``[columns]`` that XGBoost begins its sums with, to the bit.

    It makes them of ``base_score`` by single-precision functions of its own; so it is asked, with
    its first trees' leaves set to zero.
    """
    from xgboost import Booster, DMatrix

    document = json.loads(booster[0:1].save_raw("json"))
    for tree in document["learner"]["gradient_booster"]["model"]["trees"]:
        values = zip(tree["left_children"], tree["split_conditions"], strict=True)
        tree["split_conditions"] = [0.0 if left == -1 else value for left, value in values]
    alone = Booster(model_file=bytearray(json.dumps(document).encode()))
    row = DMatrix(np.zeros((1, width), np.float32))
    return np.ravel(alone.predict(row, output_margin=True, validate_features=False))


def _with_base_first(model: Any, base: Array) -> Any:
    """Move a model's base scores into the leaves of the first tree of each of its columns."""
    header = model.get_header_accessor()
    columns = np.array(header.get_field("class_id"))
    for column, score in enumerate(base):
        first = int(np.flatnonzero(columns == column)[0])
        tree = model.get_tree_accessor(first)
        values = np.array(tree.get_field("leaf_value"))
        is_leaf = np.array(tree.get_field("cleft")) == -1
        tree.set_field("leaf_value", np.where(is_leaf, values + score, values))
    header.set_field("base_scores", np.zeros(len(header.get_field("base_scores"))))
    return model
