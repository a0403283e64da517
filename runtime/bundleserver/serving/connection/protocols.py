"""Chooses what serves a connection: ours with the tested versions of uvicorn, else uvicorn's."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable

import uvicorn
from packaging.specifiers import SpecifierSet

from bundleserver.serving.connection.ending import Ending
from bundleserver.serving.connection.plain import PlainProtocol
from bundleserver.serving.errors import NoteRefusal
from bundleserver.serving.inflight import InflightBytes
from bundleserver.serving.rest.http import Begin
from bundleserver.serving.unsent import UnsentAnswers

_NEVER = Ending()

Find = Callable[[bytes, bytes], Begin | None]
"""Finds who answers a method and a path; None leaves the request to the application."""

TESTED = SpecifierSet(">=0.53,<0.55")
"""The versions of uvicorn whose internals ``eager`` is tested with; pyproject.toml has them too."""


def why_plain() -> str | None:
    """Return why requests take uvicorn's own way; None where they need not."""
    if uvicorn.__version__ not in TESTED:
        return f"uvicorn {uvicorn.__version__} is installed; tested versions are {TESTED}"
    try:
        importlib.import_module("httptools")
    except ImportError as error:
        return f"httptools cannot be used: {error}"
    return None


def eager_protocol(
    timeout_receive: float,
    find: Find,
    ending: Ending = _NEVER,
    *,
    timeout_send: float = 0.0,
    max_head_bytes: int = 0,
    bodies: InflightBytes | None = None,
    answers: UnsentAnswers | None = None,
    note_unread: NoteRefusal = lambda *_: None,
) -> type[asyncio.Protocol]:
    """Make the protocol that answers most requests in the parser callback.

    Args:
        timeout_receive: seconds between two checks for a head that does not arrive; 0: none.
        find: who answers requests that may be answered there.
        ending: whether the server ends.
        timeout_send: seconds in which a client has to take an answer; 0: none.
        max_head_bytes: the largest head; 0: any.
        bodies: counts the bodies in flight.
        answers: counts the answers that are not taken.
        note_unread: counts what is refused before its path is read.
    """
    from bundleserver.serving.connection.eager import EagerProtocol

    settings = {
        "timeout_receive": timeout_receive,
        "timeout_send": timeout_send,
        "max_head_bytes": max_head_bytes,
        "bodies": bodies or InflightBytes(0),
        "answers": answers or UnsentAnswers(0),
        "note_unread": staticmethod(note_unread),
        "find": staticmethod(find),
        "ending": ending,
    }
    return type("Protocol", (EagerProtocol,), settings)


def plain_protocol(
    timeout_receive: float,
    own: type[asyncio.Protocol],
    *,
    timeout_send: float = 0.0,
    max_head_bytes: int = 0,
    answers: UnsentAnswers | None = None,
    note_unread: NoteRefusal = lambda *_: None,
) -> type[asyncio.Protocol]:
    """Make uvicorn's own protocol one that closes connections of slow clients."""
    settings = {
        "timeout_receive": timeout_receive,
        "timeout_send": timeout_send,
        "max_head_bytes": max_head_bytes,
        "answers": answers or UnsentAnswers(0),
        "note_unread": staticmethod(note_unread),
    }
    return type("Protocol", (PlainProtocol, own), settings)
