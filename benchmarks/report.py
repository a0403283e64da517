"""The measurements as tables, for the screen and for Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from measurements import Results, Spread, percentile
from rich.console import Console
from rich.table import Table as RichTable
from workloads import (
    COMPARED,
    HEALTH_GOAL_MS,
    LIBRARIES,
    LIBRARY_SERVERS,
    OURS,
    SERVERS,
    Workload,
    call_key,
    twin,
)

START_GOAL = 0.8
RSS_GOAL = 1.0
LSTM_GOAL = 1.3
OPENING_GOAL = 1.1
_NOTHING = "-"


@dataclass(frozen=True)
class Table:
    """A title, what it means, and rows of text."""

    title: str
    about: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def show(self, console: Console) -> None:
        """Print it."""
        shown = RichTable(title=self.title, caption=self.about, title_justify="left")
        for position, name in enumerate(self.header):
            shown.add_column(name, justify="right" if position else "left", no_wrap=not position)
        for row in self.rows:
            shown.add_row(*row)
        console.print(shown)

    def markdown(self) -> str:
        """Return it as Markdown."""
        rule = ("---", *["---:"] * (len(self.header) - 1))
        lines = [_line(self.header), _line(rule), *map(_line, self.rows)]
        return "\n".join([f"## {self.title}", "", self.about, "", *lines, ""])


def tables(results: Results) -> list[Table]:
    """Return all tables of a run, in the order in which they are read."""
    own = [_throughput(results), _waiting(results), _start(results), _own(results)]
    return [*own, _libraries(results), _openings(results)]


def document(results: Results, remarks: str) -> str:
    """Return the whole page ``results.md``."""
    facts = "\n".join(f"- {name}: {value}" for name, value in results.facts.items())
    parts = ["# Results", "", "Written by `make bench`; README.md says how to read it.", "", facts]
    picture = "![ratios and health](results.png)"
    written = [table.markdown() for table in tables(results)]
    return "\n".join([*parts, "", picture, "", *written, remarks]).rstrip() + "\n"


def _throughput(results: Results) -> Table:
    rows = [_throughput_row(results, workload) for workload in COMPARED]
    about = (
        "Answers per second: medians of the rounds. The ratio is ours to kserve's within a round, "
        "its median and, in brackets, the least and the most of the rounds."
    )
    header = ("workload", *SERVERS, "ratio", "goal", "reached")
    return Table("Answers per second", about, header, rows)


def _throughput_row(results: Results, workload: Workload) -> tuple[str, ...]:
    rates = {s: [m.per_second for m in results.of(workload, s)] for s in SERVERS}
    ratio = Spread.of_ratios(rates["bundleserver"], rates["kserve"])
    medians = [_number(Spread.of(values)) for values in rates.values()]
    return (workload.title, *medians, _ratio(ratio), *_at_least(ratio, workload.goal))


def _waiting(results: Results) -> Table:
    header = ("workload", "p99 kserve", "p99 ours", "ratio", *(f"health {s}" for s in SERVERS))
    about = (
        f"Milliseconds at the 99th percentile: of the load itself (medians of the rounds), and of "
        f"health beside it (all rounds; the goal is below {HEALTH_GOAL_MS:g} ms). Failed or wrong "
        "answers of all loads and of the questions asked beside them: "
        + "; ".join(_failures(results))
        + "."
    )
    return Table("Waiting", about, header, [_waiting_row(results, w) for w in COMPARED])


def _waiting_row(results: Results, workload: Workload) -> tuple[str, ...]:
    p99 = {s: [m.p99_ms for m in results.of(workload, s)] for s in SERVERS}
    ratio = Spread.of_ratios(p99["bundleserver"], p99["kserve"])
    goal = f" (goal {workload.p99_goal:g})" if workload.p99_goal else ""
    health = [percentile(results.health_ms(workload, server), 0.99) for server in SERVERS]
    return (
        workload.title,
        _number(Spread.of(p99["kserve"])),
        _number(Spread.of(p99["bundleserver"])),
        _ratio(ratio) + goal,
        *(_plain(value) for value in health),
    )


def _failures(results: Results) -> Iterator[str]:
    for server in dict.fromkeys(measured.server for measured in results.loads):
        own = [m for m in results.loads if m.server == server]
        wrong = sum(m.failed + len(m.problems) for m in own)
        yield f"{server} {wrong} (compared under load: {sum(m.checked for m in own)})"


def _start(results: Results) -> Table:
    starts = {s: [start.seconds for start in results.starts_of(s)] for s in SERVERS}
    rss = {s: [start.rss_mib for start in results.starts_of(s)] for s in SERVERS}
    after = {s: [results.rss_after_mib[s]] if s in results.rss_after_mib else [] for s in SERVERS}
    rows = [
        _start_row("start to first answer, s", starts, START_GOAL),
        _start_row("RSS after the first answer, MiB", rss, RSS_GOAL),
        _start_row("RSS after all loads, MiB", after, RSS_GOAL),
    ]
    about = "All three serve the same two models. Memory is that of the process and its children."
    header = ("", *SERVERS, "ratio", "goal", "reached")
    return Table("Start and memory", about, header, rows)


def _start_row(name: str, values: dict[str, list[float]], goal: float) -> tuple[str, ...]:
    ratio = Spread.of_ratios(values["bundleserver"], values["kserve"])
    medians = [_number(Spread.of(known)) for known in values.values()]
    reached = _NOTHING if ratio is None else _yes(ratio.median <= goal)
    return (name, *medians, _ratio(ratio), f"≤ {goal:g}x", reached)


def _own(results: Results) -> Table:
    about = (
        "Milliseconds, medians, one connection. In process is the library's own call; protocol is "
        "an answer of the model that costs nothing to as many values. A forecast that was asked "
        f"before should cost the protocol only; the LSTM at most {LSTM_GOAL:g}x its call, plus the "
        "protocol."
    )
    header = ("workload", "answered in", "in process", "protocol", "goal", "reached")
    rows = [_own_row(results, workload) for workload in OURS]
    return Table("Forecasters and LSTM autoencoder", about, header, rows)


def _own_row(results: Results, workload: Workload) -> tuple[str, ...]:
    ours = Spread.of(m.p50_ms for m in results.of(workload, "forecasters"))
    protocol = Spread.of(m.p50_ms for m in results.of(twin(workload), "bundleserver"))
    call = results.in_process_ms.get(call_key(workload))
    if ours is None or protocol is None or call is None:
        return (workload.title, *[_NOTHING] * 5)
    goal = protocol.median + (LSTM_GOAL * call if workload.model == "lstm" else 0)
    # Half as much again is what two loads of the same kind may differ by.
    slack = 1.0 if workload.model == "lstm" else 1.5
    numbers = (ours.median, call, protocol.median, goal)
    return (workload.title, *map(_plain, numbers), _yes(ours.median <= slack * goal))


def _libraries(results: Results) -> Table:
    about = (
        "Answers per second, medians of the rounds; 100 trees each, 8 columns. Both ratios are "
        "ours to theirs within a round. kserve's server and MLServer come without ONNX: both "
        "are given a few lines around onnxruntime."
    )
    header = ("workload", *LIBRARY_SERVERS, "to kserve", "to MLServer", "goal", "reached")
    rows = [_library_row(results, workload) for workload in LIBRARIES]
    return Table("Models of other libraries", about, header, rows)


def _library_row(results: Results, workload: Workload) -> tuple[str, ...]:
    rates = {s: [m.per_second for m in results.of(workload, s)] for s in LIBRARY_SERVERS}
    medians = [_number(Spread.of(values)) for values in rates.values()]
    to_kserve = Spread.of_ratios(rates["bundleserver"], rates["kserve"])
    to_mlserver = Spread.of_ratios(rates["bundleserver"], rates["mlserver"])
    ratios = (_ratio(to_kserve), _ratio(to_mlserver))
    return (workload.title, *medians, *ratios, *_at_least(to_kserve, workload.goal))


def _openings(results: Results) -> Table:
    about = (
        "Seconds in a fresh process: a scaler and a booster imported and loaded by their libraries "
        "alone, and opened as a bundle, with the same imports, without verification and probe. A "
        "server has imported bundleserver before. Ratios are of runs side by side."
    )
    header = ("model", "libraries", "bundle", "own import", "ratio", "goal", "reached")
    rows = []
    for model in dict.fromkeys(opening.model for opening in results.openings):
        own = [opening for opening in results.openings if opening.model == model]
        alone, ours = ([o.libraries_seconds for o in own], [o.bundle_seconds for o in own])
        ratio = Spread.of_ratios(ours, alone)
        reached = _NOTHING if ratio is None else _yes(ratio.median <= OPENING_GOAL)
        before = [o.own_import_seconds for o in own]
        numbers = tuple(_number(Spread.of(values)) for values in (alone, ours, before))
        rows.append((model, *numbers, _ratio(ratio), f"≤ {OPENING_GOAL:g}x", reached))
    return Table("Opening", about, header, rows)


def _at_least(ratio: Spread | None, goal: float | None) -> tuple[str, str]:
    if ratio is None or goal is None:
        return (_NOTHING, _NOTHING)
    return (f"{goal:g}x", _yes(ratio.median >= goal))


def _yes(reached: bool) -> str:
    return "yes" if reached else "no"


def _number(spread: Spread | None) -> str:
    return _NOTHING if spread is None else _plain(spread.median)


def _plain(value: float | None) -> str:
    if value is None:
        return _NOTHING
    return f"{value:,.0f}".replace(",", " ") if value >= 100 else f"{value:.3g}"


def _ratio(spread: Spread | None) -> str:
    if spread is None:
        return _NOTHING
    return f"{spread.median:.2f}x ({spread.least:.2f} to {spread.most:.2f})"


def _line(cells: Sequence[str] | Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
