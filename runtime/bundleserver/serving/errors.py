"""The one table from errors to responses, the same for REST and gRPC."""

from __future__ import annotations

import logging
import uuid
from asyncio import CancelledError
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from bundleserver.errors import (
    AnswerTooLarge,
    BundleServerError,
    Forbidden,
    HeadTooLarge,
    HistoryTooLong,
    InvalidInput,
    ModelNotFound,
    NotReady,
    OutOfMemory,
    PredictionError,
    QueueFull,
    RequestCancelled,
    RequestTimedOut,
    RequestTooLarge,
    RequestTooSlow,
    TooManyBytes,
    TooManyValues,
    Unauthenticated,
    VersionNotFound,
)
from bundleserver.spans import log_suffix

_logger = logging.getLogger(__name__)

_LONGEST = 16 * 2**10
"""Characters of a message."""

NoteRefusal = Callable[[str, BaseException], None]
"""Counts a refused request: the protocol, and why."""


class ClientDisconnectedError(Exception):
    """The client disconnected before its request was complete; no response is sent."""


@dataclass(frozen=True)
class ErrorAnswer:
    """The response to an error: an HTTP status, the name of a gRPC status, and one message."""

    status: int
    grpc_code: str
    message: str
    retry_after_seconds: int | None = None


_ANSWERS: Mapping[type[BaseException], tuple[int, str]] = MappingProxyType(
    {
        InvalidInput: (400, "INVALID_ARGUMENT"),
        Unauthenticated: (401, "UNAUTHENTICATED"),
        Forbidden: (403, "PERMISSION_DENIED"),
        ModelNotFound: (404, "NOT_FOUND"),
        VersionNotFound: (404, "NOT_FOUND"),
        RequestTooSlow: (408, "DEADLINE_EXCEEDED"),
        RequestTooLarge: (413, "RESOURCE_EXHAUSTED"),
        TooManyValues: (413, "RESOURCE_EXHAUSTED"),
        HeadTooLarge: (431, "RESOURCE_EXHAUSTED"),
        AnswerTooLarge: (413, "RESOURCE_EXHAUSTED"),
        HistoryTooLong: (413, "RESOURCE_EXHAUSTED"),
        # Nobody is there to read it.
        RequestCancelled: (503, "CANCELLED"),
        RequestTimedOut: (504, "DEADLINE_EXCEEDED"),
        OutOfMemory: (503, "RESOURCE_EXHAUSTED"),
        PredictionError: (500, "INTERNAL"),
        NotReady: (503, "UNAVAILABLE"),
        QueueFull: (503, "RESOURCE_EXHAUSTED"),
        TooManyBytes: (503, "RESOURCE_EXHAUSTED"),
        # All other errors of ours say why a version cannot be loaded now.
        BundleServerError: (503, "UNAVAILABLE"),
    }
)


def status_of(error: BaseException) -> int:
    """Return the HTTP status that an error is answered with; nothing is logged."""
    found = next((_ANSWERS[kind] for kind in type(error).__mro__ if kind in _ANSWERS), None)
    return 500 if found is None else found[0]


def answer_for(error: BaseException) -> ErrorAnswer:
    """Map an error to its response by its nearest class in the table.

    An unexpected exception is logged here with its traceback and an incident id; the response has
    only the id.
    """
    for kind in type(error).__mro__:
        if kind in _ANSWERS:
            status, grpc_code = _ANSWERS[kind]
            retry_after = getattr(error, "retry_after_seconds", None)
            message = str(error)
            if len(message) > _LONGEST:
                # It names what the request has, such as a million columns.
                message = f"{message[:_LONGEST]}… and {len(message) - _LONGEST} more characters"
            return ErrorAnswer(status, grpc_code, message, retry_after)
    incident = uuid.uuid4().hex[:12]
    where = (incident, log_suffix())
    _logger.error("incident %s%s: unexpected exception in a request", *where, exc_info=error)
    if isinstance(error, MemoryError):
        message = (
            f"the server has too little memory for this request (incident {incident}; see the "
            "server log); send fewer rows per request, or retry later"
        )
        return ErrorAnswer(503, "RESOURCE_EXHAUSTED", message, 1)
    message = f"internal server error (incident {incident}; see the server log)"
    return ErrorAnswer(500, "INTERNAL", message)


_OUTCOMES: Mapping[type[BaseException], str] = MappingProxyType(
    {
        InvalidInput: "invalid_input",
        RequestTooLarge: "invalid_input",
        TooManyValues: "invalid_input",
        AnswerTooLarge: "invalid_input",
        HistoryTooLong: "invalid_input",
        RequestCancelled: "cancelled",
        ClientDisconnectedError: "cancelled",
        RequestTimedOut: "timed_out",
        ModelNotFound: "not_found",
        VersionNotFound: "not_found",
        NotReady: "not_ready",
        QueueFull: "queue_full",
    }
)


def outcome_of(error: BaseException) -> str:
    """Name what an error means for a request, as the metrics' label ``outcome`` spells it."""
    if isinstance(error, CancelledError):
        return "cancelled"
    return _OUTCOMES.get(type(error), "error")
