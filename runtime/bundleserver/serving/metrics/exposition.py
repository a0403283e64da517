"""Write metrics as Prometheus reads them: as text, or as OpenMetrics where that is asked for.

prometheus-client's own writers take 50 µs for each histogram of each model, most of it to escape
names that need no escape. Here a family may bring its lines already written, and keep those of what
did not change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from prometheus_client.core import Metric, Sample
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT = CONTENT_TYPE_PLAIN_0_0_4

Lines = Callable[[bool], Iterable[str]]
"""Returns blocks of whole lines; True asks for OpenMetrics, which alone has exemplars."""

_SHORT = {0.0: "0.0", 1.0: "1.0"}
_NAMED_TYPES = {"counter": "_total", "info": "_info"}
_TEXT_TYPES = {"info": "gauge", "stateset": "gauge", "unknown": "untyped"}
_EXEMPLAR = re.compile(r' # \{trace_id="[0-9a-f]{1,64}"\} [0-9.e+-]+ [0-9.]+$')


class Written(Metric):
    """A family of metrics that writes its own lines.

    Attributes:
        lines: writes them.
    """

    def __init__(self, name: str, documentation: str, kind: str, lines: Lines) -> None:
        self.lines = lines
        super().__init__(name, documentation, kind)

    @property
    def samples(self) -> list[Sample]:
        """Read the samples from the lines, for those who ask for values."""
        text = header(self, False) + "".join(self.lines(False))
        return [one for family in text_string_to_metric_families(text) for one in family.samples]

    @samples.setter
    def samples(self, value: Sequence[Sample]) -> None:
        """Ignore the empty list of the base class."""


class Family(Written):
    """A family of gauges, counters or facts with the same labels, written while it is filled."""

    def __init__(
        self, name: str, documentation: str, kind: str, labels: Sequence[str] = ()
    ) -> None:
        """Begin a family; ``kind`` is ``gauge``, ``counter`` or ``info``."""
        self._blocks: list[str] = []
        self._sample = name + _NAMED_TYPES.get(kind, "")
        self._labels = tuple(labels)
        super().__init__(name, documentation, kind, lambda _: self._blocks)

    def add(
        self, values: Sequence[str], value: float, facts: Mapping[str, str] | None = None
    ) -> None:
        """Add a sample: a value for each label, the number, and labels that others may not have."""
        names, all_values = self._labels, tuple(values)
        if facts:
            names, all_values = (*names, *facts), (*all_values, *facts.values())
        self._blocks.append(f"{_head(self._sample, names, all_values)}{written(value)}\n")


def write(collector: Collector, *, open_metrics: bool) -> str:
    """Write all that a collector or registry collects."""
    blocks: list[str] = []
    for metric in collector.collect():
        blocks.append(header(metric, open_metrics))
        if isinstance(metric, Written):
            blocks.extend(metric.lines(open_metrics))
        else:
            blocks.extend(_lines(metric))
    if open_metrics:
        blocks.append("# EOF\n")
    return "".join(blocks)


def header(metric: Metric, open_metrics: bool) -> str:
    """Write the two lines that introduce a family, whose names differ between the formats."""
    name, kind = metric.name, metric.type
    if open_metrics:
        about = metric.documentation.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    else:
        name += _NAMED_TYPES.get(kind, "")
        kind = _TEXT_TYPES.get(kind, kind)
        about = metric.documentation.replace("\\", "\\\\").replace("\n", "\\n")
    return f"# HELP {name} {about}\n# TYPE {name} {kind}\n"


def label_block(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    """Write labels as they stand between braces: in alphabetical order, values escaped."""
    return ",".join([f'{n}="{escaped(v)}"' for n, v in sorted(zip(names, values, strict=True))])


def escaped(value: str) -> str:
    """Escape a label's value, which may be any text."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def written(value: float) -> str:
    """Write a number as Prometheus reads it."""
    if value in _SHORT:
        return _SHORT[value]
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]  # prometheus-client


def without_exemplar(line: str) -> tuple[str, str]:
    """Split a line into its sample and its exemplar; the exemplar is empty if there is none."""
    at = line.rfind(" # {")
    # A label's value may have the same text, but not this form: its quotes are escaped.
    if at < 0 or not _EXEMPLAR.match(line, at):
        return line, ""
    return line[:at], line[at:]


def _lines(metric: Metric) -> Iterator[str]:
    for sample in metric.samples:
        if sample.name.endswith("_created"):
            continue
        head = _head(sample.name, tuple(sample.labels), tuple(sample.labels.values()))
        yield f"{head}{written(sample.value)}\n"


@lru_cache(maxsize=16384)
def _head(name: str, labels: tuple[str, ...], values: tuple[str, ...]) -> str:
    """Write a sample up to its value; most are the same at the next scrape."""
    return f"{name}{{{label_block(labels, values)}}} " if labels else f"{name} "
