"""Fitted models whose examples have gaps, booleans, tiny numbers and large integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from bundleserver import BundleStore

LARGE = 2**53
TINY = 1.25e-7
COLUMNS = 60


def save_gaps(root: Path) -> None:
    """Save a tree that knows a missing city from an empty one; its example lacks two values."""
    cities = np.array([None, "", "Graz"] * 10, dtype=object)
    table = pd.DataFrame(
        {"city": cities, "size": np.arange(30, dtype=np.float64), "new": [True, False] * 15}
    )
    table.loc[0, "size"] = np.nan
    said = table["city"].map({None: "missing", "": "empty", "Graz": "there"}).fillna("missing")
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["city"]), ("passthrough", ["size", "new"])
    )
    model = make_pipeline(columns, DecisionTreeClassifier(random_state=0)).fit(table, said)
    BundleStore(root).save("gaps", model, examples=table[:1])


def save_broad(root: Path) -> None:
    """Save two models of more columns than there are fields: tiny numbers, and a mixed table."""
    random = np.random.default_rng(0)
    names = [f"c{place}" for place in range(COLUMNS)]
    table = pd.DataFrame(random.random((40, COLUMNS)), columns=names)
    table.loc[0, "c0"] = TINY
    model = DecisionTreeClassifier(random_state=0).fit(table, (table["c0"] < 1e-6).astype(int))
    BundleStore(root).save("tiny", model, examples=table[:1])
    mixed = table.assign(kind=["u", "v"] * 20)
    columns = make_column_transformer((OneHotEncoder(), ["kind"]), remainder="passthrough")
    model = make_pipeline(columns, DecisionTreeClassifier(random_state=0))
    BundleStore(root).save("mixed", model.fit(mixed, mixed["kind"]), examples=mixed[:1])


def save_ids(root: Path) -> None:
    """Save two versions that answer with integers of more than 53 bits, one apart."""
    for more in (1, 0):
        known = np.array([[LARGE + more, 1]] * 3 + [[7, 2]])
        model = DummyClassifier(strategy="constant", constant=[LARGE + more, 1])
        BundleStore(root).save("ids", model.fit(np.ones((4, 1)), known), examples=np.ones((1, 1)))


def save_sum(root: Path, *names: str) -> None:
    """Save a version of a regression with these columns."""
    table = pd.DataFrame(np.random.default_rng(0).random((9, len(names))), columns=list(names))
    model = LinearRegression().fit(table, table.sum(axis=1))
    BundleStore(root).save("sum", model, examples=table[:1], allow_breaking=True)
