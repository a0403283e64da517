"""Bundles with a manifest, saved by ``BundleStore`` as a notebook would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bundleserver import BundleStore
from bundleserver.tensors import Array
from tests.end_to_end import gated

COLUMNS = ("cpu", "memory", "io")
FEATURES = {"name": "features", "datatype": "FP64", "shape": [-1, 3], "columns": list(COLUMNS)}
STEPS = [
    {"component": "scaler", "method": "transform", "inputs": ["features"], "outputs": ["scaled"]},
    {"component": "model", "method": "predict", "inputs": ["scaled"], "outputs": ["label"]},
    {
        "component": "model",
        "method": "decision_function",
        "inputs": ["scaled"],
        "outputs": ["score"],
    },
]
OUTPUTS = [
    {"name": "label", "datatype": "INT64", "shape": [-1]},
    {"name": "score", "datatype": "FP64", "shape": [-1]},
]


class Detector:
    """One version's fitted objects and what they answer."""

    def __init__(self, seed: int) -> None:
        rows = np.random.default_rng(seed).random((200, 3))
        self.scaler = StandardScaler().fit(rows)
        self.forest = IsolationForest(n_estimators=10, random_state=seed)
        self.forest.fit(self.scaler.transform(rows))

    def answer(self, rows: list[list[float]]) -> dict[str, list[object]]:
        scaled = self.scaler.transform(np.array(rows, dtype=np.float64))
        return {
            "label": self.forest.predict(scaled).tolist(),
            "score": self.forest.decision_function(scaled).tolist(),
        }

    def save(self, store: BundleStore, name: str = "detector", **more: object) -> None:
        components = {"scaler": self.scaler, "model": self.forest}
        examples: Array = np.array([[0.5, 0.3, 0.8]])
        sections = {"inputs": [FEATURES], "steps": STEPS, "outputs": OUTPUTS}
        store.save(name, components, examples=examples, **sections, **more)


def save_sentiment(store: BundleStore) -> None:
    """Save a model that takes text and gives text."""
    texts, labels = ["good", "very good", "bad", "very bad"], ["größer", "größer", "less", "less"]
    model = make_pipeline(CountVectorizer(), LogisticRegression()).fit(texts, labels)
    store.save(
        "sentiment",
        model,
        inputs=[{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        outputs=[{"name": "label", "datatype": "BYTES", "shape": [-1]}],
        steps=[
            {"component": "model", "method": "predict", "inputs": ["text"], "outputs": ["label"]}
        ],
    )


def save_times(store: BundleStore, name: str, model: gated.Times, **more: object) -> None:
    """Save a model of ``gated.py``."""
    store.save(
        name,
        model.fit(),
        inputs=[{"name": "x", "datatype": "FP64", "shape": [-1, 1]}],
        outputs=[{"name": "y", "datatype": "FP64", "shape": [-1]}],
        steps=[{"component": "model", "method": "predict", "inputs": ["x"], "outputs": ["y"]}],
        frameworks={"model": "sklearn"},
        **more,
    )


def save_all(root: Path) -> dict[str, Detector]:
    """Save every model but those with gates; return the detector's versions."""
    store = BundleStore(root)
    detectors = {"v1": Detector(1), "v2": Detector(2)}
    for detector in detectors.values():
        detector.save(store, metrics={"f1": 0.92})
    save_sentiment(store)
    return detectors
