"""Every error that bundleserver raises on purpose, each named after the broken promise.

::

    BundleServerError
    ├── ManifestError       a manifest breaks its format (lists every problem)
    ├── IntegrityError      files differ from their manifest (lists every difference)
    ├── BundleError         a directory cannot be opened as one model
    │   ├── FrameworkError  a framework is unknown or its library is not installed
    │   ├── LoadError       one component's file cannot be opened
    │   ├── WarmUpError     an example's outputs differ from those in the manifest
    │   └── ProbeError      no call with made-up inputs can be answered
    ├── InvalidInput        a request does not match the model's inputs (the caller's to fix)
    ├── Unauthenticated     a change requires the administrator's token
    ├── Forbidden           a change, or the index, is closed to whoever asks for it
    ├── RequestTooLarge     a request exceeds the size limit
    ├── HeadTooLarge        a request's head exceeds its limit
    ├── TooManyValues       a request's document has more values than its limit
    ├── TooManyBytes        the requests in flight have more bytes than their limit
    ├── RequestTooSlow      a request did not arrive within its timeout
    ├── HistoryTooLong      a forecast's history would need more memory than it may
    ├── AnswerTooLarge      a request asks for more values than one answer may have
    ├── RequestTimedOut     a request was not answered within its timeout
    ├── RequestCancelled    its client has gone away, so that nobody waits for the rest
    ├── PredictionError     the model's own code raised (ours or the model author's to fix)
    │   └── OutOfMemory     it found too little memory
    ├── ModelNotFound       the model is unknown
    ├── VersionNotFound     the model is known, the version or label is not
    ├── NotReady            known, but not ready now
    ├── QueueFull           a model's request queue is full
    ├── SourceError         a source of versions cannot be read now
    ├── StoreError          a bundle cannot be written or published
    └── ConfigError         a serving.json or a flag has an invalid value (lists every problem)

Messages say which thing, what is wrong, what is expected and what to do; lower case, no full stop.
No class here depends on HTTP or gRPC: ``serving/errors.py`` maps classes to responses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bundleserver.documents.printable import printable

_MOST_TOLD, _LONGEST = 20, 600  # of the problems in one message


class BundleServerError(Exception):
    """The root of the tree: anything bundleserver raises on purpose; its message is printable."""

    def __str__(self) -> str:
        return printable(super().__str__())


@dataclass(frozen=True)
class Problem:
    """One problem: where it is (a JSON path or a file) and what is wrong there."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


class _ProblemsError(BundleServerError):
    """An error that lists everything found wrong with one thing."""

    def __init__(self, what: str, problems: Sequence[Problem]) -> None:
        self.what = what
        self.problems = tuple(problems)
        super().__init__(what, self.problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return printable(f"{self.what}: {self.problems[0]}")
        told = [printable(str(problem), _LONGEST) for problem in self.problems[:_MOST_TOLD]]
        more = len(self.problems) - len(told)
        listed = "; ".join([*told, *([f"and {more} more"] if more else [])])
        return printable(f"{self.what}: {len(self.problems)} problems: {listed}")


class ManifestError(_ProblemsError):
    """A manifest breaks its format; ``problems`` lists all of them with their JSON paths."""


class IntegrityError(_ProblemsError):
    """Files of a bundle differ from its manifest."""


class ConfigError(_ProblemsError):
    """A ``serving.json`` or a setting has invalid values."""


class BundleError(BundleServerError):
    """A directory cannot be opened as one logical model."""


class FrameworkError(BundleError):
    """A framework is unknown, or its library is not installed in this environment."""


class LoadError(BundleError):
    """One component's file cannot be opened; the message names the file, the cause and a fix."""


class WarmUpError(BundleError):
    """An example of the manifest fails, or its outputs differ from the expected ones."""


class ProbeError(BundleError):
    """A version cannot answer: its probe failed, so it is not READY."""


class InvalidInput(BundleServerError):
    """A request does not match the model's inputs; the message has both."""


class Unauthenticated(BundleServerError):
    """A request has no token, or another one than the administrator's."""


class Forbidden(BundleServerError):
    """What a request asks for is closed to it; the message says how it is opened."""


class RequestTooLarge(BundleServerError):
    """A request body exceeds the size limit."""

    def __init__(self, limit_bytes: int, flag: str = "--max_request_bytes") -> None:
        self.limit_bytes = limit_bytes
        super().__init__(
            f"the request body exceeds the limit of {limit_bytes} bytes; send fewer rows per "
            f"request, or raise {flag}"
        )


class HeadTooLarge(BundleServerError):
    """A request's head, or what follows its body, exceeds the size limit."""

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        super().__init__(
            f"the request head has {size_bytes} bytes or more; expected at most {limit_bytes}; "
            "send fewer or shorter headers, or raise --max_head_bytes"
        )


class TooManyValues(BundleServerError):
    """A request's document has too many values; no more of them may have been counted."""

    def __init__(self, count: int, limit: int) -> None:
        self.limit = limit
        super().__init__(
            f"the request body has {count} values and keys or more, arrays and objects counted "
            f"twice; expected at most {limit}; send fewer rows per request, or raise "
            "--max_body_values"
        )


class TooManyBytes(BundleServerError):
    """The bodies of all requests in flight would exceed their limit; it may be retried later."""

    def __init__(
        self,
        size_bytes: int,
        held_bytes: int,
        limit_bytes: int,
        retry_after_seconds: int = 1,
        what: str = "request body",
    ) -> None:
        self.limit_bytes = limit_bytes
        self.retry_after_seconds = retry_after_seconds
        super().__init__(
            f"the {what} has {size_bytes} bytes, and those of other requests in flight have "
            f"{held_bytes}; expected at most {limit_bytes} together; retry later, or raise "
            "--max_inflight_bytes"
        )


class RequestTooSlow(BundleServerError):
    """A request did not arrive within its timeout; the message has what was received."""


class HistoryTooLong(BundleServerError):
    """A forecast's history has more observations than the model has memory for."""

    def __init__(self, length: int, limit: int, bytes_each: int) -> None:
        self.limit = limit
        super().__init__(
            f"input 'history' has {length} observations, each of which takes {bytes_each} bytes in "
            f"this model; expected at most {limit}; send the last ones alone, or raise the "
            "component's options.max_history"
        )


class AnswerTooLarge(BundleServerError):
    """A request asks for more values than one answer may have, over its members and instances."""

    def __init__(self, values: int, limit: int, least: bool = False) -> None:
        self.values = values
        self.limit = limit
        counted = f"at least {values}" if least else f"{values}"
        super().__init__(
            f"the answer would have {counted} values; expected at most {limit}; send fewer "
            "instances, rows or steps per request, or raise --max_answer_values"
        )


class RequestTimedOut(BundleServerError):
    """A request was not answered within its timeout; what has not started never will."""

    def __init__(self, waited_seconds: float, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        super().__init__(
            f"no answer after {waited_seconds} s; expected one within {timeout_seconds} s, the "
            "least of --request_timeout_seconds and what the request allows"
        )


class RequestCancelled(BundleServerError):
    """The client has gone away, so that nobody waits for what is left of its request."""

    def __init__(self) -> None:
        super().__init__("the client has gone away; the rest of its request is not run")


class PredictionError(BundleServerError):
    """The model's own code raised; the log has the traceback under the same ``incident``."""

    def __init__(self, identity: str, cause: str, incident: str) -> None:
        self.identity = identity
        self.cause = cause
        self.incident = incident
        super().__init__(f"{identity} failed: {cause} (incident {incident}; see the log)")


class OutOfMemory(PredictionError):
    """The model's own code found too little memory; others may have it now."""

    retry_after_seconds = 1


class ModelNotFound(BundleServerError):
    """No model of that name is served here; with ``known`` None it is not said which ones are."""

    def __init__(self, model: str, known: Sequence[str] | None = ()) -> None:
        self.model = model
        self.known = tuple(known or ())
        listed = ", ".join(f"'{name}'" for name in self.known[:20]) or "none yet"
        served = "" if known is None else f"; served: {listed}"
        super().__init__(f"model '{model}' is not served here{served}")


class VersionNotFound(BundleServerError):
    """The model is known; the version or label is not, or the policy excludes it."""

    def __init__(self, model: str, version: str, detail: str) -> None:
        self.model = model
        self.version = version
        super().__init__(f"model '{model}' has no version or label '{version}': {detail}")


class NotReady(BundleServerError):
    """A known model or version is not ready now; ``reason`` says why."""

    def __init__(self, identity: str, reason: str, retry_after_seconds: int = 1) -> None:
        self.identity = identity
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds
        super().__init__(f"{identity} is not ready: {reason}")


class QueueFull(BundleServerError):
    """A model's request queue is full."""

    def __init__(
        self, identity: str, limit: int, retry_after_seconds: int = 1, flag: str = "--max_queue"
    ) -> None:
        self.identity = identity
        self.retry_after_seconds = retry_after_seconds
        more = f", or raise {flag}" if flag else ""
        super().__init__(
            f"the request queue of {identity} is full ({limit} waiting); retry later{more}"
        )


class SourceError(BundleServerError):
    """A source of versions cannot be read now; loaded versions keep serving."""


class StoreError(BundleServerError):
    """A bundle cannot be saved, published or configured in a store."""
