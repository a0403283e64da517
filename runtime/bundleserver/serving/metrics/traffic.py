"""What Prometheus sees of split, copied and rolled out traffic, read when it is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bundleserver.errors import BundleServerError
from bundleserver.serving.models import ServingManager
from bundleserver.serving.traffic.splitting import Splitter
from bundleserver.serving.traffic.totals import OUTCOMES, Pair, Total
from bundleserver.versions.comparison import OutputDifference

_CANARY_STATES = ("waiting", "running", "promoted", "demoted")
_PAIR = ("model", "version", "shadow")


class TrafficCollector(Collector):
    """Reads shares, canaries and comparisons each time Prometheus asks."""

    def __init__(self, manager: ServingManager, splitter: Splitter) -> None:
        self._manager = manager
        self._splitter = splitter

    def collect(self) -> Iterable[Metric]:
        """Yield the shares, the diverted requests, the canary and the shadows of every model."""
        told: dict[str, Mapping[str, object]] = {}
        for model in self._manager.models():
            # A model may be withdrawn between the two questions.
            with suppress(BundleServerError):
                told[model] = self._splitter.describe_traffic(model)
        yield _shares(told)
        yield self._diverted(told)
        yield from _canaries(told)
        totals = self._splitter.totals.snapshot()
        yield _copies(totals)
        yield _latency_ratios(totals)
        yield from _differences(totals)

    def describe(self) -> Iterable[Metric]:
        """Name no metric ahead of time: registering must not ask the manager."""
        return ()

    def _diverted(self, models: Iterable[str]) -> Metric:
        family = CounterMetricFamily(
            "bundleserver_diverted_requests",
            "Requests that the default version got because the one of their share did not answer.",
            labels=("model", "target"),
        )
        for model in models:
            for name, count in self._splitter.diverted(model).items():
                family.add_metric((model, name), count)
        return family


def _shares(told: Mapping[str, Mapping[str, object]]) -> Metric:
    family = GaugeMetricFamily(
        "bundleserver_traffic_share",
        "The share of the requests naming no version that a version or label is to get.",
        labels=("model", "target"),
    )
    for model, traffic in told.items():
        for name, share in _mapping(traffic.get("shares")).items():
            family.add_metric((model, name), _number(share))
    return family


def _canaries(told: Mapping[str, Mapping[str, object]]) -> Iterator[Metric]:
    states = GaugeMetricFamily(
        "bundleserver_canary_state",
        "1 for the state that a canary's rollout is in, 0 for the others.",
        labels=("model", "version", "state"),
    )
    percents = GaugeMetricFamily(
        "bundleserver_canary_percent",
        "The canary's share of the requests, in percent.",
        labels=("model", "version"),
    )
    for model, traffic in told.items():
        canary = _mapping(traffic.get("canary"))
        if canary:
            version = str(canary["version"])
            percents.add_metric((model, version), _number(canary["percent"]))
            for state in _CANARY_STATES:
                states.add_metric((model, version, state), float(canary["state"] == state))
    yield states
    yield percents


def _copies(totals: Iterable[tuple[Pair, Total]]) -> Metric:
    family = CounterMetricFamily(
        "bundleserver_shadow_copies",
        "Copies of requests for a shadowed version, by the way they ended.",
        labels=(*_PAIR, "outcome"),
    )
    for pair, total in totals:
        for outcome in OUTCOMES:
            family.add_metric((*_labels(pair), outcome), total.mirrored[outcome])
    return family


def _latency_ratios(totals: Iterable[tuple[Pair, Total]]) -> Metric:
    family = GaugeMetricFamily(
        "bundleserver_shadow_latency_ratio",
        "How many times as long a shadow took; its low priority makes that an upper bound.",
        labels=_PAIR,
    )
    for pair, total in totals:
        if total.latency_ratio is not None:
            family.add_metric(_labels(pair), total.latency_ratio)
    return family


def _differences(totals: Iterable[tuple[Pair, Total]]) -> Iterator[Metric]:
    labels = (*_PAIR, "output")
    agreement = GaugeMetricFamily(
        "bundleserver_shadow_agreement",
        "The share of an output's values that are equal in both versions' answers.",
        labels=labels,
    )
    mean = GaugeMetricFamily(
        "bundleserver_shadow_mean_absolute_difference",
        "The mean absolute difference of an output's numbers.",
        labels=labels,
    )
    largest = GaugeMetricFamily(
        "bundleserver_shadow_max_absolute_difference",
        "The largest absolute difference of an output's numbers.",
        labels=labels,
    )
    for pair, name, one in _outputs(totals):
        at = (*_labels(pair), name)
        agreement.add_metric(at, one.equal / one.values)
        if one.is_number:
            mean.add_metric(at, one.absolute / one.values)
            largest.add_metric(at, one.largest)
    yield from (agreement, mean, largest)


def _outputs(totals: Iterable[tuple[Pair, Total]]) -> Iterator[tuple[Pair, str, OutputDifference]]:
    for pair, total in totals:
        for name, one in total.outputs.items():
            if one.values:
                yield pair, name, one


def _labels(pair: Pair) -> tuple[str, str, str]:
    return pair.model, pair.version, pair.shadow


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
