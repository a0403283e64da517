"""OpenTelemetry's own exporters, which get spans in its form: the only module that imports it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import SpanContext, TraceState

import bundleserver
from bundleserver.documents.printable import printable
from bundleserver.spans import Span, Value

if TYPE_CHECKING:
    from bundleserver.serving.tracing.settings import TracingSettings

NAME = "bundleserver"
_LONGEST = 1024
"""Characters of an attribute."""
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_SCOPE = InstrumentationScope(NAME, bundleserver.__version__)
_KINDS = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER}
_OK, _FAILED = Status(StatusCode.UNSET), StatusCode.ERROR


class Exporters:
    """Converts spans, and gives them to each exporter. From one thread, but for ``shut_down``."""

    def __init__(self, settings: TracingSettings) -> None:
        """Make the exporters; none of them connects yet.

        Raises:
            Exception: a variable that only an exporter reads is not valid.
        """
        self.said = _Said()
        self._all = [_exporter(name, settings.protocol) for name in settings.exporters]
        own = {"service.name": NAME, "service.version": bundleserver.__version__}
        resource = Resource({**own, "process.pid": os.getpid()})
        self._resource = resource.merge(OTELResourceDetector().detect())

    def export(self, spans: Sequence[Span]) -> str | None:
        """Export spans; return why that failed, or None."""
        converted = [readable(span, self._resource) for span in spans]
        why = None
        for exporter in self._all:
            if exporter.export(converted) is not SpanExportResult.SUCCESS:
                why = self.said.last() or f"{type(exporter).__name__} failed"
        return why

    def shut_down(self) -> None:
        """Close connections, and end a call that waits."""
        for exporter in self._all:
            exporter.shutdown()


class _Said(logging.Handler):
    """Keeps what OpenTelemetry says, which is once a batch, from the log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._lines: list[str] = []
        for name in ("opentelemetry.exporter", "opentelemetry.sdk"):
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = [self], False

    def emit(self, record: logging.LogRecord) -> None:
        self._lines = [*self._lines[-7:], printable(record.getMessage(), 400)]

    def last(self) -> str:
        """Return what was said last, and forget it."""
        said, self._lines = self._lines, []
        return said[-1] if said else ""

    def all(self) -> list[str]:
        """Return what was said, and forget it."""
        said, self._lines = self._lines, []
        return said


def _exporter(name: str, protocol: str) -> SpanExporter:
    if name == "console":
        return ConsoleSpanExporter(out=sys.stdout)
    make: Callable[[], SpanExporter]
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as OfGrpc

        make = OfGrpc
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as OfHttp

        make = OfHttp
    return make()


def readable(span: Span, resource: Resource) -> ReadableSpan:
    """Convert a span that has ended."""
    state = TraceState.from_header([span.state]) if span.state else None
    parent = None
    if span.parent_id:
        is_remote = span.kind == "server"
        parent = SpanContext(span.trace_id, span.parent_id, is_remote, _SAMPLED, state)
    status, events = _OK, []
    if span.error is not None:
        kind, message = span.error
        message = _text(message)
        facts = {"exception.type": kind, "exception.message": message}
        events = [Event("exception", facts, span.ended_ns)]
        span.attributes.setdefault("error.type", kind)
        status = Status(_FAILED, message) if span.is_failed else _OK
    return ReadableSpan(
        _text(span.name),
        SpanContext(
            span.trace_id, span.span_id, is_remote=False, trace_flags=_SAMPLED, trace_state=state
        ),
        parent,
        resource,
        {name: _bounded(value) for name, value in span.attributes.items()},
        events,
        [
            Link(SpanContext(trace, one, is_remote=False, trace_flags=_SAMPLED))
            for trace, one in span.links
        ],
        _KINDS[span.kind],
        status=status,
        start_time=span.started_ns,
        end_time=span.ended_ns,
        instrumentation_scope=_SCOPE,
    )


def _bounded(value: Value) -> Value:
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    """Return a text that a message can have: from requests and files it may be anything."""
    return text if len(text) <= _LONGEST and text.isprintable() else printable(text, _LONGEST)
