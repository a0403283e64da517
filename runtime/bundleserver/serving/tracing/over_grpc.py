"""OTLP over gRPC: OpenTelemetry's connection, retries and variables with messages of our own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExportResult

import bundleserver
from bundleserver.serving.tracing.encoding import encode, encode_attributes, encode_scope
from bundleserver.spans import Span


class GrpcExporter(OTLPSpanExporter):
    """Exports our spans without converting them to OpenTelemetry's."""

    def __init__(self, resource: Resource) -> None:
        super().__init__()
        known = {
            name: value
            for name, value in resource.attributes.items()
            if isinstance(value, str | int | float)
        }
        self._known = encode_attributes(known), encode_scope(NAME, bundleserver.__version__)

    def send(self, spans: Sequence[Span]) -> bool:
        """Send spans, with OpenTelemetry's retries; return whether that succeeded."""
        return self._export(spans) is SpanExportResult.SUCCESS  # type: ignore[arg-type]  # see below

    def _translate_data(self, data: Any) -> Any:  # what was given to ``send``
        return ExportTraceServiceRequest.FromString(encode(data, *self._known))


def is_supported() -> bool:
    """Ask whether OpenTelemetry's exporter has the two methods that ours lives by.

    They are its own affair, and a later version may have others.
    """
    return all(hasattr(OTLPSpanExporter, name) for name in ("_export", "_translate_data"))


NAME = "bundleserver"
