"""The apps behind our routes, their errors turned into ``{"error": "…"}`` unless they are HTML."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import orjson

from bundleserver.serving.rest.asgi import AsgiApp, Message, Receive, Send
from bundleserver.serving.rest.http import Answer, error_answer

_KEPT_HEADERS = ("allow", "retry-after")


async def call_fallback(app: AsgiApp, scope: Message, receive: Receive, send: Send) -> None:
    """Call the app behind; HEAD calls it with GET and omits the body."""
    is_head = scope["method"] == "HEAD"
    if is_head:
        scope = {**scope, "method": "GET"}
    await app(scope, receive, _ErrorRewriter(send, with_body=not is_head))


class _ErrorRewriter:
    """Forwards a successful response, and buffers an error until its body can be rewritten.

    One instance serves one request, on the event loop.
    """

    def __init__(self, send: Send, *, with_body: bool) -> None:
        self._send = send
        self._with_body = with_body
        self._held_start: Message | None = None
        self._held_body = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_reworded(message):
            self._held_start = message
        elif self._held_start is not None and message["type"] == "http.response.body":
            await self._hold(message)
        elif message["type"] == "http.response.body" and not self._with_body:
            await self._send({**message, "body": b""})
        else:
            await self._send(message)

    async def _hold(self, message: Message) -> None:
        self._held_body += cast(bytes, message.get("body", b""))
        if self._held_start is None or message.get("more_body", False):
            return
        answer = _reworded(self._held_start, bytes(self._held_body))
        await answer.send(self._send, with_body=self._with_body)


def _is_reworded(start: Message) -> bool:
    """Ask whether an answer is an error for programs; what a browser asked for stays a page."""
    pairs = cast("Iterable[tuple[bytes, bytes]]", start.get("headers", ()))
    is_html = dict(pairs).get(b"content-type", b"").startswith(b"text/html")
    return cast(int, start["status"]) >= 400 and not is_html


def _reworded(start: Message, body: bytes) -> Answer:
    pairs = cast("Iterable[tuple[bytes, bytes]]", start.get("headers", ()))
    headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in pairs}
    status = cast(int, start["status"])
    kept = {name: headers[name] for name in _KEPT_HEADERS if name in headers}
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return error_answer(status, body.decode(errors="replace") or f"status {status}", kept)
    if isinstance(document, dict) and "error" in document:
        return Answer(body, status, kept)
    detail = document.get("detail", document) if isinstance(document, dict) else document
    text = detail if isinstance(detail, str) else orjson.dumps(detail).decode()
    return error_answer(status, text, kept)
