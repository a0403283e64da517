"""KServe's latency histogram for its dashboards, derived from our request metrics."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_NAME = "request_predict_seconds"


class KServeMetrics(Collector):
    """``request_predict_seconds`` by ``model_name``: the sum of all versions and protocols.

    Derived from our own histogram at each scrape, so that requests do not pay for it.
    """

    def __init__(self, seconds: Collector) -> None:
        """Set the histogram of requests, which has the label ``model``."""
        self._seconds = seconds

    def describe(self) -> Iterator[Metric]:
        """Reserve no name: kserve, once it is imported, registers a histogram of the same name."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Sum the current values."""
        buckets: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        sums: dict[str, float] = defaultdict(float)
        for family in self._seconds.collect():
            for sample in family.samples:
                model = sample.labels["model"]
                if sample.name.endswith("_bucket"):
                    buckets[model][sample.labels["le"]] += sample.value
                elif sample.name.endswith("_sum"):
                    sums[model] += sample.value
        found = HistogramMetricFamily(_NAME, "predict request latency", labels=("model_name",))
        for model, counts in buckets.items():
            ordered = sorted(counts.items(), key=lambda bucket: float(bucket[0]))
            found.add_metric((model,), ordered, sums[model])
        yield found


def drop_unused_histograms(registry: CollectorRegistry) -> None:
    """Unregister kserve's own histograms, if it is imported; our server never fills them."""
    kserve_metrics = sys.modules.get("kserve.metrics")
    for name in ("PRE_HIST_TIME", "POST_HIST_TIME", "PREDICT_HIST_TIME", "EXPLAIN_HIST_TIME"):
        histogram = getattr(kserve_metrics, name, None)
        if histogram is not None:
            with suppress(KeyError):  # it is in the default registry, if ours is another
                registry.unregister(histogram)
