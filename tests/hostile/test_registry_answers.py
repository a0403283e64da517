"""Whatever a registry answers costs little, is told, and ends."""

from __future__ import annotations

import functools
import gzip
import json
import socket
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests
from mlflow.utils import request_utils

from bundleserver.errors import SourceError
from bundleserver.sources.registry.answers import MOST_BYTES, bound_answers
from bundleserver.sources.registry.bounded import call_within, ended_by
from bundleserver.sources.registry.client import RegistryClient
from bundleserver.sources.registry.exact import download_exactly
from bundleserver.sources.slow_reads import SlowReads
from tests.end_to_end.processes import DEADLINE_SECONDS
from tests.mlflow_server import wait_until

MODEL = json.dumps({"registered_model": {"name": "m"}}).encode()
JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNK = b"10000\r\n" + b" " * 65536 + b"\r\n"
MOST_SENT = MOST_BYTES + (32 << 20)
"""What a registry may have sent before it is cut off: the limit, and the buffers of sockets."""


def whole(body: bytes, head: bytes = JSON) -> bytes:
    """Return an answer with its length."""
    return head + b"content-length: %d\r\n\r\n" % len(body) + body


def bomb() -> bytes:
    """Compress a hundred times the limit."""
    packed = zlib.compressobj(9, zlib.DEFLATED, 31)
    pieces = [packed.compress(b" " * MOST_BYTES) for _ in range(100)]
    return whole(b"".join([*pieces, packed.flush()]), JSON + b"content-encoding: gzip\r\n")


@contextmanager
def registry(
    first: bytes, again: bytes = b"", pause: float = 0.0
) -> Iterator[tuple[str, list[int]]]:
    """Run a server that answers with bytes, then others without an end; count what it sent."""
    sent, never = [0], threading.Event()
    connections: list[socket.socket] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            while connection.recv(65536):
                connection.sendall(first)
                sent[0] += len(first)
                while again and not never.wait(pause):
                    connection.sendall(again)
                    sent[0] += len(again)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", sent
    finally:
        listener.close()
        for connection in connections:
            connection.close()


def ask(monkeypatch: pytest.MonkeyPatch, uri: str, seconds: float = 20.0) -> object:
    """Ask a registry for a model, once."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return RegistryClient(attempts=1, call_seconds=seconds).model("m")


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (JSON + b"\r\n", b" " * 65536),
        (JSON.replace(b"200 OK", b"404 No") + b"\r\n", b" " * 65536),
        (JSON.replace(b"200 OK", b"500 No") + b"\r\n", b" " * 65536),
        (JSON.replace(b"200 OK", b"503 No") + b"retry-after: 1\r\n\r\n", b" " * 65536),
        (JSON.replace(b"200 OK", b"302 No") + b"location: /x\r\n\r\n", b" " * 65536),
        (JSON + b"transfer-encoding: chunked\r\n\r\n", CHUNK),
        (JSON + b"transfer-encoding: chunked\r\n\r\n", b"1" * 65536),
        (JSON, b"x: y\r\n" * 1000),
    ],
    ids=["200", "404", "500", "503", "302", "chunked", "chunk size", "headers"],
)
def test_an_answer_without_an_end_is_left(monkeypatch, first, again):
    """Whatever its status and its form, little more is taken than the limit."""
    with registry(first, again) as (uri, sent), pytest.raises(SourceError):
        ask(monkeypatch, uri)

    assert sent[0] < MOST_SENT


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (whole(b" " * (MOST_BYTES + 1)), "more than 8388608 bytes"),
        (bomb(), "more than 8388608 bytes when decompressed"),
        (whole(MODEL, JSON + b"content-encoding: br\r\n"), "compressed with 'br'"),
        (whole(MODEL, JSON + b"content-encoding: gzip\r\n"), "damaged"),
        (whole(b'{"x": [' + b"[]," * 600_000 + b"1]}"), "values; expected at most 500000"),
        (whole(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), "did not return JSON"),
        (whole(b"[" * 400_000), "did not return JSON"),
        (whole(b'{"registered_model": 5}'), "did not return JSON"),
    ],
    ids=["long", "bomb", "br", "no gzip", "values", "deep", "deep list", "type"],
)
def test_an_odd_answer_is_told(monkeypatch, answer, said):
    """The error says which limit it exceeds."""
    with registry(answer) as (uri, _), pytest.raises(SourceError, match=said):
        ask(monkeypatch, uri)


def test_an_answer_that_a_proxy_compressed_is_read(monkeypatch):
    """Although none is asked for."""
    packed = whole(gzip.compress(MODEL), JSON + b"content-encoding: gzip\r\n")
    with registry(packed) as (uri, _):
        assert "m" == ask(monkeypatch, uri).name


@pytest.mark.parametrize(
    ("head", "again"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (whole(b"", JSON).replace(b"length: 0", b"length: 999999"), b" "),
        (JSON + b"connection: close\r\n\r\n", b" "),
        (JSON.replace(b"1.1", b"1.0") + b"\r\n", b" "),
    ],
    ids=["continue", "length", "close", "1.0"],
)
def test_an_answer_that_trickles_ends_with_the_call(monkeypatch, head, again):
    """Neither its thread nor its connection is there for long after it was given up."""
    with registry(head, again, pause=0.01) as (uri, sent):
        with pytest.raises(SourceError):
            ask(monkeypatch, uri, seconds=0.5)
        wait_until(lambda: not _threads())
        seen = sent[0]
    assert seen < MOST_SENT


def test_calls_that_hang_are_bounded():
    """While sixteen have not ended, no other is begun, but waits for its turn."""
    gate = threading.Semaphore(0)
    for _ in range(16):
        with pytest.raises(TimeoutError, match="no response"):
            call_within(0.01, "hang", gate.acquire)
    with pytest.raises(TimeoutError, match="earlier calls have not ended"):
        call_within(1.0, "other", lambda: 1)

    releasing = threading.Timer(0.3, gate.release, (16,))
    releasing.start()
    assert call_within(10.0, "other", lambda: 1) == 1
    releasing.join()
    wait_until(lambda: not _threads())
    assert call_within(10.0, "other", lambda: 1) == 1


def test_a_call_that_waits_for_its_turn_ends_with_its_load():
    """Whoever is given up does not wait for a place."""
    gate, checks = threading.Semaphore(0), threading.Semaphore(3)

    def check():
        if not checks.acquire(blocking=False):
            raise SourceError("given up")

    with ended_by(lambda: None):
        for _ in range(16):
            with pytest.raises(TimeoutError, match="no response"):
                call_within(0.01, "hang", gate.acquire)
        with pytest.raises(SourceError, match="given up"), ended_by(check):
            call_within(3600.0, "other", lambda: 1)
    gate.release(16)
    wait_until(lambda: not _threads())


def test_calls_without_a_thread_keep_no_place(monkeypatch, tmp_path):
    """Where the system starts no thread they fail, however often, and leave nothing open."""
    open_files = Path("/proc/self/fd")
    before = len([*open_files.iterdir()])
    reads = SlowReads(DEADLINE_SECONDS)
    with monkeypatch.context() as broken:
        broken.setattr(threading.Thread, "start", _refuse)
        for _ in range(20):
            with pytest.raises(RuntimeError, match="can't start new thread"):
                call_within(1.0, "other", lambda: 1)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                download_exactly(print, tmp_path / "file", 1, "file", "'m' version 1")
            with pytest.raises(OSError, match="can't start new thread"):
                reads.of("names", tmp_path, lambda: 1)

    assert before == len([*open_files.iterdir()])
    assert call_within(10.0, "other", lambda: 1) == 1
    assert reads.of("names", tmp_path, lambda: 1) == 1
    reads._leave_thread()


def _refuse(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_answers_are_bounded_whoever_else_wraps_mlflows_sessions(monkeypatch):
    """A tracer that wraps them as we do is not taken for us, and ours is wrapped once."""

    def make() -> requests.Session:
        return requests.Session()

    @functools.wraps(make)
    def traced() -> requests.Session:
        return make()

    monkeypatch.setattr(request_utils, "_get_request_session", traced)
    bound_answers()
    ours = request_utils._get_request_session
    bound_answers()

    assert "identity" == request_utils._get_request_session().headers["Accept-Encoding"]
    assert ours is request_utils._get_request_session


def _threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("registry: ")]
