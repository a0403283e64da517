"""What the tests and the pictures of the page show: a canary, a broken version, a model of text."""

from __future__ import annotations

import json
from pathlib import Path

from bundleserver import BundleStore
from tests.end_to_end.processes import ServerProcess
from tests.end_to_end.published import Detector, save_sentiment

ROWS = {"instances": [[0.5, 0.3, 0.8]]}
WRONG_ROWS = {"instances": [[0.5, 0.3]]}

CANARY = {
    "version": "v2",
    "steps": [10, 25, 50, 100],
    "interval_seconds": 14,
    "min_requests": 10,
    "max_error_rate": 0.5,
}
TRAINED_ON = {
    "uri": "s3://metrics/hosts-2025-11.parquet",
    "rows": 200,
    "sha256": "b1c9b3f0a2d54e7c8f6d1e0b9a7c5d3e1f2a4b6c8d0e2f4a6b8c0d2e4f6a8b0c",
}


def save_scene(root: Path, **canary: object) -> None:
    """Save three models: ``detector`` with a canary and a broken version, and two others.

    Keywords are rules of the canary.
    """
    store = BundleStore(root)
    for seed in range(3):
        Detector(seed).save(
            store,
            "detector",
            metrics={"f1": 0.91 + seed / 100, "roc_auc": 0.957 + seed / 500},
            metadata={"training_data": TRAINED_ON, "source": {"commit": "4f2a91c"}},
        )
    break_files(store, "detector", "v3")
    config = {
        "policy": "all",
        "default": "v1",
        "labels": {"stable": "v1", "next": "v2"},
        "shadow": ["v2"],
        "canary": {**CANARY, **canary},
    }
    (root / "detector" / "serving.json").write_text(json.dumps(config))
    save_sentiment(store)
    (root / "sentiment" / "serving.json").write_text(json.dumps({"policy": "latest:2"}))
    Detector(7).save(store, "turbine-anomalies")
    break_files(store, "turbine-anomalies", "v1")


def break_files(store: BundleStore, model: str, version: str) -> None:
    """Add a byte to a file of a version, so that it does not load."""
    with next(store.path(model, version).glob("model.*")).open("ab") as file:
        file.write(b"!")


def ask(server: ServerProcess, count: int) -> None:
    """Send requests, one of ten of them wrong."""
    for at in range(count):
        server.predict("detector", WRONG_ROWS if at % 10 == 9 else ROWS)
        if at % 3 == 0:
            server.predict("sentiment", {"instances": ["very good"]})
