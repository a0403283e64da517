"""Offers of another protocol are passed over; a body is never read as a request."""

from __future__ import annotations

import json
import random

import pytest
import uvicorn

from bundleserver.serving.options import ServerOptions
from tests import http2
from tests.serving.connection.test_bad_clients import wait_until
from tests.serving.connection.test_eager import (
    connect,
    models,
    read_answers,
    request,
)
from tests.serving.fakes import FakeManager, FakeModel, FakeVersion, Gate, serving

# Captured from java.net.http.HttpClient of JDK 17.0.15 and 25.0.3.
JDK = (
    "Connection: Upgrade, HTTP2-Settings",
    "HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA",
    "Upgrade: h2c",
)
OFFERS = {
    "JDK": JDK,
    "websocket": ("Upgrade: websocket", "Connection: keep-alive, UPGRADE", "Sec-WebSocket-Key: a"),
    "TLS": ("upgrade:TLS/1.0, h2c", "CONNECTION:upgrade"),
    "two": ("Connection: Upgrade", "Upgrade: a", "Connection: x", "Upgrade: b", "Connection: y"),
    "no connection": ("Upgrade: h2c",),
    "no upgrade": ("Connection: Upgrade",),
}
HIDDEN = b"GET /v2/health/live HTTP/1.1\r\nHost: hidden\r\n\r\n"


@pytest.fixture(scope="module", params=[uvicorn.__version__, "99.0"], ids=["eager", "plain"])
def served(request):
    """Serve with each protocol."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uvicorn, "__version__", request.param)
        with serving(models(), ServerOptions(max_request_bytes=10_000)) as server:
            yield server


def infer(name, *headers, chunked=False):
    """Make a request whose answer carries its name."""
    tensor = {"name": "x", "datatype": "FP64", "shape": [2], "data": [1.5, 2]}
    body = json.dumps({"id": name, "inputs": [tensor]}).encode()
    path = "/v2/models/echo/infer"
    if not chunked:
        return request("POST", path, body, *headers)
    head = request("POST", path, None, *headers, "Transfer-Encoding: chunked")
    half = len(body) // 2
    parts = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (body[:half], body[half:]))
    return head + parts + b"0\r\n\r\n"


def to_the_end(connection):
    """Read until the connection is closed."""
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("offer", OFFERS)
def test_an_offer_changes_nothing(served, offer, chunked):
    """The answer is that to the same request without it, however it is cut, and so is the next."""
    sent = infer("one", *OFFERS[offer], chunked=chunked)
    at = sent.index(b"\r\n\r\n") + 4
    with connect(served) as connection:
        connection.sendall(infer("one", chunked=chunked))
        (expected,) = read_answers(connection)
        for cuts in ([], [at], [at - 1], [at + 1], range(1, len(sent), 7)):
            for begin, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
                connection.sendall(sent[begin:end])
            assert [expected] == read_answers(connection)

    assert b"200" in expected[0]
    assert b'"one"' in expected[2]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/v2/health/live", "/metrics", "/", "/v2/nothing"])
def test_an_offer_without_a_body_changes_nothing(served, method, path):
    """Requests that have no body are answered too, on every page."""
    with connect(served) as connection:
        for headers in ((), JDK, ()):
            connection.sendall(request(method, path, None, *headers))
            (answer,) = read_answers(connection, with_bodies=method != "HEAD")
            assert answer[0].endswith(b"404 not found" if "nothing" in path else b"200 ok")


@pytest.mark.parametrize("headers", [JDK, ("Expect: 100-continue", *JDK), ()])
@pytest.mark.parametrize("path", ["/v1/models/sums:predict", "/v2/nothing", "/metrics"])
def test_a_body_is_never_a_request(served, path, headers):
    """One request gets one final answer, whatever its body looks like, read or not."""
    sent = request("POST", path, HIDDEN, *headers)
    for cut in (len(sent), len(sent) - len(HIDDEN), len(sent) - 5):
        with connect(served) as connection:
            connection.sendall(sent[:cut])
            if cut < len(sent):
                connection.sendall(sent[cut:])
            connection.sendall(request("GET", "/v2/nothing", None, "Connection: close"))
            said = to_the_end(connection).replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
            assert 2 == said.count(b"HTTP/1.1 4"), said
            assert b"live" not in said


def test_a_body_after_an_offer_is_limited(served):
    """An offer is no way around the limit of a body, declared or chunked."""
    for sent in (
        request("POST", "/v1/models/sums:predict", b" " * 20_000, *JDK),
        request("POST", "/v1/models/sums:predict", None, *JDK, "Transfer-Encoding: chunked")
        + b"%x\r\n" % 20_000
        + b" " * 20_000
        + b"\r\n0\r\n\r\n",
    ):
        with connect(served) as connection:
            connection.sendall(sent)
            (answer,) = read_answers(connection)
            assert answer[0].startswith(b"http/1.1 413")


@pytest.mark.parametrize(
    "framing",
    [
        ("Content-Length: 3", "Content-Length: 4"),
        ("Content-Length: +3",),
        ("Transfer-Encoding: chunked", "Content-Length: 3"),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
        ("Transfer-Encoding: gzip",),
    ],
)
def test_an_offer_hides_no_contradiction(served, framing):
    """A request whose length is not certain is refused, and nothing after it is read."""
    for headers in ((), JDK):
        with connect(served) as connection:
            sent = request("POST", "/v2/nothing", None, *headers, *framing)
            connection.sendall(sent + b"0\r\n\r\n" + HIDDEN)
            said = to_the_end(connection)
        assert said.split()[1] in (b"400", b"501")
        assert 1 == said.count(b"HTTP/1.1 ")


def test_pipelined_offers_are_answered_in_order(served):
    """Any mix of requests with and without offers, cut anywhere, is answered like without."""
    # A fixed seed: a failure is found again.
    draw = random.Random(16)  # noqa: S311
    for _ in range(25):
        names = [f"n{at}" for at in range(draw.randint(1, 12))]
        sent = b"".join(
            infer(name, *draw.choice([(), *OFFERS.values()]), chunked=draw.random() < 0.4)
            for name in names
        )
        cuts = sorted(draw.sample(range(1, len(sent)), draw.randint(0, 6)))
        with connect(served) as connection:
            for begin, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
                connection.sendall(sent[begin:end])
            answers = read_answers(connection, len(names))

        assert names == [json.loads(body)["id"] for _, _, body in answers]


def test_connect_ends_the_connection(served):
    """Who is refused a tunnel is told so; what he sent into it is no request."""
    for rest in (HIDDEN, b"\x16\x03\x01", b""):
        with connect(served) as connection:
            connection.sendall(b"CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\n\r\n" + rest)
            said = to_the_end(connection)
        assert said.startswith(b"HTTP/1.1 405 ")
        assert b'{"error":"CONNECT is not supported' in said
        assert 1 == said.count(b"HTTP/1.1 ")


def test_http2_without_an_offer_is_refused(served):
    """A client that speaks HTTP/2 from the start is told which version to speak."""
    with connect(served) as connection:
        connection.sendall(http2.OPENING)
        said = to_the_end(connection)

    assert said.startswith(b"HTTP/1.1 505 ")
    assert said.endswith(b'{"error":"HTTP/2 is not supported; use HTTP/1.1"}')


@pytest.mark.parametrize("last", [b"?\r\n\r\n", b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"])
def test_what_is_no_request_waits_for_the_answers_before_it(last):
    """A request in flight gets its own answer, and only then what follows it is refused."""
    gate = Gate()
    manager = FakeManager(FakeModel("sums", (FakeVersion("1", gate),)))
    with serving(manager) as server, connect(server) as connection:
        body = b'{"instances": [[1.0, 2.0]]}'
        connection.sendall(request("POST", "/v1/models/sums:predict", body) + last + HIDDEN)
        wait_until(lambda: manager.leased)
        gate.opened.set()
        said = to_the_end(connection)

    first, _, second = said.partition(b'{"predictions":')
    assert first.startswith(b"HTTP/1.1 200 ")
    assert second.partition(b"HTTP/1.1 ")[2].startswith(b"405" if b"CONNECT" in last else b"400")
    assert b"live" not in said
