"""What a request's span says of its error: the answer's message, and whose failure it is."""

from __future__ import annotations

from asyncio import CancelledError

from bundleserver.errors import BundleServerError
from bundleserver.serving.errors import ErrorAnswer, status_of
from bundleserver.spans import Span

_FAILED = 500
"""From this status on, as HTTP has them, it is the server that failed."""


def is_failure(error: BaseException) -> bool:
    """Ask whether an error in the course of a request is the server's; a client may also leave."""
    return not isinstance(error, CancelledError) and status_of(error) >= _FAILED


def note_failure(span: Span, error: BaseException, answer: ErrorAnswer) -> None:
    """Note what a request is answered with instead of a response, with its incident if it has one.

    Of an unexpected exception the client gets the incident only; the span has what it says too.
    """
    span.fail(error, is_failed=answer.status >= _FAILED)
    ours = isinstance(error, BundleServerError)
    said = answer.message if ours else f"{error}; {answer.message}"
    span.error = (type(error).__name__, said)
