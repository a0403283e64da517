"""Spans: what is done in which order, and how long it takes; nothing until a tracer is installed.

A trace begins with a request (``serving/tracing``) or with ``begin``. What happens below it asks
``span``, which costs next to nothing where nothing is traced: unsampled requests have no span.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Protocol, TypeAlias, TypeVar

T = TypeVar("T")

Value: TypeAlias = str | int | float | bool
"""What an attribute of a span may be."""

Judge: TypeAlias = Callable[[BaseException], bool]
"""Says of an error whether it is the server's failure, and not its client's."""

Sink: TypeAlias = Callable[["Span"], None]
"""Takes a span that has ended; from any thread, and never waits."""

_random_bits = random.Random().getrandbits  # noqa: S311  # ids are no secrets
_now = time.perf_counter_ns
_new = object.__new__


def _is_own(_: BaseException) -> bool:
    """Say of all errors that they are the server's: its own work has no client."""
    return True


class Trace:
    """What all spans of one process's part of a trace share: id, state, sink and judge."""

    __slots__ = ("id", "judge", "offset_ns", "sink", "state")

    def __init__(self, trace_id: int, sink: Sink, state: str, judge: Judge) -> None:
        self.id, self.sink, self.state, self.judge = trace_id, sink, state, judge
        # The wall clock may be set in the course of a trace: it is read once.
        self.offset_ns = time.time_ns() - time.perf_counter_ns()


class Span:
    """A part of a trace. One thread at a time works with it.

    Attributes:
        name: what is done.
        trace: what it shares with the others.
        span_id: 64 bits.
        parent_id: the span above it; 0 for none.
        kind: ``internal`` or ``server``.
        attributes: facts.
        error: the name and the message of what it failed with.
        is_failed: whether that is the server's failure, and not its client's.
        links: spans of other traces that share its work, as ids of trace and span.
    """

    # As they are of most spans, so that nobody sets them.
    kind = "internal"
    error: tuple[str, str] | None = None
    is_failed = False
    links: tuple[tuple[int, int], ...] = ()
    _ended = 0

    def __init__(
        self,
        name: str,
        trace_id: int,
        parent_id: int,
        sink: Sink,
        attributes: dict[str, Value],
        state: str = "",
        kind: str = "internal",
        judge: Judge = _is_own,
    ) -> None:
        """Begin the first span of a trace in this process."""
        self.name, self.parent_id, self.attributes = name, parent_id, attributes
        self.trace, self.kind = Trace(trace_id, sink, state, judge), kind
        self.span_id = _random_bits(64)
        self._started = _now()

    @property
    def trace_id(self) -> int:
        """128 bits, the same for the whole trace."""
        return self.trace.id

    @property
    def state(self) -> str:
        """The ``tracestate`` that came with the request, for what goes on with it."""
        return self.trace.state

    @property
    def started_ns(self) -> int:
        """When it began, in nanoseconds since the epoch."""
        return self._started + self.trace.offset_ns

    @property
    def ended_ns(self) -> int:
        """When it ended, likewise; of no meaning before it has."""
        return self._ended + self.trace.offset_ns

    def child(self, name: str, **attributes: Value) -> Span:
        """Begin a span below this one."""
        span: Span = _new(Span)
        span.name, span.parent_id, span.attributes = name, self.span_id, attributes
        span.trace = self.trace
        span.span_id = _random_bits(64)
        span._started = _now()
        return span

    def past(self, name: str, seconds: float, **attributes: Value) -> None:
        """Add a span below this one that ends now and has taken so many seconds."""
        child = self.child(name, **attributes)
        child._started -= int(seconds * 1e9)
        child.end()

    def set(self, name: str, value: Value) -> None:
        """Set an attribute."""
        self.attributes[name] = value

    def fail(self, error: BaseException, *, is_failed: bool | None = None) -> None:
        """Note what it failed with, and whether that is the server's failure; None: as judged."""
        self.error = (type(error).__name__, str(error))
        self.is_failed = self.trace.judge(error) if is_failed is None else is_failed

    def end(self) -> None:
        """End it, once."""
        if not self._ended:
            self._ended = _now()
            self.trace.sink(self)

    def __enter__(self) -> Span:
        self._token = _current.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _current.reset(self._token)
        if error is not None:
            self.fail(error)
        self.end()


class Nothing:
    """Stands for a span where nothing is traced."""

    __slots__ = ()

    def set(self, name: str, value: Value) -> None:
        """Do nothing."""

    def __enter__(self) -> Nothing:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Tracer(Protocol):
    """Begins traces."""

    def begin(self, name: str, attributes: dict[str, Value]) -> Span | None:
        """Begin a trace of the server's own work; None if it is not sampled."""


NOTHING = Nothing()
_current: ContextVar[Span | None] = ContextVar("span", default=None)
_tracer: Tracer | None = None

current = _current.get
"""Returns the span that this thread works under; None where nothing is traced."""


def install(tracer: Tracer | None) -> None:
    """Let a tracer begin traces from now on; None ends that."""
    global _tracer  # one process has one tracer
    _tracer = tracer


def is_on() -> bool:
    """Ask whether anything is traced."""
    return _tracer is not None


def span(name: str, **attributes: Value) -> Span | Nothing:
    """Begin a span below the current one, as a context manager; nothing where nothing is traced."""
    parent = _current.get()
    return NOTHING if parent is None else parent.child(name, **attributes)


def begin(name: str, **attributes: Value) -> Span | None:
    """Begin a trace of the server's own work; None where nothing is traced."""
    return None if _tracer is None else _tracer.begin(name, attributes)


@contextmanager
def inside(parent: Span | None) -> Iterator[None]:
    """Let what happens here be below a span, which does not end with it."""
    token = _current.set(parent)
    try:
        yield
    finally:
        _current.reset(token)


def timed(parent: Span | None, name: str, call: Callable[[], T]) -> Callable[[], T]:
    """Return a call that takes a span of its own below ``parent``, in whatever thread.

    There are no spans below that one.
    """
    if parent is None:
        return call
    above = parent

    def run() -> T:
        span = above.child(name)
        try:
            return call()
        except BaseException as error:
            span.fail(error)
            raise
        finally:
            span.end()

    return run


def current_trace_id() -> str | None:
    """Return the id of the current trace, as 32 hexadecimal digits; None where there is none."""
    found = _current.get()
    return None if found is None else f"{found.trace_id:032x}"


def current_traceparent() -> str | None:
    """Return the W3C header ``traceparent`` for calls of other services; None without a trace."""
    found = _current.get()
    return None if found is None else f"00-{found.trace_id:032x}-{found.span_id:016x}-01"


def log_suffix() -> str:
    """Return what a line of the log has of the current trace; empty where there is none."""
    found = _current.get()
    return "" if found is None else f", trace {found.trace_id:032x}"
