"""``--workers``: large arrays are held once, whatever happens to their file and to a worker."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import ExitStack
from pathlib import Path

import httpx
import joblib
import numpy as np
import psutil
import pytest
from sklearn.neighbors import KNeighborsRegressor

from bundleserver.serving.workers.identity import WorkerIdentity
from tests.end_to_end import gated
from tests.end_to_end.processes import DEADLINE_SECONDS, eventually, running
from tests.end_to_end.test_workers import pids
from tests.end_to_end.versions import publish

pytestmark = pytest.mark.timeout(600)

DRAW = np.random.default_rng(3)
X = DRAW.normal(size=(100_000, 20))
ROWS = DRAW.normal(size=(3, 20))


def neighbours(seed: int) -> KNeighborsRegressor:
    """Fit what keeps all that it was fitted with: 16 MB, the same ones for every seed."""
    y = np.random.default_rng(seed).normal(size=len(X))
    return KNeighborsRegressor(algorithm="brute").fit(X, y)


def put(root: Path, label: str, model: object) -> Path:
    """Put a version there that is one file, without a manifest, and return the file."""
    staging = root / f".new-{label}"
    staging.mkdir(parents=True)
    joblib.dump(model, staging / "model.joblib")
    staging.rename(root / label)
    return root / label / "model.joblib"


def shared_by(pid: int) -> dict[str, str]:
    """Return the memory files that a process has mapped: their digests by their inodes."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {line.split()[4]: line.split()[5] for line in lines if "/memfd:" in line}


def links(server) -> list[Path]:
    """Return what the workers tell each other of their arrays."""
    identity = WorkerIdentity.of(psutil.Process(pids(server)[1]).environ())
    return [path for path in identity.directory.iterdir() if path.is_symlink()]


def answers_of_both(server, model: str, rows: object) -> list[list[float]]:
    """Ask over connections until every worker has answered one, and return what they say."""
    answers, ports, workers = [], set(), {*pids(server).values()}
    with ExitStack() as clients:

        def ask() -> bool:
            http = httpx.Client(base_url=server.rest, timeout=DEADLINE_SECONDS)
            answer = clients.enter_context(http).post(
                f"/v1/models/{model}:predict", json={"instances": rows}
            )
            answer.raise_for_status()
            answers.append(answer.json()["predictions"])
            ports.add(answer.extensions["network_stream"].get_extra_info("client_addr")[1])
            return holders(server.http_port, ports) >= workers

        eventually(ask, "connections reach both workers")
    return answers


def holders(port: int, clients: set[int]) -> set[int | None]:
    """Return the processes that hold connections of these clients to a port."""
    return {
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.laddr.port == port and connection.raddr and connection.raddr.port in clients
    }


def all_say(server, model) -> bool:
    """Ask whether every worker answers what the model answers here, to the bit."""
    expected = model.predict(ROWS).tolist()
    return all(answer == expected for answer in answers_of_both(server, "near", ROWS.tolist()))


@pytest.fixture
def two(tmp_path):
    """Serve nearest neighbours with two workers; give the server, the model's root and file."""
    file = put(tmp_path / "near", "1", neighbours(1))
    with running(tmp_path, workers=2) as server:
        server.wait_for_line("2 of 2")
        server.wait_until_ready("near")
        yield server, tmp_path / "near", file


def test_workers_hold_large_arrays_once(two):
    """Both have mapped the same memory, nothing else is in it, and answers are the model's own."""
    server, _, _ = two
    first, second = (shared_by(pid) for pid in pids(server).values())

    assert first == second
    assert 1 == len(first)
    assert 2 == len(links(server))
    assert all_say(server, neighbours(1))


def test_a_file_that_is_overwritten_and_cut_short_changes_no_answer(two):
    """What is served stays as it was read; a new file is served when it is whole."""
    server, _, file = two
    before = shared_by(pids(server)[1])
    with file.open("r+b") as opened:
        opened.seek(1000)
        opened.write(bytes(10**6))
    changed = all_say(server, neighbours(1))
    os.truncate(file, 5000)
    server.wait_for_line("is truncated or damaged")
    cut = all_say(server, neighbours(1))
    kept = shared_by(pids(server)[1])
    joblib.dump(neighbours(2), file)
    eventually(lambda: all_say(server, neighbours(2)), "the new file is served")

    assert changed
    assert cut
    assert before == kept


def test_versions_share_and_nothing_is_left_of_them(two):
    """A second version maps the same rows; unloaded versions leave neither memory nor links."""
    server, root, _ = two
    put(root, "2", neighbours(2))
    eventually(lambda: all_say(server, neighbours(2)), "version 2 answers")
    workers = pids(server).values()
    eventually(lambda: {1} == {len(shared_by(pid)) for pid in workers}, "one copy is mapped")
    unloaded = server.post("/v2/repository/models/near/unload")
    eventually(lambda: not any(shared_by(pid) for pid in workers), "the memory is given back")
    eventually(lambda: not links(server), "nobody points to it")
    loaded = server.post("/v2/repository/models/near/load")

    assert [200, 200] == [unloaded.status_code, loaded.status_code]
    assert 1 == len(set(map(tuple, map(shared_by, workers))))
    assert all_say(server, neighbours(2))


def test_a_worker_that_takes_anothers_place_maps_what_is_there(two):
    """The one that made the memory may be killed; its successor finds it with the other."""
    server, _, _ = two
    before = shared_by(pids(server)[2])
    seen = len(server.lines)
    os.kill(pids(server)[1], signal.SIGKILL)
    server.wait_for_line("worker process 1 listens: 2 of 2", seen)

    assert before
    assert before == shared_by(pids(server)[1]) == shared_by(pids(server)[2])
    assert all_say(server, neighbours(1))
    assert 2 == len(links(server))


def test_without_a_place_to_share_every_worker_serves_its_own(two):
    """Sharing that fails is a line in the log, and no reason not to serve."""
    server, root, _ = two
    identity = WorkerIdentity.of(psutil.Process(pids(server)[1]).environ())
    shutil.rmtree(identity.directory)
    put(root, "2", neighbours(2))
    eventually(lambda: all_say(server, neighbours(2)), "version 2 answers")
    said = [line for line in server.lines if "as sharing fails" in line]
    eventually(lambda: not any(map(shared_by, pids(server).values())), "version 1 is closed")

    assert 2 == len(said)
    assert "Traceback" not in server.log


def test_a_model_that_writes_into_its_arrays_is_served(tmp_path):
    """What a worker writes stays with that worker, as if the array were its own."""
    root = tmp_path / "numbers"
    root.mkdir()
    publish(root, "v1", gated.CountsCalls())
    with running(tmp_path / "numbers", "numbers", workers=2) as server:
        server.wait_for_line("2 of 2")
        server.wait_until_ready("numbers")
        first, second = (shared_by(pid) for pid in pids(server).values())
        answers = [answer[0] for answer in answers_of_both(server, "numbers", [[3]])]

    assert first
    assert first == second
    assert max(answers) < len(answers)


def test_one_process_shares_nothing(tmp_path):
    """Without other workers arrays are where they always were."""
    put(tmp_path / "near", "1", neighbours(1))
    with running(tmp_path) as server:
        server.wait_until_ready("near")
        mapped = shared_by(server.popen.pid)
        answer = server.predict("near", {"instances": ROWS.tolist()})

    assert {} == mapped
    assert neighbours(1).predict(ROWS).tolist() == answer.json()["predictions"]
