"""The server as process 1 of a container: threads, signals, exit codes."""

from __future__ import annotations

import errno
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from bundleserver import BundleStore
from tests.end_to_end import gated
from tests.end_to_end.calls import v2_input
from tests.end_to_end.processes import eventually
from tests.end_to_end.published import save_times
from tests.image import counting
from tests.image.conftest import FULL, SLIM
from tests.image.containers import PLATFORM, Container, running

TEAM_PACKAGE = (
    "--env=PYTHONPATH=/team",
    f"--volume={Path(gated.__file__)}:/team/tests/end_to_end/gated.py:ro",
    f"--volume={Path(counting.__file__)}:/team/tests/image/counting.py:ro",
)
PATIENCE_SECONDS = 60
ONE = v2_input("x", "FP64", [1, 1], [2.0])


@pytest.mark.parametrize("cpus", [1, 2])
def test_library_threads_follow_the_cpu_limit(tmp_path, cpus):
    """OpenMP, BLAS and torch use no more threads than the container has CPUs."""
    store = BundleStore(tmp_path / "models")
    save_counter(store)
    options = (*PLATFORM, f"--cpus={cpus}", *TEAM_PACKAGE)
    with running(FULL, store.root, "--max_asyncio_workers=1", options=options) as container:
        container.wait_until_ready("counter")

        assert {"y": [cpus, cpus]} == container.infer("counter", ONE)


def test_docker_stop_answers_what_is_in_flight(tmp_path):
    """A request that runs when SIGTERM comes is answered, and the exit code is 0."""
    store = BundleStore(tmp_path / "models")
    save_times(store, "slow", gated.SlowToPredict(3.0, "/gate/pipe"))
    pipe = tmp_path / "gate" / "pipe"
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    options = (*PLATFORM, *TEAM_PACKAGE, f"--volume={pipe.parent}:/gate:ro")
    with (
        running(SLIM, store.root, options=options) as container,
        ThreadPoolExecutor() as background,
    ):
        container.wait_until_ready("slow")
        answer = background.submit(container.infer, "slow", ONE)
        gate = eventually(lambda: opened(pipe), "the request waits at the pipe")
        stopping = background.submit(container.stop, PATIENCE_SECONDS)
        container.wait_for_line("SIGTERM")
        with gate:
            gate.write(b"go")

        assert {"y": [6.0]} == answer.result(PATIENCE_SECONDS)
        stopping.result(PATIENCE_SECONDS)
        assert 0 == container.state()["ExitCode"]
        assert "stopped" in container.log


def test_docker_stop_ends_a_server_that_is_still_starting(tmp_path):
    """SIGTERM ends process 1 while it still imports its libraries, long before SIGKILL comes."""
    with running(SLIM, tmp_path) as container:
        eventually(lambda: handles(container, signal.SIGTERM), "Python has begun")
        container.stop(PATIENCE_SECONDS)

        assert container.state()["ExitCode"] in (0, 143)


def save_counter(store: BundleStore) -> None:
    """Save a model that counts threads."""
    store.save(
        "counter",
        counting.ThreadCounter(),
        inputs=[{"name": "x", "datatype": "FP64", "shape": [-1, 1]}],
        outputs=[{"name": "y", "datatype": "INT64", "shape": [-1, 2]}],
        steps=[{"component": "model", "method": "predict", "inputs": ["x"], "outputs": ["y"]}],
        frameworks={"model": "sklearn"},
    )


def handles(container: Container, number: signal.Signals) -> bool:
    """Ask whether process 1 does something on a signal: the kernel keeps all others from it."""
    status = container.execute("cat", "/proc/1/status")
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def opened(pipe: Path) -> BinaryIO | None:
    """Open a pipe for writing; None while nobody reads it."""
    try:
        return os.fdopen(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK), "wb", buffering=0)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise
