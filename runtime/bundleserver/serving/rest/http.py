"""HTTP requests and responses of the REST routes; bodies are received within a limit."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from types import MappingProxyType
from typing import NamedTuple

from bundleserver.errors import RequestTooLarge
from bundleserver.serving.codecs import json_body
from bundleserver.serving.errors import ClientDisconnectedError, ErrorAnswer, answer_for
from bundleserver.serving.execution.limits import TIMEOUT_HEADER, deadline_of
from bundleserver.serving.inflight import Held, InflightBytes
from bundleserver.serving.rest.arriving import ArrivingBody
from bundleserver.serving.rest.asgi import Message, Receive, Send, headers_of, segments_of
from bundleserver.serving.rest.compression import Decompression
from bundleserver.spans import Span
from bundleserver.tensors.budget import Budget

_STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}
_UNREAD = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
_ENCODING = b"content-encoding"
_TIMEOUT = TIMEOUT_HEADER.lower().encode()
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Request(NamedTuple):
    """One request; ``segments`` are its decoded path, ``raw_headers`` have names in lower case.

    ``timeout_receive`` is the timeout of its body in seconds, longer for a large one; 0 for none.
    ``received`` is the body if it has arrived already; ``receive`` is not called then.
    ``most_values`` is the limit of its document, and ``held`` counts its body's bytes; 0 and None
    for no limit. ``pairs`` are its headers with those that are repeated, None where nobody kept
    them, and ``client`` is the address that it comes from. ``trace`` is its span if it is traced.
    """

    method: str
    segments: tuple[str, ...]
    raw_headers: Mapping[bytes, bytes]
    receive: Receive
    limit_bytes: int
    timeout_receive: float = 0.0
    received: bytes | None = None
    most_values: int = 0
    held: Held | None = None
    pairs: Sequence[tuple[bytes, bytes]] | None = None
    client: tuple[str, int] | None = None
    trace: Span | None = None

    @property
    def headers(self) -> Mapping[str, str]:
        """All headers as strings."""
        return {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in self.raw_headers.items()
        }

    def header(self, name: bytes) -> str | None:
        """Return one header as a string, by its name in lower case; None if it is missing."""
        value = self.raw_headers.get(name)
        return None if value is None else value.decode("latin-1")

    def own_budget(self) -> Budget | None:
        """Return the time that its header gives it, from here on; None without that."""
        seconds = self.raw_headers.get(_TIMEOUT)
        return None if seconds is None else Budget(0, deadline_of(seconds.decode("latin-1")))

    def check_declared_size(self) -> None:
        """Refuse a body by its declared length, before any of it is received.

        Raises:
            RequestTooLarge: it exceeds the limit.
        """
        declared = self.raw_headers.get(b"content-length", b"")
        if declared.isdigit() and (len(declared) > 18 or int(declared) > self.limit_bytes):
            raise RequestTooLarge(self.limit_bytes)

    def hold_declared_size(self) -> None:
        """Count a body by its declared length, before any of it is received.

        Raises:
            TooManyBytes: all bodies in flight would exceed their limit.
        """
        declared = self.raw_headers.get(b"content-length", b"")
        if self.held is not None and declared.isdigit():
            self.held.grow_to(int(declared))

    async def body(self) -> bytes:
        """Return the whole body as it was sent; see ``is_encoded``.

        Raises:
            RequestTooLarge: it exceeds the limit.
            TooManyBytes: all bodies in flight would exceed their limit.
            RequestTooSlow: it did not arrive in time.
            ClientDisconnectedError: the client disconnected.
        """
        body = self.received
        if body is None:
            self.check_declared_size()
            self.hold_declared_size()
            body = await self._receive()
            if self.held is not None:
                self.held.grow_to(len(body))
        elif len(body) > self.limit_bytes:
            raise RequestTooLarge(self.limit_bytes)
        return body

    @property
    def is_encoded(self) -> bool:
        """Whether its body may be compressed."""
        return _ENCODING in self.raw_headers

    async def decompressed(self, body: bytes, budget: Budget) -> bytes:
        """Decompress its body, if it is compressed, within its time.

        Raises:
            RequestTooLarge: it exceeds the limit when decompressed.
            TooManyBytes: all bodies in flight would exceed their limit.
            QueueFull: too many bodies wait to be decompressed.
            RequestTimedOut: its time is over.
            InvalidInput: its compression is not supported or not valid.
        """
        encoding = (self.header(_ENCODING) or "").strip().lower()
        if encoding in ("", "identity"):
            return body
        return await _decompression.run(body, encoding, self.limit_bytes, budget, self.held)

    async def _receive(self) -> bytes:
        message = await self.receive()
        if message.get("more_body", False) or message["type"] != "http.request":
            return await ArrivingBody(
                message,
                self.receive,
                self.limit_bytes,
                self.timeout_receive,
                self.header(b"content-length") or "",
                self.held,
            ).receive()
        body: bytes = message.get("body", b"")  # type: ignore[assignment]  # ASGI's promise
        if len(body) > self.limit_bytes:
            raise RequestTooLarge(self.limit_bytes)
        return body


_decompression = Decompression()


class Answer(NamedTuple):
    """A response; ``headers`` are those besides the content's type and length."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = MappingProxyType({})
    content_type: str = "application/json"

    def head(self, default_headers: bytes) -> bytes:
        """Encode everything before the body, the server's default headers first.

        Raises:
            ValueError: a header has a control character.
        """
        lines = default_headers
        for name, value in self.headers.items():
            lines += _header_line(name, value)
        return b"%bcontent-type: %b\r\ncontent-length: %d\r\n%b\r\n" % (
            _STATUS_LINES[self.status],
            self.content_type.encode(),
            len(self.body),
            lines,
        )

    async def send(self, send: Send, *, with_body: bool = True) -> None:
        """Send it, the body in one message; without its body for a HEAD request."""
        headers = [
            (b"content-type", self.content_type.encode()),
            (b"content-length", str(len(self.body)).encode()),
        ]
        for name, value in self.headers.items():
            headers.append((name.encode(), value.encode()))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body if with_body else b""})


Begin = Callable[[Mapping[bytes, bytes], bytes], Coroutine[object, None, Answer]]
"""Answers a fully received request: its headers, with names in lower case, and its body."""

Handler = Callable[[Request], Awaitable[Answer]]
Handlers = Mapping[str, Handler]
"""The handler of each method of a path."""


async def begin(
    handler: Handler,
    method: str,
    segments: tuple[str, ...],
    limit_bytes: int,
    most_values: int,
    headers: Mapping[bytes, bytes],
    body: bytes,
) -> Answer:
    """Answer a fully received request; every error becomes a response."""
    try:
        return await handler(
            Request(method, segments, headers, _disconnect, limit_bytes, 0.0, body, most_values)
        )
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001  # the edge
        return answer_of_error(answer_for(error))


async def respond(handler: Handler, request: Request) -> Answer:
    """Answer a request; every error becomes a response.

    Raises:
        ClientDisconnectedError: the client disconnected.
    """
    try:
        return await handler(request)
    except ClientDisconnectedError:
        raise
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001  # the edge
        return answer_of_error(answer_for(error))


async def _disconnect() -> Message:
    return {"type": "http.disconnect"}


@lru_cache(maxsize=256)
def _header_line(name: str, value: str) -> bytes:
    if _CONTROL.search(name + value):
        raise ValueError(
            f"response header {name!r} has the value {value[:40]!r}; control characters are not "
            "allowed"
        )
    return f"{name}: {value}\r\n".encode()


def request_of(
    scope: Message,
    receive: Receive,
    limit_bytes: int,
    timeout_receive: float = 0.0,
    most_values: int = 0,
    bodies: InflightBytes | None = None,
) -> Request:
    """Decode the head of an ASGI request."""
    pairs: Sequence[tuple[bytes, bytes]] = scope["headers"]  # type: ignore[assignment]
    client: tuple[str, int] | None = scope.get("client")  # type: ignore[assignment]
    raw_path: bytes = scope.get("raw_path") or str(scope["path"]).encode()  # type: ignore[assignment]
    method, segments, headers = str(scope["method"]), segments_of(raw_path), headers_of(pairs)
    held = None if bodies is None else Held(bodies)
    limits = limit_bytes, timeout_receive, None, most_values, held
    return Request(method, segments, headers, receive, *limits, pairs, client)


def json_answer(document: object, headers: Mapping[str, str] | None = None) -> Answer:
    """Make a response 200 with a JSON document."""
    return Answer(json_body.encode(document), headers=headers or {})


def error_answer(status: int, message: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Make a response ``{"error": "…"}``, the form of an error on every route."""
    return Answer(json_body.encode({"error": message}), status, headers or {})


def answer_of_error(error: ErrorAnswer) -> Answer:
    """Convert a mapped error to HTTP."""
    headers = {}
    if error.retry_after_seconds is not None:
        headers["retry-after"] = str(error.retry_after_seconds)
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    if error.status in _UNREAD:
        # The rest of the request is not received.
        headers["connection"] = "close"
    return error_answer(error.status, error.message, headers)


def refused(request: Request, methods: Collection[str]) -> Answer:
    """Make the response to an unknown route (404) or method (405)."""
    path = "/".join(request.segments)
    if not methods:
        return error_answer(404, f"unknown route '/{path[:200]}'")
    allowed = ", ".join([*methods, *(["HEAD"] if "GET" in methods else [])])
    message = f"'/{path[:200]}' does not support {request.method}; expected {allowed}"
    return error_answer(405, message, {"allow": allowed})
