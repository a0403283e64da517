"""Boosters of every kind, trained on few rows, and what XGBoost itself answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost

from bundleserver.frameworks.xgboost.installed import installed_version

rng = np.random.default_rng(7)
X = rng.normal(size=(120, 4))
X[::9, 1] = np.nan
NUMBERS = np.nan_to_num(X) @ [1.0, -2.0, 3.0, 0.5]
CLASSES = (NUMBERS > 0).astype(int)
THREE = np.digitize(NUMBERS, [-1.0, 1.0])
POSITIVE = np.abs(NUMBERS) + 0.1
GROUPS = np.repeat(np.arange(12), 10)
TWO = np.column_stack([NUMBERS, -NUMBERS])
CODES = np.column_stack([X[:, :3], rng.integers(0, 5, len(X))])
NAMES = ["cpu load", "mémoire", "io, read", "ö"]
FRAME = pd.DataFrame(
    {
        "load": X[:, 0],
        "region": pd.Categorical(rng.choice(["north", "south", "east coast"], len(X))),
        "rack": pd.Categorical(rng.choice([3, 7, 40], len(X))),
    }
)

INSTALLED = installed_version()
of_recorded_categories = pytest.mark.skipif(
    INSTALLED < (3, 1, 0), reason="XGBoost records categories from 3.1 on"
)

FEW = {"max_depth": 3, "nthread": 1}


def train(labels: Any, rounds: int = 4, *, rows: Any = X, **more: Any) -> xgboost.Booster:
    """Train a booster; what XGBoost's table has begins with ``of_``."""
    table = {key.removeprefix("of_"): more.pop(key) for key in [*more] if key.startswith("of_")}
    matrix = xgboost.DMatrix(rows, labels, **table)
    return xgboost.train({**FEW, **more}, matrix, rounds)


def aft() -> xgboost.Booster:
    """Train a model of survival, whose labels are intervals."""
    matrix = xgboost.DMatrix(X)
    matrix.set_float_info("label_lower_bound", POSITIVE)
    matrix.set_float_info("label_upper_bound", POSITIVE + 1)
    return xgboost.train({**FEW, "objective": "survival:aft"}, matrix, 4)


def stopped() -> xgboost.Booster:
    """Train with early stopping; the last trees are worse than the best."""
    matrix = xgboost.DMatrix(X, NUMBERS)
    worse = xgboost.DMatrix(X, NUMBERS[::-1])
    return xgboost.train(
        FEW, matrix, 30, evals=[(worse, "v")], early_stopping_rounds=2, verbose_eval=False
    )


BOOSTERS: Mapping[str, Callable[[], xgboost.Booster]] = {
    "numbers": lambda: train(NUMBERS),
    "named": lambda: train(NUMBERS, of_feature_names=NAMES),
    "logistic": lambda: train(CLASSES, objective="binary:logistic"),
    "margins": lambda: train(CLASSES, objective="binary:logitraw"),
    "hinge": lambda: train(CLASSES, objective="binary:hinge"),
    "softprob": lambda: train(THREE, objective="multi:softprob", num_class=3),
    "softmax": lambda: train(THREE, objective="multi:softmax", num_class=3),
    "counts": lambda: train(THREE, objective="count:poisson"),
    "gamma": lambda: train(POSITIVE, objective="reg:gamma"),
    "tweedie": lambda: train(POSITIVE, objective="reg:tweedie"),
    "quantiles": lambda: train(
        NUMBERS, objective="reg:quantileerror", quantile_alpha=np.array([0.1, 0.5, 0.9])
    ),
    "dart": lambda: train(NUMBERS, booster="dart", rate_drop=0.5),
    "linear": lambda: train(NUMBERS, booster="gblinear"),
    "linear classes": lambda: train(
        THREE, booster="gblinear", objective="multi:softprob", num_class=3
    ),
    "forest": lambda: train(
        CLASSES, objective="binary:logistic", num_parallel_tree=3, subsample=0.5
    ),
    "ranker": lambda: train(CLASSES, objective="rank:ndcg", of_qid=GROUPS),
    "cox": lambda: train(POSITIVE, objective="survival:cox"),
    "aft": aft,
    "targets": lambda: train(TWO),
    "labels": lambda: train(
        np.column_stack([CLASSES, 1 - CLASSES]), objective="binary:logistic"
    ),
    "vectors": lambda: train(TWO, multi_strategy="multi_output_tree", tree_method="hist"),
    "stopped": stopped,
    "pruned": lambda: train(NUMBERS, tree_method="exact", gamma=60.0, max_depth=5),
    "codes": lambda: train(
        NUMBERS, rows=CODES, tree_method="hist",
        of_feature_types=["q", "q", "q", "c"], of_enable_categorical=True,
    ),
}  # fmt: skip


def categories(frame: pd.DataFrame = FRAME) -> xgboost.Booster:
    """Train on columns of categories; their values are recorded."""
    labels = frame["region"].cat.codes * 2.0 + frame["rack"].cat.codes
    more = {"tree_method": "hist", "max_cat_to_onehot": 1}
    return train(labels, rows=frame, of_enable_categorical=True, **more)


def asked(booster: xgboost.Booster, rows: Any, *, margin: bool = False) -> Any:
    """Ask XGBoost in its own way."""
    matrix = xgboost.DMatrix(
        rows,
        feature_names=booster.feature_names,
        feature_types=booster.feature_types,
        enable_categorical=True,
    )
    return booster.predict(matrix, output_margin=margin)
