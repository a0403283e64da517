"""Models that say which version of them answered."""

from __future__ import annotations

import pickle
from pathlib import Path

from sklearn.linear_model import LinearRegression, LogisticRegression

from bundleserver import BundleStore
from tests.signatures import ROWS, fitted

ANY = ROWS[:1].tolist()
"""A row that each model here takes."""


def save(root: Path, name: str, *answers: int, sign_with: Path | None = None) -> Path:
    """Save a version for each answer, ``v1`` first; return the model's directory."""
    store = BundleStore(root)
    for answer in answers:
        store.save(name, fitted(answer), examples=ROWS, sign_with=sign_with)
    return root / name


def bare(root: Path, name: str, answer: int, file: str = "model.pkl") -> Path:
    """Write a model as a notebook does, without a manifest; return its directory."""
    (root / name).mkdir(parents=True)
    (root / name / file).write_bytes(pickle.dumps(fitted(answer)))
    return root / name


def save_linear(root: Path) -> Path:
    """Save a regression, ``sums``, and a classifier, ``signs``, of two columns; return the root."""
    store, rows = BundleStore(root), [[0.1, 0.2], [0.9, 0.4], [0.3, 0.3]]
    store.save("sums", LinearRegression().fit(rows, [0.3, 1.3, 0.6]), examples=rows)
    store.save("signs", LogisticRegression().fit(rows, [0, 1, 0]), examples=rows)
    return root
