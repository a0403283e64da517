"""Our bytes, read by OpenTelemetry's own messages and compared with those of its exporter."""

from __future__ import annotations

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource

import bundleserver
from bundleserver.serving.tracing.encoding import encode, encode_attributes, encode_scope
from bundleserver.serving.tracing.library import readable
from bundleserver.spans import Span

FACTS = {"service.name": "fraud", "process.pid": 7}


def ended(name="predict", parent=0, kind="internal", state="", error=None, links=(), **attributes):
    """Make a span that has ended."""
    trace = 0x0AF7651916CD43DD8448EB211C80319C
    span = Span(name, trace, parent, lambda _: None, attributes, state, kind)
    span.links = links
    if error is not None:
        span.fail(error, is_failed=isinstance(error, RuntimeError))
    span.end()
    return span


def read(*spans):
    """Encode spans, and return OpenTelemetry's message of them."""
    scope = encode_scope("bundleserver", bundleserver.__version__)
    return ExportTraceServiceRequest.FromString(encode(spans, encode_attributes(FACTS), scope))


@pytest.mark.parametrize(
    "span",
    [
        ended(),
        ended("POST /v2/models/{model}/infer", 2**64 - 1, "server", "vendor=1"),
        ended(rows=-(2**63), large=2**63 - 1, share=0.25, hit=True, miss=False, text="ü" * 400),
        ended(error=RuntimeError("the sensor table is empty"), rows=1),
        ended(error=ValueError("no number"), kind="server", parent=1),
        ended(links=((1, 2), (2**128 - 1, 2**64 - 1))),
        ended("\x1b[2J" * 1000, path="/\udcff\n" * 2000, empty=""),
        ended(error=RuntimeError("\udcff" * 5000)),
    ],
)
def test_the_bytes_are_those_of_opentelemetry(span):
    """Field by field, also for texts that no message can have."""
    theirs = encode_spans([readable(span, Resource(FACTS))])
    message = theirs.resource_spans[0].scope_spans[0].spans[0]
    if not message.status.code:
        message.ClearField("status")
    for link in message.links:
        link.ClearField("flags")

    assert theirs == read(span)


def test_there_may_be_any_number_of_spans():
    """Their lengths need more than one byte, and their order stays."""
    spans = [ended(f"step-{number}", text="x" * number) for number in range(600)]

    message = read(*spans)

    found = message.resource_spans[0].scope_spans[0].spans
    assert [span.name for span in spans] == [span.name for span in found]
    assert {"fraud", ""} == {
        pair.value.string_value for pair in message.resource_spans[0].resource.attributes
    }
