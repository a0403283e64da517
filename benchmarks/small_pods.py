"""How long a small pod takes from its container's start to Ready, and the most memory it holds.

Against a cluster (tests/cluster says which variables name it and both images):
``.venv/bin/python benchmarks/small_pods.py`` makes a namespace, runs one pod after the other as the
ServingRuntimes make them, with each CPU limit, and writes ``small_pods.md``. ``--limits 0.1``
measures a part; the page is made of every part that ``build/bench/small_pods.json`` has. Of a case
that is measured again the faster start counts: the other one waited for the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from servers import HERE

sys.path.insert(0, str(HERE.parent))

from report import Table
from tests.cluster.kubectl import Document
from tests.cluster.models import save_linear
from tests.cluster.place import Place
from tests.cluster.pods import pod_of
from tests.end_to_end import adr

LIMITS = ("0.1", "0.5", "1", "2")
ADR = (
    "predictive-analytics",
    "arima-predictor",
    "prophet-predictor",
    "lstm-predictor",
    "ensemble-predictor",
)
FOUND = HERE.parent / "build" / "bench" / "small_pods.json"
PAGE = HERE / "small_pods.md"
MEBIBYTE = 2**20
DEADLINE = "--timeout=230s"
# The node's clock and its seconds since its start, process 1, and the most that the container held,
# with what it read of files, by either version of cgroups.
_TELL = (
    "date +%s.%N; cat /proc/uptime /proc/1/stat; grep VmHWM /proc/1/status;"
    " cat /sys/fs/cgroup/memory.peak 2> /dev/null"
    " || cat /sys/fs/cgroup/memory/memory.max_usage_in_bytes"
)


@dataclass(frozen=True)
class Case:
    """What a pod serves, by which runtime, with how many CPUs at most."""

    limit: str
    runtime: str
    what: str
    directory: str
    several: bool = False


@dataclass(frozen=True)
class Start:
    """What one start took, in seconds after that of process 1, and what it held.

    Attributes:
        listens: until it took connections.
        loaded: until the last model was ready.
        ready: until the kubelet called the pod Ready; it says whole seconds.
        cpu: CPU seconds.
        process_mib: the most that the process held.
        container_mib: the most that the container held, with what it read of files.
        timeouts: probes that got no answer in time.
        restarts: of the container.
    """

    listens: float
    loaded: float
    ready: int
    cpu: float
    process_mib: float
    container_mib: float
    timeouts: int
    restarts: int


def main() -> None:
    """Measure, print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--limits", nargs="*", default=LIMITS, help="CPUs")
    parser.add_argument("--runtimes", nargs="*", default=("sklearn", "standard"))
    parser.add_argument("--only", default="", help="a part of what is served")
    asked = parser.parse_args()
    console, run = Console(width=140), secrets.token_hex(4)
    place = Place(f"small-pods-{run}", run)
    found = json.loads(FOUND.read_text()) if FOUND.exists() else {}
    # As Ctrl-C, so that the namespace goes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    try:
        place.make()
        upload(place)
        wanted = [it for it in cases(asked.limits, asked.runtimes) if asked.only in it.what]
        for case in wanted:
            start = measure(place, case)
            console.print(case, start)
            known = found.get(key_of(case))
            if known is None or start.loaded < known["loaded"]:
                found[key_of(case)] = asdict(start)
            FOUND.parent.mkdir(parents=True, exist_ok=True)
            FOUND.write_text(json.dumps(found, indent=1))
    finally:
        place.remove()
    tables = (table_of(found), short_table_of(found))
    for table in tables:
        table.show(console)
    pages = "\n".join(table.markdown() for table in tables)
    PAGE.write_text(f"# Small pods\n\nWritten by `small_pods.py`.\n\n{pages}", encoding="utf-8")


def cases(limits: Sequence[str], runtimes: Sequence[str]) -> Iterator[Case]:
    """Say what is measured: a part of it where only some limits or runtimes are asked for."""
    for limit in limits:
        if "sklearn" in runtimes:
            yield Case(limit, "sklearn", "two linear models", "linear", several=True)
        if "standard" in runtimes:
            for name in ADR:
                yield Case(limit, "standard", f"`{name}`", f"adr/{name}")
            yield Case(limit, "standard", "all five in one pod", "adr", several=True)


def upload(place: Place) -> None:
    """Bring two linear models and ADR-031's directories into the volume."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        place.upload(save_linear(root / "linear"), "linear")
        adr.write_volume(root / "adr")
        for name in ADR:
            place.upload(root / "adr" / name, f"adr/{name}")
    place.kubectl("delete", "pod", "model-upload", "--now")


def measure(place: Place, case: Case) -> Start:
    """Run a pod until it is Ready, and take what it says of its start."""
    model = "" if case.several else Path(case.directory).name
    place.apply(pod_of(case.runtime, "small", case.directory, model, cpu=case.limit))
    try:
        place.kubectl("wait", "--for=condition=Ready", "pod/small", DEADLINE)
        told = place.kubectl("exec", "small", "--", "sh", "-c", _TELL).splitlines()
        log = place.kubectl("logs", "small", "--timestamps").splitlines()
        pod = place.get("pod", "small")
        events = place.get("events", "--field-selector=involvedObject.name=small")["items"]
        return start_of(told, log, pod, events)
    finally:
        place.kubectl("delete", "pod", "small", "--now")
        place.kubectl("delete", "events", "--all")


def start_of(told: list[str], log: list[str], pod: Document, events: list[Document]) -> Start:
    """Read what the pod, its log and the cluster say."""
    now, uptime, stat, peak, container = told
    ticks = os.sysconf("SC_CLK_TCK")
    fields = stat.rpartition(")")[2].split()
    began = float(now) - float(uptime.split()[0]) + int(fields[19]) / ticks
    (state,) = pod["status"]["containerStatuses"]
    conditions = {it["type"]: it["lastTransitionTime"] for it in pod["status"]["conditions"]}
    started = state["state"]["running"]["startedAt"]
    return Start(
        listens=said_at(log, "serving REST on") - began,
        loaded=said_at(log, ": ready in") - began,
        ready=round(seconds(conditions["Ready"]) - seconds(started)),
        cpu=(int(fields[11]) + int(fields[12])) / ticks,
        process_mib=int(peak.split()[1]) * 1024 / MEBIBYTE,
        container_mib=int(container) / MEBIBYTE,
        timeouts=sum(it.get("count", 1) for it in events if is_timeout(it)),
        restarts=state["restartCount"],
    )


def said_at(log: Iterable[str], words: str) -> float:
    """Return when the log said something for the last time."""
    return seconds([line for line in log if words in line][-1].split()[0])


def seconds(text: str) -> float:
    """Read a time of the cluster's."""
    return datetime.fromisoformat(text).timestamp()


def is_timeout(event: Document) -> bool:
    """Tell whether a probe was not answered in time; others are refused, or say: not yet."""
    return event["reason"] == "Unhealthy" and "exceeded" in event["message"]


def table_of(found: dict[str, dict[str, Any]]) -> Table:
    """Make a row of each start that was measured."""
    starts = [(it, Start(**found[key_of(it)])) for it in all_cases() if key_of(it) in found]
    return Table("From a container's start to Ready", ABOUT, HEADER, [row_of(*it) for it in starts])


def short_table_of(found: dict[str, dict[str, Any]]) -> Table:
    """Return what pages show: seconds until Ready for each limit, and the most memory of all."""
    starts = {it: Start(**found[key_of(it)]) for it in all_cases() if key_of(it) in found}
    what = dict.fromkeys(title_of(it) for it in starts)
    rows = [
        (f"{limit} CPU", *(f"{it.ready} s" for case, it in starts.items() if case.limit == limit))
        for limit in LIMITS
    ]
    most = {
        title: max(it.process_mib for case, it in starts.items() if title_of(case) == title)
        for title in what
    }
    memory = ("memory", *(f"{mebibytes:.0f} MiB" for mebibytes in most.values()))
    return Table("For pages", "", ("limit", *what), [*rows, memory])


def title_of(case: Case) -> str:
    """Say what a case serves, and by which image."""
    return f"{case.what}, {'slim' if case.runtime == 'sklearn' else 'full'}"


def all_cases() -> Iterator[Case]:
    """Say what there is to measure."""
    return cases(LIMITS, ("sklearn", "standard"))


def row_of(case: Case, start: Start) -> tuple[str, ...]:
    """Write a start as a row."""
    image = "slim" if case.runtime == "sklearn" else "full"
    numbers = (start.listens, start.loaded, start.ready, start.cpu)
    sizes = (start.process_mib, start.container_mib, start.timeouts, start.restarts)
    shown = [f"{number:.1f}" for number in numbers[:2]], [f"{number:.0f}" for number in sizes]
    return (
        case.limit,
        image,
        case.what,
        *shown[0],
        str(start.ready),
        f"{start.cpu:.1f}",
        *shown[1],
    )


def key_of(case: Case) -> str:
    """Name a case in the file of what was measured."""
    return " ".join((case.limit, case.runtime, case.what))


ABOUT = (
    "Of several starts the fastest. Seconds after the start of the process until it listens, until "
    "its last model is ready, and until the kubelet calls the pod Ready, which it says in whole "
    "seconds and asks every three; the CPU seconds of all that; the most that the process held, "
    "and the container with what it read of files, which the system takes back under a limit; "
    "probes without an answer in time, and restarts. The startup probe gives 180 s to listen."
)
HEADER = (
    "CPU limit",
    "image",
    "models",
    "listens",
    "loaded",
    "Ready",
    "CPU s",
    "process MiB",
    "container MiB",
    "timeouts",
    "restarts",
)


if __name__ == "__main__":
    main()
