"""Directories that KServe's sklearn server would take: one model, no manifest."""

from __future__ import annotations

import pickle
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

FILES = {
    "iris": "model.joblib",
    "digits": "model.pkl",
    "words": "words.pickle",
    "prices": "model.joblib",
    "two-outputs": "model.joblib",
}


def write_dropins(root: Path) -> None:
    """Write one directory for each kind of file and model that KServe's sklearn server takes."""
    random = np.random.default_rng(1)
    rows = random.random((60, 4))
    whole = (rows * 16).astype(int)
    labels = (rows[:, 0] > 0.5).astype(int)
    houses = pd.DataFrame({"rooms": whole[:, 0], "town": np.where(labels, "Ulm", "Köln")})
    towns = make_column_transformer((OneHotEncoder(), ["town"]), remainder="passthrough")
    models = {
        "iris": LogisticRegression().fit(rows, labels),
        "digits": LogisticRegression().fit(whole, labels),
        "words": LogisticRegression().fit(rows, np.where(labels, "größer", "less")),
        "prices": make_pipeline(towns, LinearRegression()).fit(houses, whole[:, 1]),
        "two-outputs": LinearRegression().fit(rows, rows[:, :2]),
    }
    for name, model in models.items():
        (root / name).mkdir(parents=True)
        path = root / name / FILES[name]
        if path.suffix == ".joblib":
            joblib.dump(model, path)
        else:
            path.write_bytes(pickle.dumps(model))
