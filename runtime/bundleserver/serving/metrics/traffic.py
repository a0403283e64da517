"""Prometheus metrics of traffic splits, canaries and shadows at each scrape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from bundleserver.errors import BundleServerError
from bundleserver.serving.metrics.exposition import Family
from bundleserver.serving.models import ServingManager
from bundleserver.serving.traffic.splitting import Splitter
from bundleserver.serving.traffic.totals import OUTCOMES, Pair, Total

_CANARY_STATES = ("waiting", "running", "promoted", "demoted")


class TrafficCollector(Collector):
    """Collects weights, canaries and comparisons at each scrape."""

    def __init__(self, manager: ServingManager, splitter: Splitter) -> None:
        self._manager = manager
        self._splitter = splitter

    def collect(self) -> Iterable[Metric]:
        """Yield the weights, the diverted requests, the canary and the shadows of every model."""
        told: dict[str, Mapping[str, object]] = {}
        for model in self._manager.models():
            # A model may be removed between the two calls.
            with suppress(BundleServerError):
                if self._manager.is_split(model):
                    told[model] = self._splitter.describe_traffic(model)
        yield _shares(told)
        yield self._diverted(told)
        yield from _canaries(told)
        yield from _shadows(self._splitter.totals.snapshot())

    def describe(self) -> Iterable[Metric]:
        """Return no metric: registering must not call the manager."""
        return ()

    def _diverted(self, models: Iterable[str]) -> Metric:
        family = Family(
            "bundleserver_diverted_requests",
            "Requests that the default version got because the selected one was not ready.",
            "counter",
            ("model", "target"),
        )
        for model in models:
            for name, count in self._splitter.diverted(model).items():
                family.add((model, name), count)
        return family


def _shares(told: Mapping[str, Mapping[str, object]]) -> Metric:
    family = Family(
        "bundleserver_traffic_share",
        "The weight of a version or label among requests that name no version.",
        "gauge",
        ("model", "target"),
    )
    for model, traffic in told.items():
        for name, share in _mapping(traffic.get("shares")).items():
            family.add((model, name), _number(share))
    return family


def _canaries(told: Mapping[str, Mapping[str, object]]) -> Iterator[Metric]:
    states = Family(
        "bundleserver_canary_state",
        "1 for the state of a canary, 0 for the others.",
        "gauge",
        ("model", "version", "state"),
    )
    percents = Family(
        "bundleserver_canary_percent",
        "The canary's share of the requests, in percent.",
        "gauge",
        ("model", "version"),
    )
    for model, traffic in told.items():
        canary = _mapping(traffic.get("canary"))
        if canary:
            version = str(canary["version"])
            percents.add((model, version), _number(canary["percent"]))
            for state in _CANARY_STATES:
                states.add((model, version, state), float(canary["state"] == state))
    yield states
    yield percents


def _shadows(totals: Iterable[tuple[Pair, Total]]) -> Iterable[Metric]:
    pair_labels = ("model", "version", "shadow")
    copies = Family(
        "bundleserver_shadow_copies",
        "Mirrored requests of a shadow version by outcome.",
        "counter",
        (*pair_labels, "outcome"),
    )
    ratios = Family(
        "bundleserver_shadow_latency_ratio",
        "A shadow's latency relative to the version's; an upper bound, due to its low priority.",
        "gauge",
        pair_labels,
    )
    agreement = Family(
        "bundleserver_shadow_agreement",
        "The share of an output's values that are equal in both versions.",
        "gauge",
        (*pair_labels, "output"),
    )
    mean = Family(
        "bundleserver_shadow_mean_absolute_difference",
        "The mean absolute difference of an output's numbers.",
        "gauge",
        (*pair_labels, "output"),
    )
    largest = Family(
        "bundleserver_shadow_max_absolute_difference",
        "The largest absolute difference of an output's numbers.",
        "gauge",
        (*pair_labels, "output"),
    )
    for pair, total in totals:
        at = (pair.model, pair.version, pair.shadow)
        for outcome in OUTCOMES:
            copies.add((*at, outcome), total.mirrored[outcome])
        if total.latency_ratio is not None:
            ratios.add(at, total.latency_ratio)
        for name, one in total.outputs.items():
            if one.values:
                agreement.add((*at, name), one.equal / one.values)
            if one.values and one.is_number:
                mean.add((*at, name), one.absolute / one.values)
                largest.add((*at, name), one.largest)
    return copies, ratios, agreement, mean, largest


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
