"""Tracing switched on and off by variables, in this process."""

from __future__ import annotations

import logging
import sys

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SpanExportResult

from bundleserver import spans
from bundleserver.serving.tracing import set_up
from bundleserver.serving.tracing.library import Said
from tests.end_to_end.collector import collecting

LIBRARY = "bundleserver.serving.tracing.library"


@pytest.fixture(autouse=True)
def _restored():
    """Leave neither a tracer nor OpenTelemetry's loggers changed."""
    loggers = [logging.getLogger(f"opentelemetry.{name}") for name in ("exporter", "sdk")]
    kept = [(logger, logger.handlers, logger.propagate) for logger in loggers]
    yield
    spans.install(None)
    for logger, handlers, propagate in kept:
        logger.handlers, logger.propagate = handlers, propagate


def test_a_package_that_is_not_installed_is_one_warning(monkeypatch, caplog):
    """It says what to install."""
    monkeypatch.delitem(sys.modules, LIBRARY, raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)

    tracing = set_up({"OTEL_TRACES_EXPORTER": "otlp"})

    assert (None, False) == (tracing.tracer, spans.is_on())
    (said,) = caplog.messages
    assert said.startswith("traces are off: the package of 'opentelemetry.sdk.resources'")
    assert said.endswith("pip install 'bundleserver[tracing]'")


def test_nothing_is_imported_while_it_is_off():
    """Also where variables say so in words."""
    before = {name for name in sys.modules if name.startswith("opentelemetry")}

    for variables in ({}, {"OTEL_TRACES_EXPORTER": "none"}):
        assert set_up(variables).tracer is None

    assert before == {name for name in sys.modules if name.startswith("opentelemetry")}
    assert not spans.is_on()


def test_spans_end_up_on_the_console_by_the_end(capsys, caplog, monkeypatch):
    """What the variables say of the resource is in them, and what is ignored is told once."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "fraud")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=risk")
    tracing = set_up({"OTEL_TRACES_EXPORTER": "console", "OTEL_PROPAGATORS": "tracecontext,b3"})
    assert spans.is_on()
    with spans.begin("load", model="fraud"):
        pass

    tracing.close()

    written = capsys.readouterr().out
    for part in ('"name": "load"', '"service.name": "fraud"', '"team": "risk"'):
        assert part in written
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "OTEL_PROPAGATORS: b3 are not supported, and ignored" in warning.getMessage()
    assert not spans.is_on()


@pytest.mark.parametrize("name", ["_export", "_translate_data"])
def test_another_version_of_the_exporter_gets_converted_spans(name, monkeypatch, caplog):
    """Where it has not the methods that ours lives by, which are private ones."""
    caplog.set_level(logging.INFO)
    for kind in OTLPSpanExporter.__mro__:
        if name in vars(kind):
            monkeypatch.delattr(kind, name)
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.grpc_url)
        monkeypatch.setattr(OTLPSpanExporter, "export", _export_as_it_likes, raising=False)
        monkeypatch.setattr(OTLPSpanExporter, "__abstractmethods__", frozenset())
        tracing = set_up({"OTEL_TRACES_EXPORTER": "otlp"})
        with spans.begin("load", model="fraud"):
            pass
        tracing.close()
        (load,) = collector.wait_for(lambda span: span.name == "load")

    assert {"model": "fraud"} == load.attributes
    assert "converts spans itself" in caplog.text


def _export_as_it_likes(self, converted):
    """Export by other means than the private methods."""
    self._client.Export(encode_spans(converted))
    return SpanExportResult.SUCCESS


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (
            [
                (logging.WARNING, "Transient error UNAVAILABLE: connection refused"),
                (logging.WARNING, "Shutdown in progress, aborting retry."),
            ],
            "Transient error UNAVAILABLE: connection refused",
        ),
        ([(logging.WARNING, "retrying"), (logging.ERROR, "gone")], "gone"),
        ([], ""),
    ],
)
def test_an_outage_has_its_cause_and_not_its_end(said, why):
    """An error before a warning, and the first before the last."""
    heard = Said()
    for level, line in said:
        logging.getLogger("opentelemetry.exporter").log(level, line)

    assert (why, "") == (heard.why(), heard.why())
