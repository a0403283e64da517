"""The queue of spans, and the thread that empties it."""

from __future__ import annotations

import logging
import threading

import pytest

from bundleserver.serving.tracing.exporting import Exporting
from bundleserver.spans import Span

DEADLINE_SECONDS = 30.0


class Exporter:
    """Exports when its gate is open, and fails for as long as it is told to."""

    def __init__(self):
        self.sent, self.gate, self.why = [], threading.Event(), None
        self.entered, self.is_shut_down = threading.Semaphore(0), threading.Event()
        self.gate.set()

    def export(self, spans):
        self.entered.release()
        assert self.gate.wait(DEADLINE_SECONDS)
        if self.why is None:
            self.sent += [span.name for span in spans]
        return self.why

    def shut_down(self):
        self.is_shut_down.set()
        self.gate.set()


@pytest.fixture
def exporter():
    """Make one."""
    return Exporter()


def span(name="a"):
    """Make a span."""
    return Span(name, 1, 0, lambda _: None, {})


def test_a_full_batch_is_exported_at_once_and_the_rest_at_the_end(exporter):
    """Others wait for their delay, here an hour."""
    exporting = Exporting(exporter.export, exporter.shut_down, batch=2, delay_seconds=3600)
    exporting.take(span("first"))
    exporting.take(span("second"))
    assert exporter.entered.acquire(timeout=DEADLINE_SECONDS)
    exporting.take(span("last"))

    exporting.close(DEADLINE_SECONDS)

    assert ["first", "second", "last"] == exporter.sent
    assert exporter.is_shut_down.is_set()


def test_what_does_not_fit_is_dropped_and_counted(exporter):
    """While an export waits for its collector nobody else does."""
    exporter.gate.clear()
    exporting = Exporting(exporter.export, exporter.shut_down, queue=2, batch=1, delay_seconds=3600)
    exporting.take(span("0"))
    assert exporter.entered.acquire(timeout=DEADLINE_SECONDS)
    for number in range(1, 10):
        exporting.take(span(str(number)))

    exporter.gate.set()
    exporting.close(DEADLINE_SECONDS)

    assert (["0", "1", "2"], 7) == (exporter.sent, exporting.dropped)


def test_an_outage_is_one_line_and_so_is_its_end(exporter, caplog):
    """However many batches fail, with or without an exception."""
    caplog.set_level(logging.INFO)
    exporter.why = "UNAVAILABLE"
    exporting = Exporting(exporter.export, exporter.shut_down, batch=1, delay_seconds=3600)
    for _ in range(3):
        exporting.take(span())
        assert exporter.entered.acquire(timeout=DEADLINE_SECONDS)
    exporter.gate.clear()
    exporting.take(span())
    assert exporter.entered.acquire(timeout=DEADLINE_SECONDS)
    exporter.why = None
    exporter.gate.set()
    exporting.close(DEADLINE_SECONDS)

    assert [
        "traces cannot be exported: UNAVAILABLE; dropping spans until they can",
        "traces are exported again; 3 spans were dropped so far",
    ] == caplog.messages


def test_the_end_does_not_wait_for_a_collector_that_hangs(exporter):
    """What waits is ended by closing its connection."""
    exporter.gate.clear()
    exporting = Exporting(exporter.export, exporter.shut_down, batch=1, delay_seconds=3600)
    exporting.take(span())
    assert exporter.entered.acquire(timeout=DEADLINE_SECONDS)

    exporting.close(0.01)

    assert exporter.is_shut_down.is_set()


def test_an_exporter_that_raises_does_not_end_the_thread(caplog):
    """Its error is the reason of an outage."""
    sent = []

    def export(spans):
        sent.append(spans)
        if len(sent) == 1:
            raise ValueError("a batch that nobody can encode")

    exporting = Exporting(export, lambda: None, batch=1, queue=9, delay_seconds=3600)
    exporting.take(span())
    exporting.close(DEADLINE_SECONDS)
    exporting = Exporting(export, lambda: None, batch=1, queue=9, delay_seconds=3600)
    exporting.take(span())
    exporting.close(DEADLINE_SECONDS)

    assert 2 == len(sent)
    assert "ValueError: a batch that nobody can encode" in caplog.text
