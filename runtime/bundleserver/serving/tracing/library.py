"""OpenTelemetry's own exporters; OTLP over gRPC gets the messages that ``encoding`` makes."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Protocol

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import SpanContext, TraceState

import bundleserver
from bundleserver.documents.printable import printable
from bundleserver.serving.tracing.encoding import facts, text
from bundleserver.spans import Span

if TYPE_CHECKING:
    from bundleserver.serving.tracing.settings import TracingSettings

LOG = logging.getLogger(__name__)

NAME = "bundleserver"
_MOST_LINES = 8
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_SCOPE = InstrumentationScope(NAME, bundleserver.__version__)
_KINDS = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER}


class Exporter(Protocol):
    """Sends spans somewhere."""

    def send(self, spans: Sequence[Span]) -> bool:
        """Send them, and return whether that succeeded."""

    def shutdown(self) -> None:
        """Close connections, and end a call that waits."""


class Exporters:
    """Gives spans to each exporter. From one thread, but for ``shut_down``."""

    def __init__(self, settings: TracingSettings) -> None:
        """Make the exporters; none of them connects yet.

        Raises:
            Exception: a variable that only an exporter reads is not valid.
        """
        self.said = Said()
        own = {"service.name": NAME, "service.version": bundleserver.__version__}
        resource = Resource({**own, "process.pid": os.getpid()})
        resource = resource.merge(OTELResourceDetector().detect())
        self._all = [_exporter(name, settings.protocol, resource) for name in settings.exporters]

    def export(self, spans: Sequence[Span]) -> str | None:
        """Export spans; return why that failed, or None."""
        why = None
        self.said.all()
        for exporter in self._all:
            if not exporter.send(spans):
                why = self.said.why() or "the exporter does not say why"
        return why

    def shut_down(self) -> None:
        """Close connections, and end a call that waits."""
        for exporter in self._all:
            exporter.shutdown()


class Said(logging.Handler):
    """Keeps what OpenTelemetry says, which is once a batch, from the log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._records: list[tuple[int, str]] = []
        for name in ("opentelemetry.exporter", "opentelemetry.sdk"):
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = [self], False

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a few lines."""
        if len(self._records) < _MOST_LINES:
            self._records.append((record.levelno, printable(record.getMessage(), 400)))

    def why(self) -> str:
        """Return what an export failed with, and forget it.

        That is its error. An export that was ended on the way to its next try has none: its first
        warning has the reason, and the last one only that it was ended.
        """
        worst = max(self._records, key=itemgetter(0), default=(0, ""))
        self._records = []
        return worst[1]

    def all(self) -> list[str]:
        """Return what was said, and forget it."""
        said, self._records = [line for _, line in self._records], []
        return said


class _Converting:
    """An exporter of OpenTelemetry's, which gets spans in its own form."""

    def __init__(self, exporter: SpanExporter, resource: Resource) -> None:
        self._exporter, self._resource = exporter, resource
        self.shutdown = exporter.shutdown

    def send(self, spans: Sequence[Span]) -> bool:
        converted = [readable(span, self._resource) for span in spans]
        return self._exporter.export(converted) is SpanExportResult.SUCCESS


def _exporter(name: str, protocol: str, resource: Resource) -> Exporter:
    if name == "console":
        return _Converting(ConsoleSpanExporter(out=sys.stdout), resource)
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter

        from bundleserver.serving.tracing.over_grpc import GrpcExporter, is_supported

        if is_supported():
            return GrpcExporter(resource)
        LOG.info("traces: this version of OpenTelemetry converts spans itself, which takes longer")
        return _Converting(trace_exporter.OTLPSpanExporter(), resource)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return _Converting(OTLPSpanExporter(), resource)


def readable(span: Span, resource: Resource) -> ReadableSpan:
    """Convert a span that has ended."""
    state = TraceState.from_header([span.state]) if span.state else None
    parent = None
    if span.parent_id:
        parent = SpanContext(span.trace_id, span.parent_id, span.kind == "server", _SAMPLED, state)
    status, events = Status(StatusCode.UNSET), []
    if span.error is not None:
        kind, said = span.error[0], text(span.error[1])
        told = {"exception.type": kind, "exception.message": said}
        events = [Event("exception", told, span.ended_ns)]
        status = Status(StatusCode.ERROR, said) if span.is_failed else status
    return ReadableSpan(
        text(span.name),
        _context(span.trace_id, span.span_id, state),
        parent,
        resource,
        {k: text(v) if isinstance(v, str) else v for k, v in facts(span).items()},
        events,
        [Link(_context(*ids)) for ids in span.links],
        _KINDS[span.kind],
        status=status,
        start_time=span.started_ns,
        end_time=span.ended_ns,
        instrumentation_scope=_SCOPE,
    )


def _context(trace_id: int, span_id: int, state: TraceState | None = None) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote=False, trace_flags=_SAMPLED, trace_state=state)
