"""Loads that end their process: one worker process is lost, and nothing that answers."""

from __future__ import annotations

import os
import signal
from collections import Counter

import httpx
import pytest

from tests.end_to_end import gated
from tests.end_to_end.processes import DEADLINE_SECONDS, eventually, running
from tests.end_to_end.test_workers import pids, publish_first
from tests.end_to_end.versions import publish

pytestmark = pytest.mark.timeout(300)

_WAYS = {
    "SIGSEGV": "__import__('os').kill(__import__('os').getpid(), 11)",
    "exit code 7": "__import__('os')._exit(7)",
}


class Ends(gated.Times):
    """Ends the process that opens it."""

    def __init__(self, factor: float = 1.0, how: str = "") -> None:
        super().__init__(factor)
        self.how = how

    def __reduce__(self):
        return eval, (self.how,)


def ask(server, model):
    """Ask a model over a new connection, and return its version."""
    url = f"{server.rest}/v1/models/{model}:predict"
    try:
        answer = httpx.post(url, json={"instances": [[4]]}, timeout=DEADLINE_SECONDS)
    except httpx.TransportError as error:
        return type(error).__name__
    return answer.headers.get("x-model-version", str(answer.status_code))


@pytest.mark.parametrize("name", _WAYS)
def test_a_load_that_ends_its_process_ends_one_and_fails(tmp_path, name):
    """The other process answers on, the version is FAILED with the cause, a later one answers."""
    root = publish_first(tmp_path)
    with running(tmp_path, "numbers", workers=2) as server:
        server.wait_for_line("2 of 2")
        server.wait_until_ready("numbers")
        seen, before = len(server.lines), pids(server)
        publish(root, "v2", Ends(2.0, _WAYS[name]))
        server.wait_for_line("while loading numbers v2", seen)
        server.wait_for_line("2 of 2", seen)
        answers = Counter(ask(server, "numbers") for _ in range(12))
        entry = server.index("numbers")["v2"]
        after = pids(server)
        publish(root, "v3", 3.0)
        eventually(lambda: ask(server, "numbers") == "v3", "a later version answers")

    assert {"v1": 12} == answers
    assert "UNAVAILABLE" == entry["state"]
    assert (
        f"FAILED in another worker process: its load ended the process with {name};"
        in (entry["reason"])
    )
    assert 1 == len({*before.values()} - {*after.values()})


def test_a_version_that_ends_processes_at_the_start_stops_nothing_else(tmp_path):
    """Where it is there from the beginning, other models and the version before it answer."""
    root = publish_first(tmp_path)
    publish(root, "v2", Ends(2.0, _WAYS["SIGSEGV"]))
    (tmp_path / "others").mkdir()
    publish(tmp_path / "others", "v1", 5.0)
    with running(tmp_path, workers=2) as server:
        eventually(lambda: ask(server, "numbers") == "v1", "the version before answers")
        eventually(lambda: ask(server, "others") == "v1", "another model answers")
        reason = server.index("numbers")["v2"]["reason"]

    assert "its load ended the process with SIGSEGV" in reason


def test_a_process_that_hangs_before_it_listens_is_replaced(tmp_path):
    """It is killed though it never was heard of, and another one takes its place."""
    publish_first(tmp_path)
    with running(tmp_path, "numbers", workers=2, heartbeat_seconds=2) as server:
        server.wait_for_line("2 of 2")
        seen, first = len(server.lines), pids(server)[2]
        os.kill(first, signal.SIGKILL)
        hung = eventually(lambda: {pids(server)[2]} - {first}, "another one starts").pop()
        os.kill(hung, signal.SIGSTOP)
        page = eventually(lambda: _silent_page(server), "the page counts it")
        server.wait_for_line("worker process 2 hangs", seen)
        server.wait_for_line("worker process 2 listens: 2 of 2", seen)

    assert "bundleserver_workers 1.0" in page


def _silent_page(server):
    page = httpx.get(f"{server.rest}/metrics", timeout=DEADLINE_SECONDS).text
    return page if "bundleserver_workers_silent 1.0" in page else None
