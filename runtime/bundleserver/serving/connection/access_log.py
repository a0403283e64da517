"""One line per REST request in a format of the user's, with the atoms that KServe documents.

They are asgi-logger's, which KServe's flag requires; sizes are of the body that was sent.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import cast

from bundleserver.documents.forms import did_you_mean
from bundleserver.serving.connection.logged.hiding import (
    HIDDEN,
    is_secret,
    shown_header,
    shown_path,
    shown_query,
)
from bundleserver.serving.rest.asgi import AsgiApp, Message, Receive, Send

LOG = logging.getLogger("bundleserver.access")

_CLIENT_CLOSED = 499
"""nginx's status of a request whose client did not wait for the answer."""


@dataclass
class _Exchange:
    """A request and what is known of its answer."""

    scope: Message
    began: float = field(default_factory=time.perf_counter)
    status: int = _CLIENT_CLOSED
    answer_headers: Iterable[tuple[bytes, bytes]] = ()
    sent_bytes: int = 0
    seconds: float = 0.0

    @property
    def client(self) -> str:
        client = cast("tuple[str, int] | None", self.scope.get("client"))
        return f"{client[0]}:{client[1]}" if client else "-"

    @property
    def path(self) -> str:
        return shown_path(cast(bytes, self.scope["raw_path"]).decode("latin-1"))

    @property
    def query(self) -> str:
        return shown_query(cast(bytes, self.scope["query_string"]).decode("latin-1"))

    @property
    def protocol(self) -> str:
        return f"HTTP/{self.scope['http_version']}"

    @property
    def phrase(self) -> str:
        known = self.status in HTTPStatus.__members__.values()
        return HTTPStatus(self.status).phrase if known else "-"

    def line(self, *, with_query: bool) -> str:
        query = f"?{self.query}" if with_query and self.query else ""
        return f"{self.scope['method']} {self.path}{query} {self.protocol}"

    def header(self, name: str, *, of_answer: bool) -> str:
        pairs = self.answer_headers if of_answer else self.scope["headers"]
        wanted = name.lower().encode("latin-1", "replace")
        found = [
            value.decode("latin-1")
            for key, value in cast("Iterable[tuple[bytes, bytes]]", pairs)
            if key.lower() == wanted
        ]
        return shown_header(name, found)


_ATOMS: Mapping[str, Callable[[_Exchange], object]] = {
    "h": lambda one: one.client,
    "client_addr": lambda one: one.client,
    "l": lambda _: "-",
    "u": lambda _: "-",
    "t": lambda _: time.strftime("[%d/%b/%Y:%H:%M:%S %z]"),
    "r": lambda one: one.line(with_query=False),
    "R": lambda one: one.line(with_query=True),
    "request_line": lambda one: one.line(with_query=True),
    "m": lambda one: one.scope["method"],
    "U": lambda one: one.path,
    "q": lambda one: one.query,
    "H": lambda one: one.protocol,
    "s": lambda one: one.status,
    "st": lambda one: one.phrase,
    "status_code": lambda one: f"{one.status} {one.phrase}",
    "B": lambda one: one.sent_bytes,
    "b": lambda one: one.sent_bytes or "-",
    "f": lambda one: one.header("referer", of_answer=False),
    "a": lambda one: one.header("user-agent", of_answer=False),
    "T": lambda one: int(one.seconds),
    "M": lambda one: int(one.seconds * 1e3),
    "D": lambda one: int(one.seconds * 1e6),
    "L": lambda one: f"{one.seconds:.6f}",
    "p": lambda _: f"<{os.getpid()}>",
}
_NAMED_ATOMS: Mapping[str, Callable[[_Exchange, str], str]] = {
    "i": lambda one, name: one.header(name, of_answer=False),
    "o": lambda one, name: one.header(name, of_answer=True),
    "e": lambda _, name: HIDDEN if is_secret(name) else os.environ.get(name, "-"),
}
_NAMED = re.compile(r"\{([^{}]+)\}([ioe])")
_CONVERSION = re.compile(r"%(?:%|\(([^()]*)\)[-0-9.]*[sd])")
_UNSAFE = re.compile(r'[^ -~]|["\\]')


class _Values:
    """The atoms of a request, each computed when the format asks for it."""

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange

    def __getitem__(self, atom: str) -> object:
        if named := _NAMED.fullmatch(atom):
            value: object = _NAMED_ATOMS[named[2]](self._exchange, named[1])
        else:
            value = _ATOMS[atom](self._exchange)
        # A client's bytes neither end a line nor a quotation.
        return _UNSAFE.sub(_escaped, value) if isinstance(value, str) else value


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    if character in '"\\':
        return f"\\{character}"
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def hide_secrets(logger: logging.Logger) -> None:
    """Hide the same in uvicorn's own access log, whose lines have the path as third."""
    logger.addFilter(_hide)


def _hide(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple) and len(record.args) > _PATH:
        path, mark, query = str(record.args[_PATH]).partition("?")
        shown = shown_path(path) + mark + shown_query(query)
        record.args = (*record.args[:_PATH], shown, *record.args[_PATH + 1 :])
    return True


_PATH = 2


def format_problem(form: str) -> str | None:
    """Return what is wrong with a format of the access log; None if nothing is."""
    atoms = [match[1] for match in _CONVERSION.finditer(form) if match[1] is not None]
    unknown = [atom for atom in atoms if atom not in _ATOMS and not _NAMED.fullmatch(atom)]
    if unknown:
        names = ", ".join(f"%({atom})s" for atom in dict.fromkeys(unknown))
        known = f"{' '.join(f'%({atom})s' for atom in _ATOMS)} %({{header}}i)s %({{header}}o)s"
        return f"has unknown atoms: {names}; known: {known}{did_you_mean(unknown[0], _ATOMS)}"
    rest = _CONVERSION.sub("", form)
    if "%" in rest:
        piece = rest[rest.index("%") :][:20]
        return f"has '{piece}'; expected an atom such as %(h)s, or %% for a percent sign"
    try:
        form % _Values(_Exchange(_SAMPLE))
    except (TypeError, ValueError) as error:
        return f"is '{form}', which cannot be formatted: {error}; use %(…)s"
    return None


_SAMPLE: Message = {
    "method": "GET",
    "raw_path": b"/",
    "query_string": b"",
    "http_version": "1.1",
    "headers": (),
}


def with_access_log(app: AsgiApp, form: str) -> AsgiApp:
    """Write a line for each request of an application when its answer has been sent."""

    async def logged(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        exchange = _Exchange(scope)

        async def observe(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = cast(int, message["status"])
                exchange.answer_headers = cast(
                    "Iterable[tuple[bytes, bytes]]", message.get("headers", ())
                )
            else:
                exchange.sent_bytes += len(cast(bytes, message.get("body", b"")))
            await send(message)

        try:
            await app(scope, receive, observe)
        except Exception:
            if exchange.status == _CLIENT_CLOSED:
                exchange.status = HTTPStatus.INTERNAL_SERVER_ERROR.value
            raise
        finally:
            exchange.seconds = time.perf_counter() - exchange.began
            LOG.info("%s", form % _Values(exchange))

    return logged
