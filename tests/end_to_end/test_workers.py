"""``--workers``: several processes on one port that answer as one server."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import grpc
import httpx
import psutil
import pytest

from tests.end_to_end import gated
from tests.end_to_end.calls import ask_grpc, v2_input
from tests.end_to_end.processes import DEADLINE_SECONDS, command, eventually, running
from tests.end_to_end.test_stress import Load
from tests.end_to_end.versions import publish

pytestmark = pytest.mark.timeout(600)

_STARTED = re.compile(r"worker process (\d+) started with pid (\d+)")


def pids(server):
    """Return the processes of the workers, by their numbers; the newest of each."""
    return {int(found[1]): int(found[2]) for found in map(_STARTED.search, server.lines) if found}


def serving(port):
    """Return the processes that hold connections to a port."""
    return {
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == port
    } - {None, os.getpid()}


def publish_first(root: Path) -> Path:
    """Put one version of a model there and return its root."""
    model = root / "numbers"
    model.mkdir()
    publish(model, "v1", 1.0)
    return model


@pytest.fixture
def two(tmp_path):
    """Serve one version with two workers, both of which listen."""
    publish_first(tmp_path)
    with running(tmp_path, "numbers", workers=2, admin="open") as server:
        server.wait_for_line("2 of 2")
        server.wait_until_ready("numbers")
        yield server


def ask(http, x=3):
    """Ask with V1 and return the version and the answer."""
    answer = http.post("/v1/models/numbers:predict", json={"instances": [[x]]})
    answer.raise_for_status()
    return answer.headers["x-model-version"], answer.json()["predictions"][0]


def test_two_workers_answer_on_one_port(two):
    """Over REST and gRPC connections reach both workers, and every answer is right."""
    workers = {*pids(two).values()}
    with ExitStack() as clients:

        def connect():
            http = clients.enter_context(httpx.Client(base_url=two.rest, timeout=DEADLINE_SECONDS))
            assert ("v1", 3.0) == ask(http)
            return serving(two.http_port) >= workers

        def call():
            channel = grpc.insecure_channel(two.grpc, [("grpc.use_local_subchannel_pool", 1)])
            clients.callback(channel.close)
            grpc.channel_ready_future(channel).result(DEADLINE_SECONDS)
            return serving(two.grpc_port) >= workers

        eventually(connect, "REST connections reach both workers")
        eventually(call, "gRPC connections reach both workers")

    assert 2 == len(workers)
    said = ask_grpc(two.grpc, "numbers", v2_input("x", "FP64", [1, 1], [3.0]))
    assert ("OK", "v1", [3.0]) == (said.code, said.version, said.outputs["y"])


def test_index_metrics_load_and_unload_are_those_of_all(two):
    """Whichever worker is asked tells and changes the whole."""
    for _ in range(8):
        assert (
            200
            == httpx.post(
                f"{two.rest}/v1/models/numbers:predict", json={"instances": [[1]]}
            ).status_code
        )
    page = httpx.get(f"{two.rest}/metrics", timeout=DEADLINE_SECONDS).text
    counted = [
        float(line.rpartition(" ")[2])
        for line in page.splitlines()
        if line.startswith("bundleserver_requests_total{")
    ]
    ready = two.index("numbers")["v1"]["state"]
    unloaded = two.post("/v2/repository/models/numbers/unload")
    gone = {httpx.get(f"{two.rest}/v2/models/numbers/ready").status_code for _ in range(8)}
    reason = two.index("numbers")["v1"]["reason"]
    loaded = two.post("/v2/repository/models/numbers/load")
    back = {httpx.get(f"{two.rest}/v2/models/numbers/ready").status_code for _ in range(8)}

    assert 8 == sum(counted)
    assert "bundleserver_workers 2.0" in page
    assert "READY" == ready
    assert [200, 200] == [unloaded.status_code, loaded.status_code]
    assert ({503}, {200}) == (gone, back)
    assert reason.startswith("UNLOADED: manually")
    unknown = two.post("/v2/repository/models/nothing/load")
    assert 404 == unknown.status_code


def test_no_request_is_lost_in_swaps(tmp_path):
    """Under load from many connections the workers swap, and each answer is its version's."""
    root = publish_first(tmp_path)
    with running(tmp_path, "numbers", workers=2) as server:
        server.wait_for_line("2 of 2")
        server.wait_until_ready("numbers")
        with Load(server) as load:
            load.wait_for("v1")
            for number in (2, 3, 4):
                publish(root, f"v{number}", float(number))
                load.wait_for(f"v{number}")
            assert 0 == command("rollback", root).code
            before = Counter(load.answered)
            eventually(lambda: load.answered["v3"] > before["v3"] + 10, "the rollback")

    assert [] == load.problems[:5]
    assert {"v1", "v2", "v3", "v4"} == {*load.answered}
    assert "Traceback" not in server.log


def test_a_version_that_loads_in_one_worker_only_answers_in_none(tmp_path):
    """What cannot be opened in one worker is closed in the other, and the former default stays."""
    root = publish_first(tmp_path)
    token = tmp_path / "token"
    token.touch()
    with running(tmp_path, "numbers", workers=2) as server:
        server.wait_for_line("2 of 2")
        server.wait_until_ready("numbers")
        publish(root, "v2", gated.OpensOnce(2.0, str(token)))
        server.wait_for_line("failed in another worker process while loading")
        answers = Counter()
        for _ in range(16):
            with httpx.Client(base_url=server.rest, timeout=DEADLINE_SECONDS) as http:
                answers[ask(http)] += 1
        entry = server.index("numbers")["v2"]

    assert {("v1", 3.0): 16} == answers
    assert "UNAVAILABLE" == entry["state"]
    assert "FAILED" in entry["reason"]


def test_a_worker_that_is_killed_is_replaced(two):
    """Only what was in flight there may fail; the other answers on, and a new worker listens."""
    failed, answered = [], Counter()
    stopping = threading.Event()

    def load(name):
        with httpx.Client(base_url=two.rest, timeout=DEADLINE_SECONDS) as http:
            while not stopping.is_set():
                sent = time.monotonic()
                try:
                    assert ("v1", 3.0) == ask(http)
                    answered[name] += 1
                except httpx.TransportError:
                    failed.append(sent)

    threads = [threading.Thread(target=load, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: len(answered) == 8, "all clients have answers")
        victim = pids(two)[2]
        seen = len(two.lines)
        os.kill(victim, signal.SIGKILL)
        two.wait_for_line("worker process 2 exited (ended by SIGKILL); starting another one", seen)
        gone = time.monotonic()
        two.wait_for_line("worker process 2 listens: 2 of 2", seen)
        before = Counter(answered)
        eventually(lambda: all(answered[n] > before[n] for n in range(8)), "all are answered again")
    finally:
        stopping.set()
        for thread in threads:
            thread.join(DEADLINE_SECONDS)

    # While it dies, the system still lets clients connect to it.
    assert all(sent <= gone for sent in failed), (failed, gone)
    assert victim != pids(two)[2]
    assert "READY" == two.index("numbers")["v1"]["state"]


def test_no_counter_goes_back_when_a_worker_ends(two):
    """What a killed worker had counted at the last scrape stays in the page, whoever is asked."""

    def counted():
        page = httpx.get(f"{two.rest}/metrics", timeout=DEADLINE_SECONDS).text
        found = re.findall(r'^bundleserver_requests_total\{.*outcome="ok".*\} (\S+)$', page, re.M)
        return sum(map(float, found))

    def ask_and_count(times):
        for _ in range(times):
            with httpx.Client(base_url=two.rest, timeout=DEADLINE_SECONDS) as http:
                ask(http)
        return counted()

    assert 40 == ask_and_count(40)
    for number in (2, 1):
        seen = len(two.lines)
        os.kill(pids(two)[number], signal.SIGKILL)
        two.wait_for_line(f"worker process {number} exited", seen)
        assert 40 == counted()
        two.wait_for_line(f"worker process {number} listens: 2 of 2", seen)
        assert 40 == counted()

    assert 50 == ask_and_count(10)


def test_a_signal_ends_all_workers_and_the_exit_code_is_0(two):
    """SIGTERM to the supervisor lets every worker end cleanly, and nothing is left."""
    workers = pids(two).values()
    two.send(signal.SIGTERM)

    assert 0 == two.exit_code()
    assert 2 == two.log.count("stopped: every bundle is closed")
    assert not any(psutil.pid_exists(pid) for pid in workers)


def test_workers_end_with_their_supervisor(two):
    """Nobody is left on the port when the supervisor is killed."""
    workers = pids(two).values()
    two.send(signal.SIGKILL)
    two.exit_code()

    eventually(lambda: not any(psutil.pid_exists(pid) for pid in workers), "the workers end")


def test_workers_that_cannot_start_end_the_server(tmp_path):
    """What keeps a worker from listening ends the whole with 1 and the reason, once and for all."""
    missing = tmp_path / "missing.pem"
    flags = ["--workers=2", "--http_port=0", "--grpc_port=0", f"--model_dir={tmp_path}"]
    ended = command("serve", *flags, f"--ssl_certfile={missing}", f"--ssl_keyfile={missing}")

    assert 1 == ended.code
    assert f"cannot use {missing}" in ended.out + ended.err


@pytest.mark.parametrize(
    ("flag", "other"), [("http_port", "grpc_port"), ("grpc_port", "http_port")]
)
def test_a_port_that_is_taken_is_named(tmp_path, flag, other):
    """The supervisor says which port somebody else has, before any worker starts."""
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        ended = command(
            "serve", "--workers=2", f"--{flag}={port}", f"--{other}=0", f"--model_dir={tmp_path}"
        )

    assert 1 == ended.code
    assert f"--{flag}: cannot listen on" in ended.err
    assert "starts with pid" not in ended.err
