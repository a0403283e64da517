"""The repository index and the metrics, merged from all worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

Entry = dict[str, object]

_ORDER = ("READY", "UNLOADING", "LOADING", "UNAVAILABLE")
"""The protocol's states; the last one in this order among the worker processes applies."""

_SUMMED = (
    "bundleserver_requests_in_flight",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_open_fds",
)
_LEAST = (
    "bundleserver_last_poll_timestamp_seconds",
    "bundleserver_shadow_agreement",
    "process_start_time_seconds",
    "process_max_fds",
)
_READY = ("state", "READY")


def merge_index(
    indexes: Mapping[int, Sequence[Entry]], *, ready_only: bool, silent: Sequence[int] = ()
) -> list[Entry]:
    """Return each version's least advanced state among the worker processes.

    Args:
        indexes: the whole index of each worker process, by number.
        ready_only: leave out versions that are not READY in all.
        silent: worker processes that did not answer; each entry's reason names them.
    """
    found: dict[tuple[object, object], dict[int, Entry]] = {}
    for number, entries in sorted(indexes.items()):
        for entry in entries:
            found.setdefault((entry["name"], entry.get("version")), {})[number] = entry
    # The entry of a model without versions remains only if no worker process has one.
    with_versions = {name for name, version in found if version is not None}
    merged = [
        _least_far(by_worker, len(indexes))
        for (name, version), by_worker in found.items()
        if version is not None or name not in with_versions
    ]
    if silent:
        who = f"(worker process {', '.join(map(str, silent))} did not answer)"
        merged = [{**entry, "reason": f"{entry['reason']} {who}".strip()} for entry in merged]
    return [entry for entry in merged if not ready_only or entry["state"] == "READY"]


def _least_far(by_worker: Mapping[int, Entry], workers: int) -> Entry:
    number, worst = max(by_worker.items(), key=lambda item: _ORDER.index(str(item[1]["state"])))
    if worst["state"] == "READY" and len(by_worker) < workers:
        return {**worst, "state": "LOADING", "reason": "not every worker process has it yet"}
    if len({(str(e["state"]), str(e["reason"])) for e in by_worker.values()}) == 1:
        return worst
    return {**worst, "reason": f"{worst['reason']} (worker process {number})"}


class MergedMetrics(Collector):
    """The metrics of several processes as those of one.

    Counters, histograms and gauges of resources are summed; a version is READY if it is in all; of
    other gauges the maximum applies, which is that of the worst.
    """

    def __init__(self, pages: Iterable[str], silent: int = 0) -> None:
        self._pages = list(pages)
        self._silent = silent

    def collect(self) -> Iterator[Metric]:
        """Yield every metric once, and the numbers of processes that did and did not answer."""
        count = len(self._pages)
        yield GaugeMetricFamily("bundleserver_workers", "Worker processes in this page.", count)
        about = "Worker processes that did not answer, and are not in this page."
        yield GaugeMetricFamily("bundleserver_workers_silent", about, self._silent)
        families: dict[str, Metric] = {}
        values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], list[float]]] = {}
        for page in self._pages:
            for family in text_string_to_metric_families(page):
                families.setdefault(family.name, family)
                known = values.setdefault(family.name, {})
                for sample in family.samples:
                    key = (sample.name, tuple(sample.labels.items()))
                    known.setdefault(key, []).append(sample.value)
        for name, family in families.items():
            merged = Metric(name, family.documentation, family.type)
            for (sample_name, labels), found in values[name].items():
                rule = _rule(family, sample_name, labels, count)
                merged.add_sample(sample_name, dict(labels), rule(found))
            yield merged


def _rule(
    family: Metric, name: str, labels: tuple[tuple[str, str], ...], workers: int
) -> Callable[[Sequence[float]], float]:
    if family.name == "bundleserver_version_state" and _READY in labels:
        return lambda found: min(found) if len(found) == workers else 0.0
    if name.endswith("_created") or family.name in _LEAST:
        return min
    if family.type in ("counter", "histogram", "summary") or family.name in _SUMMED:
        return sum
    return max
