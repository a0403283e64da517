"""The manifest of the design, and small edits that break it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

DIGEST = "0123456789abcdef" * 4
WHERE = "/mnt/models/7/manifest.json"

EXAMPLE: dict[str, Any] = {
    "format": "bundle/v1",
    "name": "predictive-analytics",
    "version": "v3",
    "components": {
        "scaler": {
            "framework": "sklearn",
            "path": "isolation_forest_scaler.pkl",
            "sha256": DIGEST,
        },
        "model": {"framework": "sklearn", "path": "isolation_forest_model.pkl", "sha256": DIGEST},
    },
    "inputs": [
        {
            "name": "features",
            "datatype": "FP64",
            "shape": [-1, 3],
            "columns": ["cpu", "memory", "io"],
        }
    ],
    "steps": [
        {
            "component": "scaler",
            "method": "transform",
            "inputs": ["features"],
            "outputs": ["scaled"],
        },
        {"component": "model", "method": "predict", "inputs": ["scaled"], "outputs": ["label"]},
        {
            "component": "model",
            "method": "decision_function",
            "inputs": ["scaled"],
            "outputs": ["score"],
        },
    ],
    "outputs": [
        {"name": "label", "datatype": "INT64", "shape": [-1]},
        {"name": "score", "datatype": "FP64", "shape": [-1]},
    ],
    "examples": [
        {
            "inputs": {"features": [[0.5, 0.3, 0.8]]},
            "outputs": {"label": [1]},
            "rtol": 1e-6,
        }
    ],
    "metadata": {
        "trained_at": "2025-12-09T10:00:00Z",
        "metrics": {"f1": 0.92},
        "training_data": {"uri": "s3://x", "version": "1", "sha256": DIGEST, "rows": 2000},
        "source": {"repository": "r", "commit": "c", "notebook": "n"},
        "tags": {},
    },
    "requirements": {"python": "3.11", "packages": {"scikit-learn": "1.9.1", "numpy": "2.4.6"}},
}

Edit = Callable[[dict[str, Any]], object]


def put(value: object, *place: str | int) -> Edit:
    """Write a value at a place of a document."""

    def edit(document: dict[str, Any]) -> None:
        inner: Any = document
        for part in place[:-1]:
            inner = inner[part]
        inner[place[-1]] = value

    return edit


def drop(*place: str | int) -> Edit:
    """Take a key out of a document."""

    def edit(document: dict[str, Any]) -> None:
        inner: Any = document
        for part in place[:-1]:
            inner = inner[part]
        del inner[place[-1]]

    return edit


def op(name: str, inputs: list[str], outputs: list[str], **params: object) -> Edit:
    """Replace the last step by an operation, whose outputs nobody has to need."""
    step = {"op": name, "inputs": inputs, "outputs": outputs}
    if params:
        step["params"] = params

    def edit(document: dict[str, Any]) -> None:
        document["steps"][2] = step
        document["outputs"] = document["outputs"][:1]

    return edit


def component(**entry: object) -> Edit:
    """Replace one component."""
    return put(entry, "components", "scaler")


def edited(*edits: Edit) -> dict[str, Any]:
    """Return the example of the design, edited."""
    document = copy.deepcopy(EXAMPLE)
    for edit in edits:
        edit(document)
    return document
