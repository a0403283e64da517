"""Models of the tests for skops: what one would save, by a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)
FRAME = pd.DataFrame({"area": X[:, 0], "town": np.where(Y, "Ulm", "Köln")})
TEXTS = ["good day", "bad night", "good night", "bad bad day"] * 5


def _houses() -> object:
    towns = make_column_transformer((OneHotEncoder(), ["town"]), remainder="passthrough")
    return make_pipeline(towns, Ridge()).fit(FRAME, X[:, 1])


MODELS: Mapping[str, Callable[[], object]] = {
    "a regression": lambda: LogisticRegression().fit(X, Y),
    "labels": lambda: LogisticRegression().fit(X, np.where(Y, "größer", "less")),
    "a pipeline": lambda: make_pipeline(StandardScaler(), SVC()).fit(X, Y),
    "a forest": lambda: RandomForestClassifier(5, random_state=0).fit(X, Y),
    "an isolation forest": lambda: IsolationForest(n_estimators=5, random_state=0).fit(X),
    "boosted trees": lambda: GradientBoostingClassifier(n_estimators=4).fit(X, Y),
    "histograms": lambda: HistGradientBoostingClassifier(max_iter=4).fit(X, Y),
    "neighbours": lambda: KNeighborsClassifier(algorithm="kd_tree").fit(X, Y),
    "a network": lambda: MLPClassifier((3,), max_iter=9, random_state=0).fit(X, Y),
    "a search": lambda: GridSearchCV(LogisticRegression(), {"C": [1, 2]}, cv=2).fit(X, Y),
}
"""Models of a table of three columns of numbers."""

OTHER_MODELS: Mapping[str, Callable[[], object]] = {
    "a table": _houses,
    "texts": lambda: make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TEXTS, [1, 0] * 10),
}
