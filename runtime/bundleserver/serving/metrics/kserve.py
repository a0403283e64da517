"""KServe's latency histograms for its dashboards, derived from our request metrics."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from bundleserver.serving.metrics.exposition import Written
from bundleserver.serving.metrics.requests import BUCKETS, RequestMetrics
from bundleserver.serving.metrics.series import Buckets, maker

_NAME, _ABOUT = "request_predict_seconds", "predict request latency"


class KServeMetrics(Collector):
    """``request_…_seconds`` by ``model_name``: the sum of all versions and protocols.

    The time of predictions is derived from our own histogram at each scrape, so that requests do
    not pay for it. There is no ``request_explain_seconds``: a bundle has no explainer.
    """

    def __init__(self, metrics: RequestMetrics) -> None:
        """Set the metrics of requests."""
        self._metrics = metrics
        self._make = maker(_NAME, ("model_name",), BUCKETS)
        self._shown: dict[str, Buckets] = {}

    def describe(self) -> Iterator[Metric]:
        """Reserve no name: kserve, once it is imported, registers histograms of the same names."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Sum the current values."""
        yield from self._metrics.decode_seconds.collect()
        yield Written(_NAME, _ABOUT, "histogram", self._lines)
        yield from self._metrics.encode_seconds.collect()

    def _lines(self, open_metrics: bool) -> Iterable[str]:
        by_model: dict[str, list[Buckets]] = {}
        for (model, *_), buckets in self._metrics.seconds.items():
            by_model.setdefault(model, []).append(buckets)
        for model, left in list(self._metrics.left_over.items()):
            by_model.setdefault(model, []).append(left)
        before = self._shown
        self._shown = {model: before.get(model) or self._make((model,)) for model in by_model}
        for model, found in by_model.items():
            shown = self._shown[model]
            shown.set_to_sum_of(found)
            yield shown.text(open_metrics)


def drop_unused_histograms(registry: CollectorRegistry) -> None:
    """Unregister kserve's own histograms, if it is imported; our server never fills them."""
    kserve_metrics = sys.modules.get("kserve.metrics")
    for name in ("PRE_HIST_TIME", "POST_HIST_TIME", "PREDICT_HIST_TIME", "EXPLAIN_HIST_TIME"):
        histogram = getattr(kserve_metrics, name, None)
        if histogram is not None:
            with suppress(KeyError):  # it is in the default registry, if ours is another
                registry.unregister(histogram)
