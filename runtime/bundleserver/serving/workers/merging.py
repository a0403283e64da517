"""The repository index and the metrics, merged from all worker processes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bundleserver.serving.metrics.exposition import Written, header, without_exemplar, written

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
_GROWING = ("counter", "histogram", "summary")
_STATES, _READY = "bundleserver_version_state", 'state="READY"'
_ESCAPE = re.compile(r"\\(.)")


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
    other gauges the maximum applies, which is that of the worst. Of exemplars the last one stays.
    """

    def __init__(
        self, pages: Iterable[str], silent: int = 0, remainder: Iterable[str] = ()
    ) -> None:
        """Merge pages that ``metrics.exposition.write`` wrote as OpenMetrics.

        Args:
            pages: one of each process.
            silent: how many processes did not answer.
            remainder: pages of processes that are gone or silent, of which only counters count.
        """
        self._pages, self._remainder = list(pages), list(remainder)
        self._silent = silent

    def collect(self) -> Iterator[Metric]:
        """Yield every metric once, and the numbers of processes that did and did not answer."""
        pages = self._pages
        yield GaugeMetricFamily(
            "bundleserver_workers", "Worker processes in this page.", len(pages)
        )
        about = "Worker processes that did not answer; only what they had counted is in this page."
        yield GaugeMetricFamily("bundleserver_workers_silent", about, self._silent)
        families: dict[str, _MergedFamily] = {}
        for page in pages:
            _read(page, families)
        for page in self._remainder:
            _read(page, families, only_growing=True)
        for family in families.values():
            lines = partial(family.lines, len(pages))
            yield Written(family.name, family.about, family.kind, lines)


class _MergedFamily:
    """A family of several pages: the values of each sample, and its newest exemplar."""

    def __init__(self, name: str, about: str, kind: str) -> None:
        self.name, self.about, self.kind = name, about, kind
        self.values: dict[str, list[float]] = {}
        self.exemplars: dict[str, str] = {}

    def lines(self, workers: int, open_metrics: bool) -> Iterator[str]:
        """Write a line for each sample."""
        rule, exemplars = self._rule(), self.exemplars if open_metrics else {}
        for sample, found in self.values.items():
            if self.name == _STATES and _READY in sample:
                value = min(found) if len(found) == workers else 0.0
            else:
                value = rule(found)
            yield f"{sample} {written(value)}{exemplars.get(sample, '')}\n"

    def _rule(self) -> Callable[[Sequence[float]], float]:
        if self.kind in _GROWING or self.name in _SUMMED:
            return sum
        return min if self.name in _LEAST else max


def sum_of_counters(pages: Iterable[str], is_kept: Callable[[str], bool]) -> str:
    """Write a page of the sums of what only grows in pages: counters and histograms.

    Args:
        pages: as of ``MergedMetrics``.
        is_kept: asked for each sample, its name with its labels; those that it denies are left out.
    """
    families: dict[str, _MergedFamily] = {}
    for page in pages:
        _read(page, families, only_growing=True)
    blocks = []
    for family in families.values():
        lines = partial(family.lines, 0)
        family.values = {at: found for at, found in family.values.items() if is_kept(at)}
        metric = Written(family.name, family.about, family.kind, lines)
        blocks += [header(metric, open_metrics=True), *lines(False)]
    return "".join(blocks)


def _read(page: str, families: dict[str, _MergedFamily], *, only_growing: bool = False) -> None:
    """Add what one page has; its lines are our own, and not checked again.

    With ``only_growing`` that is counters and histograms, without exemplars.
    """
    about, family, has_exemplars = "", None, False
    for line in page.split("\n"):
        if line.startswith("# HELP "):
            about = _unescaped(line.split(" ", 3)[3])
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ", 3)
            if only_growing and kind not in _GROWING:
                family = None
                continue
            family = families.get(name)
            if family is None:
                family = families[name] = _MergedFamily(name, about, kind)
            has_exemplars = kind == "histogram"
        elif line and family is not None and line != "# EOF":
            exemplar = ""
            if has_exemplars and " # {" in line:
                line, exemplar = without_exemplar(line)
            sample, _, value = line.rpartition(" ")
            found = family.values.get(sample)
            if found is None:
                family.values[sample] = [float(value)]
            else:
                found.append(float(value))
            if exemplar and not only_growing:
                family.exemplars[sample] = exemplar


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: {"n": "\n"}.get(found[1], found[1]), text)
