"""A real server with ``--log_requests``: what is in its files, and when its process is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from bundleserver import BundleStore
from tests.end_to_end.calls import ask_grpc, v2_input
from tests.end_to_end.processes import Threads, command, environment, eventually, running
from tests.end_to_end.published import COLUMNS, Detector

ROWS = np.random.default_rng(4).random((60, 3))


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """Save two versions of a detector once."""
    root = tmp_path_factory.mktemp("store")
    for seed in (1, 2):
        Detector(seed).save(BundleStore(root))
    return root


def complete(log: Path) -> list[Path]:
    """Return the files that readers see."""
    return [path for path in log.rglob("*.parquet") if not path.name.startswith(".")]


def logging_server(store: Path, log: Path, **flags: object):
    """Serve the store with a log of all inputs."""
    return running(store, log_requests=log, **{"log_columns": "all", **flags})


def test_every_answer_is_in_the_log_to_the_bit(store, tmp_path):
    """What is read back by pyarrow and pandas is what was sent and answered, in each protocol."""
    log, answers = tmp_path / "log", []
    with logging_server(store, log) as server:
        server.wait_until_ready("detector")
        for start in range(0, 60, 3):
            rows = ROWS[start : start + 3].tolist()
            tensor = v2_input("features", "FP64", [3, 3], rows)
            if start % 9 == 0:
                answer = server.predict("detector", {"instances": rows}).json()["predictions"]
                answers += [(one["label"], one["score"]) for one in answer]
                continue
            if start % 9 == 3:
                outputs = server.infer("detector", tensor).json()["outputs"]
                data = {output["name"]: output["data"] for output in outputs}
            else:
                data = ask_grpc(server.grpc, "detector", tensor).outputs
            answers += zip(data["label"], data["score"], strict=True)
        server.send(signal.SIGTERM)
        assert 0 == server.exit_code()

    table = pyarrow.dataset.dataset(log, partitioning="hive").to_table().sort_by("timestamp")
    assert (60, {"detector"}) == (table.num_rows, set(table["model"].to_pylist()))
    assert {"v2"} == set(table["version"].to_pylist())
    for at, column in enumerate(COLUMNS):
        assert ROWS[:, at].tobytes() == table[f"input_{column}"].to_numpy().tobytes()
    assert answers == list(
        zip(table["output_label"].to_pylist(), table["output_score"].to_pylist(), strict=True)
    )
    frame = pd.read_parquet(log).sort_values(["timestamp", "row"])
    assert ROWS[:, 0].tolist() == frame["input_cpu"].tolist()
    assert {"v1", "v2", "grpc"} == set(frame["protocol"])
    (digest,) = {pq.read_schema(path).metadata[b"bundleserver.digest"] for path in complete(log)}
    assert digest


def test_the_log_of_one_server_compares_two_versions(store, tmp_path):
    """What real clients asked is what the next version is judged by."""
    log = tmp_path / "log"
    with logging_server(store, log) as server:
        server.wait_until_ready("detector")
        for start in range(0, 60, 5):
            server.predict("detector", {"instances": ROWS[start : start + 5].tolist()})
        server.send(signal.SIGTERM)
        server.exit_code()

    words = ("compare", store / "detector", "v1", "v2", "--input", log, "--json")
    found = command(*words).document
    same = command("compare", store / "detector", "v2", "v2", "--input", log, "--json").document

    assert (12, 12) == (found["requests"], found["compared"])
    assert 60 == found["outputs"]["score"]["values"]
    assert 0.0 == same["outputs"]["score"]["max_absolute_difference"]


def test_complete_files_are_valid_although_the_process_is_killed(store, tmp_path):
    """A reader never sees a part of a file, and the next server goes on beside it."""
    log = tmp_path / "log"
    with logging_server(store, log, log_rotate_seconds=0.1) as server:
        server.wait_until_ready("detector")
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                try:
                    server.predict("detector", {"instances": ROWS.tolist()})
                except httpx.HTTPError:  # the server is killed
                    return

        with Threads(ask):
            eventually(lambda: len(complete(log)) > 5, "files are complete")
            server.send(signal.SIGKILL)
            server.exit_code()
            stop.set()

    found = complete(log)
    assert all(pq.read_table(path, partitioning=None).num_rows % 60 == 0 for path in found)
    with logging_server(store, log) as server:
        server.wait_until_ready("detector")
        server.predict("detector", {"instances": ROWS[:1].tolist()})
        server.send(signal.SIGTERM)
        server.exit_code()
    assert len(found) + 1 == len(complete(log))


def test_worker_processes_have_files_of_their_own(store, tmp_path):
    """Together they have every request once, and the metrics are those of all."""
    log = tmp_path / "log"
    with logging_server(store, log, workers=2, log_rotate_seconds=0.5) as server:
        server.wait_until_ready("detector")
        for row in ROWS:
            server.client.headers["connection"] = "close"
            assert 200 == server.predict("detector", {"instances": [row.tolist()]}).status_code
        eventually(
            lambda: "bundleserver_log_rows_total 60.0" in server.get("/metrics").text,
            "all rows are written",
        )
        server.send(signal.SIGTERM)
        server.exit_code()

    table = pyarrow.dataset.dataset(log, partitioning="hive").to_table()
    assert sorted(ROWS[:, 0]) == sorted(table["input_cpu"].to_pylist())
    assert 60 == len(set(table["request_id"].to_pylist()))


def test_requests_are_answered_while_the_log_cannot_be_written(store, tmp_path):
    """A disk in trouble is one line in the log, and a metric."""
    log = tmp_path / "log"
    with logging_server(store, log, log_rotate_seconds=0.1) as server:
        server.wait_until_ready("detector")
        (log / "model=detector").write_text("in the way")
        for row in ROWS:
            assert 200 == server.predict("detector", {"instances": [row.tolist()]}).status_code
        eventually(
            lambda: "bundleserver_log_failing 1.0" in server.get("/metrics").text, "it is noticed"
        )
        (log / "model=detector").unlink()
        eventually(
            lambda: "bundleserver_log_rows_total 60.0" in server.get("/metrics").text,
            "all rows are written",
        )
        assert 1 == server.log.count("cannot be written")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--log_requests=/proc/log",), "--log_requests: '/proc/log' cannot be written: "),
        (("--log_requests=log", "--log_sample=1.5"), "--log_sample: is 1.5; expected a number"),
        (("--log_requests=log", "--log_max_bytes=1MB"), "expected 0 for no limit, or at least"),
        (("--log_columns=age",), "--log_columns: has an effect with --log_requests=DIR only"),
        (("--log_sample=0.5",), "--log_sample: has an effect with --log_requests=DIR only"),
        (
            ("--log_requests=log", "--log_columns=all,age"),
            "--log_columns: is 'all,age'; expected either names or 'all'",
        ),
        (("--log_requests=models/log", "--model_dir=models"), "lies in --model_dir"),
    ],
)
def test_flags_that_cannot_be_followed_are_refused_at_once(tmp_path, flags, said):
    """Nobody finds an empty log after a week."""
    (tmp_path / "models").mkdir()
    ended = subprocess.run(
        [sys.executable, "-m", "bundleserver", "serve", "--http_port=0", "--grpc_port=0", *flags],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=tmp_path,
        timeout=90,
    )

    assert 2 == ended.returncode
    assert said in ended.stderr
