"""The loads: all servers at once, taking turns, in rounds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from load import put_load
from measurements import Measurement, Results, Start
from models import Site
from probe import Expected, Probe, same
from questions import answer_values, question
from quiet import Patience
from rich.progress import Progress
from servers import Server, ServerFailed
from workloads import (
    COMPARED,
    FOREST,
    LIBRARY_MODELS,
    OUR_MODELS,
    OURS,
    SERVERS,
    TWINS,
    Protocol,
    Workload,
)

FIRST_QUESTION = FOREST[1]
"""What a server has to answer to count as started."""

WORKLOADS = (*COMPARED, *TWINS, *OURS)

CHECKED_ROWS = range(8)
"""So many different rows are asked beside a load."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    seconds: float
    starts: int


def measure_loads(
    results: Results,
    plan: Plan,
    site: Site,
    pythons: Mapping[str, str],
    progress: Progress,
    patience: Patience,
    workloads: Sequence[Workload] = WORKLOADS,
) -> None:
    """Put every load on every server in each round, once all have given the same answers.

    ``pythons`` has the Python of each server that is started; ``workloads`` is what they are asked.

    Raises:
        ServerFailed: a server does not start, or two servers answer differently.
        LoadFailed: the client did not run.
    """
    with _started(site, pythons, workloads) as servers:
        for workload in workloads:
            _check_agreement(servers, workload)
        models = dict.fromkeys(workload.model for workload in workloads)
        known = {model: _known_answers(servers, model) for model in models}
        turns = list(_turns(plan.rounds, workloads))
        task = progress.add_task("loads", total=len(turns))
        for number, workload, name in turns:
            progress.update(task, description=f"{number + 1}/{plan.rounds} {workload.title}")
            load = partial(
                _measure_load, servers[name], workload, number, plan.seconds, known[workload.model]
            )
            results.loads.append(patience.measure(load))
            progress.advance(task)
        if workloads is WORKLOADS:
            results.rss_after_mib = {name: server.rss_mib() for name, server in servers.items()}


def measure_starts(
    results: Results,
    plan: Plan,
    site: Site,
    pythons: Mapping[str, str],
    progress: Progress,
    patience: Patience,
) -> None:
    """Start each server alone, in turns, and measure until its first answer.

    Raises:
        ServerFailed: a server does not start.
    """
    task = progress.add_task("starts", total=plan.starts * len(SERVERS))
    for number in range(plan.starts):
        for name in SERVERS:
            start = partial(_measure_start, name, number, site, pythons[name])
            results.starts.append(patience.measure(start))
            progress.advance(task)


@contextlib.contextmanager
def _started(
    site: Site, pythons: Mapping[str, str], workloads: Sequence[Workload]
) -> Iterator[dict[str, Server]]:
    """Run all servers at once; those that are not asked do nothing."""
    with contextlib.ExitStack() as running:
        servers = {
            name: running.enter_context(Server(name, site, python))
            for name, python in pythons.items()
        }
        for name, server in servers.items():
            for asked in dict.fromkeys(work for work in workloads if name in _asked(work)):
                server.wait_for_answer(question(asked))
        yield servers


def _turns(rounds: int, workloads: Sequence[Workload]) -> Iterator[tuple[int, Workload, str]]:
    """Yield every load: the servers take turns, and another one begins in each round."""
    for number in range(rounds):
        for workload in workloads:
            names = _asked(workload)
            first = number % len(names)
            for name in (*names[first:], *names[:first]):
                yield number, workload, name


def _asked(workload: Workload) -> tuple[str, ...]:
    return ("bundleserver",) if workload in TWINS else workload.servers


def _measure_start(name: str, number: int, site: Site, python: str) -> Start:
    with Server(name, site, python) as server:
        seconds = server.wait_for_answer(question(FIRST_QUESTION))
        return Start(name, number, seconds, server.rss_mib())


def _measure_load(
    server: Server, workload: Workload, number: int, seconds: float, known: list[Expected]
) -> Measurement:
    with Probe(server, known) as probe:
        load = put_load(server, question(workload), workload.connections, seconds)
    return Measurement(
        workload=workload.title,
        server=server.name,
        round=number,
        per_second=load.per_second,
        p50_ms=load.p50_ms,
        p99_ms=load.p99_ms,
        health_ms=probe.health_during(load),
        failed=load.failed,
        checked=probe.checked,
        problems=probe.problems,
    )


def _check_agreement(servers: Mapping[str, Server], workload: Workload) -> None:
    answers = {name: _answer(servers[name], workload) for name in _asked(workload)}
    agreed = answers[_asked(workload)[0]]
    for name, came in answers.items():
        if not same(agreed, came):
            raise ServerFailed(f"{workload.title}: {name} answers differently from the others")


def _known_answers(servers: Mapping[str, Server], model: str) -> list[Expected]:
    """Return questions about single rows and their answers, which no load may change."""
    rows = 0 if model in ("arima", "prophet") else 1
    protocol = Protocol.V2 if model in (*OUR_MODELS, *LIBRARY_MODELS) else Protocol.V1
    workload = Workload(model, rows, protocol)
    server = servers[workload.servers[0]]
    return [
        Expected(protocol, question(workload, seed), _answer(server, workload, seed))
        for seed in CHECKED_ROWS
    ]


def _answer(server: Server, workload: Workload, seed: int = 0) -> np.ndarray:
    body, header_length = server.ask(question(workload, seed))
    return answer_values(workload.protocol, body, header_length)
