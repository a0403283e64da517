"""uvicorn outside the tested range: its own protocol, under the same limits and the same end."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
import tomllib
import uvicorn
from packaging.requirements import Requirement

from bundleserver.serving.connection.protocols import TESTED, why_plain
from bundleserver.serving.options import ServerOptions
from bundleserver.serving.rest.http import Answer
from tests.serving.connection.test_bad_clients import ANSWER, BODY, HEAD, connect, read_answer
from tests.serving.fakes import (
    DEADLINE_SECONDS,
    FakeManager,
    FakeModel,
    FakeVersion,
    Gate,
    serving,
)

OK = ("HTTP/1.1 200 OK", {"predictions": ANSWER})
UNTESTED = "99.0"


@pytest.fixture(autouse=True)
def _untested(monkeypatch):
    monkeypatch.setattr(uvicorn, "__version__", UNTESTED)


def test_the_installed_version_is_tested(monkeypatch):
    """What the package requires is what its code was tested with."""
    path = Path(__file__).parents[3] / "pyproject.toml"
    project = tomllib.loads(path.read_text())["project"]
    server = [Requirement(one) for one in project["optional-dependencies"]["server"]]
    declared = {one.name: one.specifier for one in server}

    assert TESTED == declared["uvicorn"]
    monkeypatch.undo()
    assert why_plain() is None


def test_one_warning_names_both_versions(caplog, monkeypatch):
    """Requests are answered, none of them in the parser callback."""

    def refuse(self, defaults):
        raise AssertionError("answered in the callback")

    monkeypatch.setattr(Answer, "head", refuse)
    with serving(FakeManager(FakeModel("sums"))) as server, connect(server) as connection:
        for _ in range(3):
            connection.sendall(HEAD + BODY)
            assert OK == read_answer(connection)

    lines = [one.getMessage() for one in caplog.records if UNTESTED in one.getMessage()]
    assert 1 == len(lines)
    assert str(TESTED) in lines[0]


@pytest.mark.parametrize("size", ["declared", "chunked"])
def test_a_body_is_limited(size):
    """A body over the limit is 413, whether its length is declared or not."""
    if size == "declared":
        sent = HEAD.replace(b": %d" % len(BODY), b": 2000000")
    else:
        chunks = b"Transfer-Encoding: chunked\r\n\r\n10000\r\n" + b" " * 0x10000 + b"\r\n"
        sent = HEAD.replace(b"Content-Length: %d\r\n\r\n" % len(BODY), chunks)
    options = ServerOptions(max_request_bytes=1000)
    with serving(FakeManager(FakeModel("sums")), options) as server, connect(server) as connection:
        connection.sendall(sent)
        status, document = read_answer(connection)

    assert "413" == status.split()[1]
    assert "1000" in document["error"]


def test_a_server_that_stops_answers_what_has_begun():
    """Idle connections are closed, a request that runs is answered, and its connection closed."""
    gate = Gate()
    manager = FakeManager(FakeModel("sums", (FakeVersion("1", gate),)))
    with ExitStack() as held, serving(manager) as server:
        runs, idle = (held.enter_context(connect(server)) for _ in range(2))
        idle.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert "HTTP/1.1 200 OK" == read_answer(idle)[0]
        runs.sendall(HEAD + BODY)
        assert gate.entered.acquire(timeout=DEADLINE_SECONDS)
        server.server.stop()
        assert b"" == idle.recv(1)
        gate.opened.set()
        assert OK == read_answer(runs)
        assert b"" == runs.recv(1)
