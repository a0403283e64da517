"""A soak that cannot fail is a defect: what is lost, wrong and excused, each by an example."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tests.mlflow_server import free_port
from tests.soak.breaking import BREAKS
from tests.soak.checking import (
    GOOD,
    LOST,
    RESET,
    WRONG,
    Book,
    Exchange,
    Excuses,
    Kill,
    judge,
    outlived,
)
from tests.soak.children import start
from tests.soak.clients import Counts, Place, run_client
from tests.soak.hostile import run_hostile
from tests.soak.models import KINDS, ROWS, save
from tests.soak.soak import Soak
from tests.soak.tally import MOST_TOLD, Tally

ASKED = Exchange(7, "V1", "pair", "forest", (0, 2), 10.0, 10.1, "v2", (200.0, 202.0))
RESET_ONE = replace(ASKED, version="", values=(), failure="ConnectionResetError", is_reset=True)
KILL = Kill("pair", 10.05, frozenset({7, 8}))


@pytest.fixture
def book(tmp_path):
    """Two good versions of a model, and one that passes a member's values on."""
    book = Book(tmp_path)
    book.write("forest", "v1", [100.0, 101.0, 102.0])
    book.write("forest", "v2", [200.0, 201.0, 202.0])
    book.write("member", "v1", [0.0, 0.0, 0.0])
    return book


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, GOOD),
        ({"version": "v1"}, WRONG),
        ({"version": "v3"}, WRONG),
        ({"version": ""}, WRONG),
        ({"version": "../forest/v2"}, WRONG),
        ({"values": (200.0, 201.0)}, WRONG),
        ({"values": (200.0,)}, WRONG),
        ({"values": ()}, WRONG),
        ({"values": (200.0, float("nan"))}, WRONG),
        ({"values": (200.0, 202.001)}, WRONG),
        ({"failure": "503 no"}, LOST),
        ({"failure": "timed out", "values": ()}, LOST),
    ],
)
def test_a_value_has_to_be_that_of_the_version_which_the_answer_names(book, changed, verdict):
    """Another version's value, a version that is not good, and no answer are never good."""
    assert verdict == judge(replace(ASKED, **changed), book, 1e-9)[0]


@pytest.mark.parametrize(
    ("values", "verdict"),
    [((100.0, 102.0), GOOD), ((200.0, 202.0), GOOD), ((100.0, 202.0), WRONG), ((0.0, 0.0), WRONG)],
)
def test_a_member_answers_as_one_of_its_good_versions(book, values, verdict):
    """All rows of an answer come from one version of the member."""
    asked = replace(ASKED, model="member", version="v1", values=values)

    assert verdict == judge(asked, book, 1e-9, "forest")[0]


@pytest.mark.parametrize(
    ("changed", "is_excused"),
    [
        ({}, True),
        ({"server": "single"}, False),
        ({"client": 9}, False),
        ({"is_reset": False}, False),
        ({"ended": 10.04}, False),
        ({"ended": 14.0}, False),
        ({"sent": 14.0, "ended": 14.1}, False),
    ],
)
def test_a_kill_explains_only_what_it_has_reset(changed, is_excused):
    """A client of another process, a status, and another time are no resets by this kill."""
    assert is_excused == Excuses([KILL]).excuse(replace(RESET_ONE, **changed))


@pytest.mark.parametrize(("sent", "is_excused"), [(10.04, False), (10.06, True), (10.21, False)])
def test_whoever_asks_while_the_process_dies_may_be_reset(sent, is_excused):
    """Any client may get into the queue of the dying socket, and none once the process is gone."""
    excuses = Excuses([replace(KILL, gone=10.2)])
    asked = replace(RESET_ONE, client=9, sent=sent, ended=10.25)

    assert [is_excused] * 2 == [excuses.excuse(asked), excuses.excuse(asked)]


def test_a_kill_explains_one_request_of_a_client():
    """A closed loop has one request in flight, so a second failure is lost; also in the tally."""
    tally = Tally()
    tally.kill(KILL)
    for client in (7, 7, 8):
        tally.problem(LOST, "expected an answer", replace(RESET_ONE, client=client))
    tally.problem(WRONG, "expected others", ASKED)
    tally.settle(10.1)
    before = sum(tally.faults.values())
    tally.settle(11.0)

    assert 0 == before
    assert {RESET: 2, LOST: 1, WRONG: 1} == dict(tally.faults)
    assert ["1 lost", "1 wrong"] == tally.verdict(2.0)[:2]


def test_no_version_answers_after_it_was_unloaded_for_good():
    """A request that was sent later than that may not be answered by the version."""
    last = {("single", "forest", "v1"): 5.0, ("pair", "forest", "v1"): 7.0}

    (told,) = outlived(last, {("forest", "v1"): 6.0})

    assert told.startswith("forest v1 answered on pair 1.00 s after")


@pytest.mark.parametrize(("minutes", "fails"), [(2.0, False), (10.0, True)])
def test_memory_that_grows_fails_a_long_soak(minutes, fails):
    """Ten minutes fail above 1.05 times; a shorter soak only prints it."""
    tally = Tally(weights={"pair": [100.0, 106.0], "single": [100.0, 104.0]})
    tally.count(Counts({"V1": 2}, {("pair", "forest", v): (1.0, 2.0) for v in ("v1", "v2")}))

    assert fails == bool(tally.verdict(minutes))


def test_a_soak_that_tested_nothing_fails(capsys):
    """No answers or no swaps are no success, and of many faults the first are told."""
    tally = Tally()
    for number in range(100):
        tally.fault(LOST, str(number))

    assert ["100 lost", "nothing was tested"] == tally.verdict(2.0)
    assert MOST_TOLD == len(capsys.readouterr().out.splitlines())


@contextmanager
def answering(answer: bytes):
    """Answer every request on every connection with these bytes; nothing closes it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            with link:
                link.recv(1 << 20)
                link.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


class Told:
    """A line to a parent that hears reports, and says ``stop`` after the first problem."""

    def __init__(self):
        self.problems = []

    def report(self, kind, value):
        if kind == "problem":
            self.problems.append(value)

    def wait(self, _):
        return "stop" if self.problems else ""


def reply(status: str, version: str, document: object) -> bytes:
    """Write an answer as it goes over the wire."""
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 {status}\r\nX-Model-Version: {version}\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("answer", "verdict", "is_reset"),
    [
        (reply("200 OK", "v1", {"predictions": [-1.0]}), WRONG, False),
        (reply("200 OK", "v7", {"predictions": [-1.0]}), WRONG, False),
        (reply("503 Service Unavailable", "v1", {"error": "no"}), LOST, False),
        (reply("404 Not Found", "v1", {"error": "no"}), LOST, False),
        (reply("200 OK", "v1", {"predictions": [1]})[:-3], LOST, True),
        (b"", LOST, True),
    ],
)
def test_a_client_reports_what_a_bad_server_answers(tmp_path, answer, verdict, is_reset):
    """Wrong values, statuses, answers cut off and closed connections reach the parent."""
    Book(tmp_path).write("forest", "v1", range(100, 100 + len(ROWS)))
    told = Told()
    with answering(answer) as port:
        run_client(told, "V1", Place("single", port, 0, ("forest",)), tmp_path, 0)

    ((seen, _, exchange),) = told.problems
    assert (verdict, is_reset) == (seen, exchange.is_reset)


def test_a_refused_connection_is_lost(tmp_path):
    """Nobody listens: the gRPC client reports it as the end of its connection."""
    Book(tmp_path).write("forest", "v1", [1.0] * len(ROWS))
    told = Told()
    run_client(told, "gRPC", Place("single", 0, free_port(), ("forest",)), tmp_path, 0)

    ((seen, _, exchange),) = told.problems
    assert (LOST, True) == (seen, exchange.is_reset)


def test_a_hostile_request_that_is_answered_otherwise_is_wrong():
    """An attack has one right answer; 200 is none."""
    told = Told()
    with answering(reply("200 OK", "v1", {})) as port:
        run_hostile(told, [Place("single", port, 0, ("forest",))], 1)

    assert WRONG == told.problems[0][0]


def test_versions_lie_further_apart_than_the_tolerance(tmp_path):
    """The values of a version identify it, for every model that is swapped."""
    from bundleserver import BundleStore

    store, book = BundleStore(tmp_path / "volume"), Book(tmp_path / "book")
    for model in KINDS:
        for number in (1, 2):
            save(store, book, model, number, f"v{number}")
    for model, kind in KINDS.items():
        if kind.member is None:
            one, two = (book.values(model, label) for label in ("v1", "v2"))
            assert all(b - a > 10 for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_version_cannot_be_opened(tmp_path, name):
    """Each way to break a version breaks it; the soak waits for its FAILED."""
    from bundleserver import BundleStore
    from bundleserver.bundle.opening import manifest_of, open_bundle, verify
    from bundleserver.errors import BundleServerError

    store = BundleStore(tmp_path / "volume")
    save(store, Book(tmp_path / "book"), "scaled", 1, "v1")
    directory = store.path("scaled", "v1")
    BREAKS[name](directory)

    with pytest.raises(BundleServerError):  # noqa: PT012  # whichever of the three refuses
        manifest = manifest_of(directory, "scaled")
        verify(directory, manifest)
        open_bundle(directory, manifest, version="v1")


def fail(line):
    """Be a child that breaks down."""
    raise RuntimeError(f"child {os.getpid()}")


def test_a_child_that_breaks_down_is_heard():
    """Its parent gets the reason, and it ends."""
    child = start("failing", fail)
    kind, value = child.connection.recv()
    child.end(time.monotonic() + 30)

    assert "broke down" == kind
    assert f"child {child.pid}" in value
    assert not child.process.is_alive()


def test_a_director_that_has_ended_does_not_end_the_weighing(monkeypatch):
    """Its end is a fault already, and nobody waits for it to pause."""
    monkeypatch.setattr("tests.soak.soak.SETTLE_SECONDS", 0.0)
    soak = Soak(1, 1)

    soak._weigh(time.monotonic())

    assert [] == [*soak.tally.faults]
    assert 1 == len(soak.weighed)
