"""Begins traces: samples a request before anything is made for it, and reads its W3C context."""

from __future__ import annotations

import random
import re

from bundleserver.serving.tracing.failures import is_failure
from bundleserver.spans import Sink, Span, Value

_TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?",
    re.DOTALL,
)
_LONGEST_TRACEPARENT = 128
"""Later versions may append something to the 55 characters of this one."""

LONGEST_TRACESTATE = 512
"""What W3C asks to keep at least; a longer one is dropped as a whole."""

MOST_MEMBERS = 32
"""What a tracestate may have of them."""

_MEMBER = re.compile(
    r"([a-z0-9][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_LOW = (1 << 64) - 1
_random_bits = random.Random().getrandbits  # noqa: S311  # ids are no secrets


class Tracer:
    """Begins the spans of requests and of the server's own work. From any thread.

    Attributes:
        reads_context: whether requests may bring a context.
    """

    def __init__(
        self, sink: Sink, ratio: float, *, follows_parent: bool = True, reads_context: bool = True
    ) -> None:
        """Set where spans go that have ended, and which share of the traces is sampled."""
        self._sink = sink
        # OpenTelemetry's own rule, so that all services with one ratio sample the same traces.
        self._bound = round(ratio * (_LOW + 1))
        self._follows_parent = follows_parent
        self.reads_context = reads_context

    def begin(self, name: str, attributes: dict[str, Value]) -> Span | None:
        """Begin a trace of the server's own work: all of it, unless nothing is sampled."""
        if not self._bound:
            return None
        return Span(name, _random_bits(128) or 1, 0, self._sink, attributes)

    def sample(self, traceparent: str | None) -> Sampled | None:
        """Decide whether a request is traced, by its header; one that is not valid is ignored.

        Returns its trace and its parent; None for most.
        """
        parent = None
        if traceparent is not None and self.reads_context:
            parent = read_traceparent(traceparent)
        if parent is None:
            trace_id = _random_bits(128)
            return (trace_id or 1, 0) if trace_id & _LOW < self._bound else None
        trace_id, span_id, is_sampled = parent
        if is_sampled if self._follows_parent else trace_id & _LOW < self._bound:
            return trace_id, span_id
        return None

    def begin_request(
        self, name: str, sampled: Sampled, attributes: dict[str, Value], tracestate: str | None
    ) -> Span:
        """Begin the span of a sampled request."""
        trace_id, parent_id = sampled
        state = read_tracestate(tracestate) if parent_id else ""
        return Span(name, trace_id, parent_id, self._sink, attributes, state, "server", is_failure)


Sampled = tuple[int, int]
"""The ids of a trace and of the parent in it, 0 for none."""


def read_traceparent(written: str) -> tuple[int, int, bool] | None:
    """Return the ids of trace and parent, and whether it is sampled; None if it is not valid."""
    if len(written) > _LONGEST_TRACEPARENT:
        return None
    found = _TRACEPARENT.fullmatch(written.strip(" \t"))
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "00" and more is not None:
        return None
    return int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & 1)


def read_tracestate(written: str | None) -> str:
    """Return a state that may go on; empty for one that is too long or not what W3C has.

    Several headers are one, with commas between them.
    """
    if written is None or len(written) > LONGEST_TRACESTATE:
        return ""
    members = [member.strip(" \t") for member in written.split(",")]
    read = [_MEMBER.fullmatch(member) for member in members if member]
    keys = {member[1] for member in read if member is not None}
    return ",".join(filter(None, members)) if len(keys) == len(read) <= MOST_MEMBERS else ""
