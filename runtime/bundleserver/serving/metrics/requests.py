"""Prometheus metrics of requests: outcomes, latencies, batches."""

from __future__ import annotations

from functools import lru_cache

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from bundleserver.errors import ModelNotFound
from bundleserver.serving.errors import outcome_of

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""The upper bounds of the latency histograms in seconds."""

_POWERS = tuple(2.0**power for power in range(13))
_VALUES = (1e2, 1e3, 1e4, 2.5e4, 5e4, 1e5, 2.5e5, 5e5, 7.5e5, 1e6, 2.5e6, 5e6, 1e7, 1e8)
_KEPT = 1024
"""How many combinations of labels are cached."""


class RequestMetrics:
    """Counts and times requests per model, version and protocol. Called from any thread.

    Attributes:
        seconds: the latency histogram.
        outcomes: the counter of requests.
        in_flight: returns the gauge of a model and protocol.
        ended: returns the counter of a model, version, protocol and outcome.
        seconds_of: returns the histogram of a model, version and protocol.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.seconds = Histogram(
            "bundleserver_request_seconds",
            "Seconds from decoding to the response, including the wait for a thread.",
            ("model", "version", "protocol"),
            buckets=BUCKETS,
            registry=registry,
        )
        self.outcomes = Counter(
            "bundleserver_requests",
            "Requests by outcome.",
            ("model", "version", "protocol", "outcome"),
            registry=registry,
        )
        in_flight = Gauge(
            "bundleserver_requests_in_flight",
            "Requests that wait or run.",
            ("model", "protocol"),
            registry=registry,
        )
        queue = Histogram(
            "bundleserver_queue_seconds",
            "Seconds until a thread started a request; inline calls do not wait.",
            ("model",),
            buckets=BUCKETS,
            registry=registry,
        )
        batch_requests = Histogram(
            "bundleserver_batch_requests",
            "Requests per batch, for models that can be batched.",
            ("model", "version"),
            buckets=_POWERS[:8],
            registry=registry,
        )
        batch_rows = Histogram(
            "bundleserver_batch_rows",
            "Rows per batch, for models that can be batched.",
            ("model", "version"),
            buckets=_POWERS,
            registry=registry,
        )
        answer_values = Histogram(
            "bundleserver_answer_values",
            "Values that an answer has or would have, from a hundredth of --max_answer_values on.",
            ("model",),
            buckets=_VALUES,
            registry=registry,
        )
        self._overruns = Counter(
            "bundleserver_inline_overruns",
            "Inline calls that took too long; their version moved to the thread pool.",
            ("model", "version"),
            registry=registry,
        )
        # Looking up a metric by its labels costs more than counting.
        self.in_flight = lru_cache(_KEPT)(in_flight.labels)
        self.ended = lru_cache(_KEPT)(self.outcomes.labels)
        self.seconds_of = lru_cache(_KEPT)(self.seconds.labels)
        self._queue_of = lru_cache(_KEPT)(queue.labels)
        self._answer_values_of = lru_cache(_KEPT)(answer_values.labels)
        self._batch_requests_of = lru_cache(_KEPT)(batch_requests.labels)
        self._batch_rows_of = lru_cache(_KEPT)(batch_rows.labels)

    def refused(self, model: str, protocol: str, error: Exception) -> None:
        """Count a request to a known model that was refused before a version was chosen."""
        if not isinstance(error, ModelNotFound):
            self.ended(model, "", protocol, outcome_of(error)).inc()

    def waited(self, model: str, seconds: float) -> None:
        """Count how long a request waited for a thread."""
        self._queue_of(model).observe(seconds)

    def asked(self, model: str, values: int) -> None:
        """Count how many values a large answer has, or would have where it is refused."""
        self._answer_values_of(model).observe(values)

    def called(self, model: str, version: str, requests: int, rows: int) -> None:
        """Count a batch: its requests and rows."""
        self._batch_requests_of(model, version).observe(requests)
        self._batch_rows_of(model, version).observe(rows)

    def overran(self, model: str, version: str) -> None:
        """Count an inline call that took too long."""
        self._overruns.labels(model, version).inc()
