"""Fields after a chunked body are no headers: whatever they say, nobody reads them."""

from __future__ import annotations

import logging

import pytest
import uvicorn

from bundleserver.serving.options import ServerOptions
from tests.hostile.test_administration import TOKEN, Recording
from tests.serving.connection.test_eager import INFER, V2, connect, models, read_answers
from tests.serving.fakes import FakeModel, serving

PATH = "/v2/models/echo/infer"
UNLOAD = "/v2/repository/models/sums/unload"
BEARER = f"Authorization: Bearer {TOKEN}"
TRAILERS = (
    "X-Model-Version: 77",
    "X-Routing-Key: somebody",
    "X-Request-Timeout-Seconds: none at all",
    "Inference-Header-Content-Length: 3",
    "Content-Type: text/plain",
    "Content-Encoding: gzip",
    "Accept-Encoding: gzip",
    "Expect: 100-continue",
    "ce-id: 5",
    "ce-specversion: 1.0",
    "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "X-Request-Id: forged",
    "X-Forwarded-For: 9.9.9.9",
)


@pytest.fixture(params=["eager", "plain"])
def way(request, monkeypatch):
    """Serve in our own way and in uvicorn's."""
    if request.param == "plain":
        monkeypatch.setattr(uvicorn, "__version__", "99.0")
    return request.param


def chunked(path, body, *headers, trailers=()):
    """Print a request whose body comes in one chunk, as its head, that, and what follows it."""
    head = "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *headers])
    end = "\r\n".join(["0", *trailers, "", ""])
    return (
        f"{head}\r\nTransfer-Encoding: chunked\r\n\r\n".encode(),
        b"%x\r\n%b\r\n" % (len(body), body),
        end.encode(),
    )


@pytest.mark.parametrize("offer", [(), ("Connection: Upgrade", "Upgrade: h2c")], ids=["", "offer"])
@pytest.mark.parametrize("trailer", TRAILERS)
def test_a_trailer_changes_no_answer(way, trailer, offer):
    """An answer is the one to the same request without it, at once or in pieces; so is the next."""
    plain, odd = (chunked(PATH, V2, *offer, trailers=t) for t in ((), (trailer,)))
    with serving(models()) as server, connect(server) as connection:
        connection.sendall(b"".join(plain))
        expected = read_answers(connection)
        for pieces in ([b"".join(odd)], odd):
            for piece in pieces:
                connection.sendall(piece)
            assert expected == read_answers(connection)
        connection.sendall(INFER)
        (after,) = read_answers(connection)

    assert b"200" in expected[0][0]
    assert b"200" in after[0]


def is_at_its_end(connection):
    """Ask whether the other side has closed; what it did not read may make it a reset."""
    try:
        return not connection.recv(1)
    except ConnectionResetError:
        return True


def test_a_trailer_that_closes_leaves_no_client_waiting(way):
    """After the answer the next request is answered as well, or the connection is at its end."""
    with serving(models()) as server, connect(server) as connection:
        connection.sendall(b"".join(chunked(PATH, V2, trailers=("Connection: close",))))
        ((first, said, _),) = read_answers(connection)
        connection.sendall(INFER)
        is_over = b"connection: close" in said
        after = [] if is_over and is_at_its_end(connection) else read_answers(connection)

    assert b"200" in first
    assert is_over or b"200" in after[0][0]


def test_a_token_after_the_body_opens_and_closes_nothing(way, tmp_path):
    """Who has none in his head stays unknown, and a second one does not spoil the first."""
    token, manager = tmp_path / "token", Recording(FakeModel("sums"))
    token.write_text(TOKEN)
    with (
        serving(manager, ServerOptions(admin_token_file=token)) as server,
        connect(server) as connection,
    ):
        answers = []
        for headers, trailer in (
            ((), BEARER),
            (("Authorization: Bearer nothing",), BEARER),
            ((BEARER,), "Authorization: Bearer nothing"),
        ):
            connection.sendall(b"".join(chunked(UNLOAD, b"{}", *headers, trailers=(trailer,))))
            answers += read_answers(connection)

    assert [b"401", b"401", b"200"] == [line.split()[1] for line, _, _ in answers]
    assert [("unload", "sums", None)] == manager.changes


def test_a_trailer_forges_no_line_of_a_log(way, caplog):
    """The address and the headers that a log has are those of the head."""
    caplog.set_level(logging.INFO)
    form = '%(h)s %({x-forwarded-for}i)s %({user-agent}i)s "%(r)s"'
    trailers = ("X-Forwarded-For: 9.9.9.9", "User-Agent: forged")
    options = ServerOptions(access_log_format=form)
    with serving(models(), options) as server, connect(server) as connection:
        head = ("X-Forwarded-For: 10.1.1.1", "User-Agent: honest")
        for pieces in (
            chunked(PATH, V2, *head, trailers=trailers),
            chunked(UNLOAD, b"{}", *head, trailers=trailers),
        ):
            for piece in pieces:
                connection.sendall(piece)
            read_answers(connection)

    assert "10.1.1.1:0 10.1.1.1 honest" in caplog.text
    assert "9.9.9.9" not in caplog.text
    assert "forged" not in caplog.text
