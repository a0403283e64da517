"""A server whose loads hang, or whose files are replaced while it reads them."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import signal
import threading
import time
from pathlib import Path

import joblib
import numpy as np
from sklearn.linear_model import LinearRegression

from tests.end_to_end.processes import eventually, running

ROWS = {"instances": [[1.0]]}


class Marker:
    """An object whose opening makes a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


class Sleeper:
    """An object whose opening takes an hour."""

    def __reduce__(self) -> tuple[object, tuple[float]]:
        return time.sleep, (3600.0,)


def write_model(directory: Path, slope: float, name: str = "model", padding: int = 0) -> str:
    """Write a fitted model, and return its digest."""
    directory.mkdir(parents=True, exist_ok=True)
    model = LinearRegression().fit([[0.0], [1.0]], [0.0, slope])
    model.padding_ = np.zeros(padding)
    path = directory / f"{name}.joblib"
    joblib.dump(model, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_sleeper(directory: Path) -> None:
    """Write a model whose load hangs."""
    directory.mkdir(parents=True)
    (directory / "model.pkl").write_bytes(pickle.dumps(Sleeper()))


def test_hung_loads_end_nothing_and_hold_up_no_stop(tmp_path):
    """More hung loads than places leave other models' versions, and SIGTERM, as they were."""
    root = tmp_path / "models"
    write_model(root / "good" / "v1", 2.0)
    with running(root, load_timeout_seconds=4, load_threads=2) as server:
        server.wait_until_ready("good")
        for name in ("a", "b", "c"):
            write_sleeper(root / name / "v1")
        for name in ("a", "b", "c"):
            server.wait_for_reason(name, "FAILED while LOADING: not finished within 4 s")
        write_model(root / "good" / ".staging-v2", 3.0)
        (root / "good" / ".staging-v2").rename(root / "good" / "v2")
        server.wait_until_ready("good", "v2")
        answer = server.predict("good", ROWS).json()["predictions"]
        server.send(signal.SIGTERM)
        code = server.exit_code()

    np.testing.assert_allclose([3.0], np.ravel(answer))
    assert 0 == code


def test_a_file_that_is_replaced_again_and_again_never_runs_unverified(tmp_path):
    """While a model's file alternates with another one all the time, only listed bytes answer."""
    model, mark = tmp_path / "m", tmp_path / "ran"
    evil = pickle.dumps(Marker(mark))
    is_over = threading.Event()

    def swap(file: Path, genuine: bytes) -> None:
        while not is_over.is_set():
            for data in (evil, genuine):
                staged = tmp_path / "staged"
                staged.write_bytes(data)
                staged.rename(file)
                is_over.wait(0.002)

    digest = write_model(tmp_path / "stage", 2.0, padding=300_000)
    component = {"framework": "sklearn", "path": "model.joblib", "sha256": digest}
    document = {"format": "bundle/v1", "components": {"model": component}}
    (tmp_path / "stage" / "manifest.json").write_text(json.dumps(document))
    with running(model, "m") as server:
        model.mkdir()
        (tmp_path / "stage").rename(model / "v1")
        file = model / "v1" / "model.joblib"
        swapper = threading.Thread(target=swap, args=(file, file.read_bytes()))
        swapper.start()
        try:
            eventually(
                lambda: mark.exists() or "ready in" in server.log or "failed while" in server.log,
                "the version was tried",
            )
        finally:
            is_over.set()
            swapper.join()
        server.wait_until_ready("m")
        answer = server.predict("m", ROWS).json()["predictions"]

    assert not mark.exists()
    np.testing.assert_allclose([2.0], np.ravel(answer))
