"""Listed names only, used to hang or to crash the process; nobody opens these without a gate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from tests.hostile.gadgets.writing import CORE, Call, Name, New, State, add

X = np.random.default_rng(18).random((40, 3))
Y = np.arange(40) % 2


def _range(length: int) -> Call:
    return Call(Name("builtins.range"), length)


def _add(name: str, content: Callable[[str], object], *uses: str) -> None:
    add(name, content, uses=uses, theoretical="would hang or crash")


for _name in ("builtins.set", "builtins.frozenset", "collections.deque", "collections.Counter"):
    _add(f"long_{_name}", lambda path, name=_name: Call(Name(name), _range(10**12)))
_add(
    "long_number",
    lambda path: Call(Name("builtins.int"), Call(Name("decimal.Decimal"), "1e99999999")),
)
_add("long_fraction", lambda path: Call(Name("fractions.Fraction"), "1e99999999"))
_add("long_bytes", lambda path: Call(Name("builtins.bytearray"), 1 << 45))
_add(
    "codes_outside_of_their_levels",
    lambda path: Call(
        Name("builtins.set"),
        Call(
            Name("pandas.core.indexes.base._new_Index"),
            pd.MultiIndex,
            {
                "levels": [pd.Index([f"a{number}" for number in range(200)], dtype=object)],
                "codes": [np.arange(200, 32_000)],
                "sortorder": None,
                "names": ["a"],
            },
        ),
    ),
)


def _tree(change: Callable[[Any], None]) -> object:
    model = DecisionTreeClassifier().fit(X, Y)
    state = model.tree_.__getstate__()
    state["nodes"] = state["nodes"].copy()
    change(state)
    made = Call(Name("sklearn.tree._tree.Tree"), 3, np.array([2]), 1, state=state)
    return State(New(type(model)), {**model.__getstate__(), "tree_": made})


def _first(name: str, value: int) -> Callable[[Any], None]:
    def change(state: Any) -> None:
        state["nodes"][name][0] = value

    return change


_add("tree_that_leads_to_itself", lambda path: _tree(_first("left_child", 0)), "predict")
_add("tree_that_leads_outside", lambda path: _tree(_first("right_child", 1 << 40)), "predict")
_add("tree_of_another_column", lambda path: _tree(_first("feature", 1 << 40)), "predict")
_add(
    "tree_without_nodes",
    lambda path: State(
        New(DecisionTreeClassifier),
        {
            **DecisionTreeClassifier().fit(X, Y).__getstate__(),
            "tree_": Call(Name("sklearn.tree._tree.Tree"), 3, np.array([2]), 1),
        },
    ),
    "predict",
)


def _neighbors(path: str) -> object:
    model = KNeighborsClassifier(2, algorithm="ball_tree").fit(X, Y)
    state = list(model._tree.__getstate__())
    state[1] = np.full(len(X), 1 << 40)
    made = Call(Name("sklearn.neighbors._ball_tree.newObj"), type(model._tree), state=tuple(state))
    return State(New(type(model)), {**model.__getstate__(), "_tree": made})


def _boosted(path: str) -> object:
    model = HistGradientBoostingRegressor(max_iter=2, min_samples_leaf=2).fit(X, X[:, 0])
    model._predictors[0][0].nodes["left"][0] = 1 << 31
    return model


def _support(path: str) -> object:
    model = SVC().fit(X, Y)
    count = int(model._n_support.sum())
    model._n_support = np.array([-(1 << 30), (1 << 30) + count], dtype="i4")
    return model


def _aliased(path: str) -> object:
    """Write into the nodes of a second step by a first, after they were checked."""
    width = 161
    wide = np.random.default_rng(18).random((300, width))
    model = HistGradientBoostingRegressor(max_iter=1, max_leaf_nodes=12, min_samples_leaf=2)
    model.fit(wide, np.arange(300.0))
    tree = model._predictors[0][0]
    nodes = bytearray(tree.nodes.tobytes())
    array = Name(f"{CORE}.numeric._frombuffer")
    same = Call(array, nodes, tree.nodes.dtype, (len(tree.nodes),), "C")
    numbers = Call(array, nodes, np.dtype("f8"), (1, len(nodes) // 8), "C")
    step = State(
        New(Name("sklearn.preprocessing._function_transformer.FunctionTransformer")),
        {
            "func": np.negative, "inverse_func": None, "validate": False, "accept_sparse": False,
            "check_inverse": False, "feature_names_out": None, "kw_args": {"out": numbers},
            "inv_kw_args": None,
        },
    )  # fmt: skip
    last = State(
        New(type(model)),
        {
            **model.__getstate__(),
            "_predictors": [[State(New(type(tree)), {**vars(tree), "nodes": same})]],
        },
    )
    return State(
        New(Name("sklearn.pipeline.Pipeline")),
        {
            "steps": [("a", step), ("b", last)], "memory": None, "verbose": False,
            "transform_input": None,
        },
    )  # fmt: skip


_add("neighbors_outside", _neighbors, "predict")
_add("boosted_tree_that_leads_outside", _boosted, "predict")
_add("negative_support", _support, "predict")
_add("checked_nodes_that_are_written_later", _aliased)
