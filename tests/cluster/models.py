"""Models that say which version of them answered."""

from __future__ import annotations

import pickle
from pathlib import Path

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
