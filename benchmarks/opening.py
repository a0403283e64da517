"""How long opening a bundle takes in a fresh process, beside the libraries alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from measurements import Opening, Results
from models import Site, save_with_scaler
from rich.progress import Progress

_BY_LIBRARIES = {
    "xgboost": """
import joblib, xgboost
scaler, booster = joblib.load({scaler!r}), xgboost.Booster()
booster.load_model({model!r})
""",
    "lightgbm": """
import joblib, lightgbm
scaler, booster = joblib.load({scaler!r}), lightgbm.Booster(model_file={model!r})
""",
}
_OWN_IMPORT = """
from pathlib import Path
from bundleserver.bundle import Bundle
from bundleserver.bundle.inferring import infer_manifest
"""
_AS_BUNDLE = """
directory = Path({directory!r})
Bundle.open(directory, infer_manifest(directory, "scaled"), model="scaled", version="1")
"""
_TIMED = """
import time
import numpy
began = time.perf_counter()
{before}
imported = time.perf_counter()
{body}
print(imported - began, time.perf_counter() - imported)
"""


def measure_openings(results: Results, times: int, site: Site, progress: Progress) -> None:
    """Open a scaler with each booster, by turns."""
    task = progress.add_task("openings", total=times * len(_BY_LIBRARIES))
    for name, alone in _BY_LIBRARIES.items():
        directory = save_with_scaler(site, name)
        files = {"scaler": str(directory / "scaler.joblib"), "model": str(_model(directory))}
        for _ in range(times):
            _, theirs = _seconds("", alone.format(**files))
            own, ours = _seconds(_OWN_IMPORT, _AS_BUNDLE.format(directory=str(directory)))
            results.openings.append(Opening(f"scaler and {name}", theirs, ours, own))
            progress.advance(task)


def _model(directory: Path) -> Path:
    return next(path for path in directory.iterdir() if path.stem == "model")


def _seconds(before: str, body: str) -> tuple[float, float]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _TIMED.format(before=before, body=body)]
    asked = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    imported, opened = asked.stdout.splitlines()[-1].split()
    return float(imported), float(opened)
