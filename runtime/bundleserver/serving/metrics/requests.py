"""Prometheus metrics of requests: outcomes, latencies, batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from prometheus_client import REGISTRY, CollectorRegistry

from bundleserver.errors import ModelNotFound
from bundleserver.serving.errors import outcome_of
from bundleserver.serving.metrics.refusals import Refusals
from bundleserver.serving.metrics.retention import Present, Retention
from bundleserver.serving.metrics.series import (
    Buckets,
    Number,
    SeriesFamily,
    counters,
    gauges,
    histograms,
)

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""The upper bounds of the latency histograms in seconds."""

CODING_BUCKETS = (1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 0.01, 0.05, 0.1, 0.5, 1.0)
"""Those of decoding and encoding, most of which take microseconds."""

_POWERS = tuple(2.0**power for power in range(13))
_VALUES = (1e2, 1e3, 1e4, 2.5e4, 5e4, 1e5, 2.5e5, 5e5, 7.5e5, 1e6, 2.5e6, 5e6, 1e7, 1e8)


class RequestMetrics:
    """Counts and times requests per model, version and protocol. Called from any thread.

    Attributes:
        seconds: the latency histograms.
        outcomes: the counters of requests.
        refusals: counts those that no model is asked.
        left_over: those of versions that were forgotten, by model, so that sums never decrease.
        in_flight: returns the gauge of a model and protocol.
        ended: returns the counter of a model, version, protocol and outcome.
        seconds_of: returns the histogram of a model, version and protocol.
    """

    def __init__(
        self, registry: CollectorRegistry = REGISTRY, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Register the metrics; ``now`` times how long versions are gone."""
        self.seconds = histograms(
            "bundleserver_request_seconds",
            "Seconds from decoding to the response, including the wait for a thread.",
            ("model", "version", "protocol"),
            BUCKETS,
            registry,
        )
        self.outcomes = counters(
            "bundleserver_requests",
            "Requests by outcome.",
            ("model", "version", "protocol", "outcome"),
            registry,
        )
        self.refusals = Refusals(registry)
        self._in_flight = gauges(
            "bundleserver_requests_in_flight",
            "Requests that wait or run.",
            ("model", "protocol"),
            registry,
        )
        self._queue = histograms(
            "bundleserver_queue_seconds",
            "Seconds until a thread started a request; inline calls do not wait.",
            ("model",),
            BUCKETS,
            registry,
        )
        self._batch_requests = histograms(
            "bundleserver_batch_requests",
            "Requests per batch, for models that can be batched.",
            ("model", "version"),
            _POWERS[:8],
            registry,
        )
        self._batch_rows = histograms(
            "bundleserver_batch_rows",
            "Rows per batch, for models that can be batched.",
            ("model", "version"),
            _POWERS,
            registry,
        )
        self._answer_values = histograms(
            "bundleserver_answer_values",
            "Values that an answer has or would have, from a hundredth of --max_answer_values on.",
            ("model",),
            _VALUES,
            registry,
        )
        self._overruns = counters(
            "bundleserver_inline_overruns",
            "Inline calls that took too long; their version moved to the thread pool.",
            ("model", "version"),
            registry,
        )
        # KServe's names, which kserve registers too once it is imported: not registered here.
        self.decode_seconds = _coding("request_preprocess_seconds", "pre-process request latency")
        self.encode_seconds = _coding("request_postprocess_seconds", "post-process request latency")
        self.in_flight = self._in_flight.of
        self.ended = self.outcomes.of
        self.seconds_of = self.seconds.of
        self.left_over: dict[str, Buckets] = {}
        self._retention = Retention(now)

    def observe(
        self, model: str, version: str, protocol: str, seconds: float, trace_id: str | None = None
    ) -> None:
        """Time a request.

        Args:
            model: its model.
            version: the version that answered; an empty string if none was chosen.
            protocol: ``v1``, ``v2`` or ``grpc``.
            seconds: from decoding to the response.
            trace_id: its trace in hexadecimal digits, if it is sampled: becomes an exemplar.
        """
        self.seconds.of(model, version, protocol).observe(seconds, trace_id)

    def decoded(self, model: str, seconds: float) -> None:
        """Time how long a request's body was decoded; of known models only."""
        self.decode_seconds.of(model).observe(seconds)

    def encoded(self, model: str, seconds: float) -> None:
        """Time how long a response's body was encoded."""
        self.encode_seconds.of(model).observe(seconds)

    def refused(self, model: str, protocol: str, error: BaseException) -> None:
        """Count a request to a known model that was refused before a version was chosen."""
        if not isinstance(error, ModelNotFound):
            self.ended(model, "", protocol, outcome_of(error)).inc()

    def waited(self, model: str, seconds: float) -> None:
        """Count how long a request waited for a thread."""
        self._queue.of(model).observe(seconds)

    def asked(self, model: str, values: int) -> None:
        """Count how many values a large answer has, or would have where it is refused."""
        self._answer_values.of(model).observe(values)

    def called(self, model: str, version: str, requests: int, rows: int) -> None:
        """Count a batch: its requests and rows."""
        self._batch_requests.of(model, version).observe(requests)
        self._batch_rows.of(model, version).observe(rows)

    def overran(self, model: str, version: str) -> None:
        """Count an inline call that took too long."""
        self._overruns.of(model, version).inc()

    def keep(self, present: Present) -> None:
        """Forget the series of models and versions that are gone for long; called at each scrape.

        Args:
            present: the versions that there are, by model.
        """
        counted = {
            (labels[0], labels[1]) for labels, _ in (*self.seconds.items(), *self.outcomes.items())
        }
        gone = self._retention.gone(counted, present)
        for labels, buckets in self.seconds.items() if gone else ():
            if labels[:2] in gone:
                self.left_over.setdefault(labels[0], Buckets(BUCKETS)).add(buckets)
                self.seconds.drop(labels)
        families: tuple[SeriesFamily[Buckets] | SeriesFamily[Number], ...] = (
            *(self.outcomes, self._overruns),
            *(self._batch_requests, self._batch_rows),
        )
        for family in families:
            _drop(family, gone)
        lost = {model for model, _ in gone} - {
            *present,
            *(labels[0] for labels, _ in self.outcomes.items()),
        }
        for model in lost:
            self.left_over.pop(model, None)
            for by_model in (
                self._queue,
                self._answer_values,
                self.decode_seconds,
                self.encode_seconds,
            ):
                by_model.drop((model,))
        for labels, number in self._in_flight.items():
            if labels[0] in lost and not number.value:
                self._in_flight.drop(labels)


def _coding(name: str, about: str) -> SeriesFamily[Buckets]:
    return histograms(name, about, ("model_name",), CODING_BUCKETS)


def _drop(
    family: SeriesFamily[Buckets] | SeriesFamily[Number], gone: Collection[tuple[str, str]]
) -> None:
    for labels, _ in family.items() if gone else ():
        if labels[:2] in gone:
            family.drop(labels)
