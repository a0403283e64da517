"""Boosters of every kind, with a table of what they were trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import lightgbm as lgb
import numpy as np
import pandas as pd

ROWS = 240
PARAMS = {
    "verbose": -1,
    "num_leaves": 7,
    "min_data_in_leaf": 5,
    "num_threads": 1,
    "min_data_per_group": 5,
    "cat_smooth": 1.0,
}
_DRAW = np.random.default_rng(7)
X = _DRAW.normal(size=(ROWS, 4))
X[::17, 1] = np.nan
TARGET = np.where(np.isnan(X[:, 1]), 1.0, X[:, 0] * 2 + X[:, 2])
CLASSES = _DRAW.integers(0, 3, ROWS)

TABLE = pd.DataFrame(
    {
        "net amount": X[:, 0],
        "city": pd.Categorical(_DRAW.choice(["Bern", "Oslo", "São Paulo"], ROWS)),
        "level": pd.Categorical(_DRAW.choice([10, 20, 30, 40], ROWS)),
        "is_new": pd.Categorical(_DRAW.choice([False, True], ROWS)),
        "count": _DRAW.integers(0, 9, ROWS),
    }
)
TABLE.loc[::19, "city"] = np.nan
OF_CATEGORIES = (
    X[:, 0] / 4
    + TABLE["city"].cat.codes.to_numpy() % 2 * 3
    + (TABLE["level"].cat.codes.to_numpy() % 3 == 1) * 2
    + TABLE["is_new"].cat.codes.to_numpy()
)


class Trained(NamedTuple):
    """A booster and rows for it."""

    booster: lgb.Booster
    rows: np.ndarray | pd.DataFrame


def train(
    target: np.ndarray, rows: np.ndarray | pd.DataFrame = X, rounds: int = 6, **params: object
) -> Trained:
    """Train one."""
    of_data = {key: params.pop(key) for key in ("group", "categorical_feature") if key in params}
    data = lgb.Dataset(rows, target, params={"verbose": -1}, **of_data)
    return Trained(lgb.train({**PARAMS, **params}, data, rounds), rows)


def _stopped_early() -> Trained:
    half = ROWS // 2
    train_set = lgb.Dataset(X[:half], TARGET[:half])
    valid = lgb.Dataset(X[half:], _DRAW.normal(size=half), reference=train_set)
    stop = lgb.early_stopping(2, verbose=False)
    params = {**PARAMS, "objective": "regression", "metric": "l2"}
    return Trained(lgb.train(params, train_set, 40, valid_sets=[valid], callbacks=[stop]), X)


KINDS: dict[str, Callable[[], Trained]] = {
    "regression": lambda: train(TARGET, objective="regression"),
    "l1": lambda: train(TARGET, objective="regression_l1"),
    "square root": lambda: train(np.abs(TARGET), objective="regression", reg_sqrt=True),
    "poisson": lambda: train(np.abs(TARGET), objective="poisson"),
    "quantile": lambda: train(TARGET, objective="quantile", alpha=0.9),
    "binary": lambda: train((TARGET > 0) * 1.0, objective="binary", sigmoid=0.7),
    "multiclass": lambda: train(CLASSES, objective="multiclass", num_class=3),
    "one versus all": lambda: train(CLASSES, objective="multiclassova", num_class=3),
    "entropy": lambda: train(1 / (1 + np.exp(-TARGET)), objective="cross_entropy"),
    "ranking": lambda: train(CLASSES, objective="lambdarank", group=[20] * 12),
    "forest": lambda: train(
        (TARGET > 0) * 1.0, objective="binary", boosting="rf", bagging_freq=1, bagging_fraction=0.7
    ),
    "dart": lambda: train(TARGET, objective="regression", boosting="dart", drop_rate=0.5),
    "goss": lambda: train(TARGET, objective="regression", data_sample_strategy="goss"),
    "linear": lambda: train(X[:, 0] * 2 + X[:, 3], objective="regression", linear_tree=True),
    "monotone": lambda: train(TARGET, objective="regression", monotone_constraints=[1, 0, 0, -1]),
    "own objective": lambda: train(
        TARGET, objective=lambda p, data: (p - data.get_label(), np.ones_like(p))
    ),
    "constant": lambda: train(np.ones(ROWS), objective="regression", min_data_in_leaf=ROWS),
    "one column": lambda: train(TARGET, X[:, :1], objective="regression"),
    "numbers of categories": lambda: train(
        TARGET, np.round(np.abs(X)), objective="regression", categorical_feature=[0, 2]
    ),
    "stopped early": _stopped_early,
    "named": lambda: train(TARGET, pd.DataFrame(X, columns=["a", "b c", "d=e", "ü"])),
    "categories": lambda: train(OF_CATEGORIES, TABLE, objective="regression"),
    "classes of categories": lambda: train(
        np.digitize(OF_CATEGORIES, [1.5, 3.5]), TABLE, objective="multiclass", num_class=3
    ),
}
