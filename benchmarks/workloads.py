"""What is asked in the benchmarks, and how much faster than KServe we want to answer it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum


class Protocol(Enum):
    """How a question is put."""

    V1 = "V1 JSON"
    V2 = "V2 JSON"
    BINARY = "V2 binary"
    GRPC = "gRPC raw"


@dataclass(frozen=True)
class Workload:
    """One question, asked again and again over a number of connections.

    ``goal`` is the ratio of throughputs, ours to kserve's, that is wanted; ``p99_goal`` that
    of the 99th percentiles. Both are goals, not gates.
    """

    model: str
    rows: int
    protocol: Protocol
    connections: int = 8
    columns: int = 8
    goal: float | None = None
    p99_goal: float | None = None

    @property
    def title(self) -> str:
        """What the tables call it."""
        rows = "1 row" if self.rows == 1 else f"{self.rows} rows"
        asked = rows if self.rows else "24 steps"
        ends = "" if self.connections == 8 else f", {self.connections} connection"
        return f"{self.model}, {asked}, {self.protocol.value}{ends}"

    @property
    def servers(self) -> tuple[str, ...]:
        """Who is asked: only we serve forecasters, and what is written by hand speaks V1 only."""
        if self.model in OUR_MODELS:
            return ("forecasters",)
        if self.model in LIBRARY_MODELS:
            return LIBRARY_SERVERS
        return SERVERS if self.protocol is Protocol.V1 else ("kserve", "bundleserver")


SERVERS = ("kserve", "fastapi", "bundleserver")
LIBRARY_SERVERS = ("kserve", "mlserver", "bundleserver")
OUR_MODELS = ("arima", "prophet", "lstm")
LIBRARY_MODELS = ("xgboost", "lightgbm", "onnx")


def _family(model: str, goals: dict[tuple[int, Protocol], float]) -> list[Workload]:
    return [Workload(model, rows, how, goal=goal) for (rows, how), goal in goals.items()]


FREE = _family(
    "free",
    {
        (1, Protocol.V2): 6,
        (1, Protocol.V1): 4.5,
        (256, Protocol.V2): 7,
        (4096, Protocol.V2): 8,
        (4096, Protocol.BINARY): 25,
        (256, Protocol.GRPC): 1.3,
    },
)
FOREST = _family(
    "forest",
    {
        (1, Protocol.V2): 25,
        (1, Protocol.V1): 25,
        (256, Protocol.V2): 4,
        (4096, Protocol.V2): 2.5,
        (4096, Protocol.BINARY): 3,
        (256, Protocol.GRPC): 4,
    },
)
ALONE = [
    replace(FREE[0], connections=1, goal=None),
    replace(FOREST[0], connections=1, goal=15, p99_goal=0.1),
]
COMPARED = [*FREE, *FOREST, *ALONE]
"""What kserve's server is asked too."""

LIBRARIES = [
    work
    for model in LIBRARY_MODELS
    for work in _family(model, {(1, Protocol.V2): 5, (256, Protocol.V2): 1})
]
"""What servers are asked that open models of other libraries, MLServer among them."""

OURS = [
    Workload("arima", 0, Protocol.V2, connections=1),
    Workload("prophet", 0, Protocol.V2, connections=1),
    Workload("lstm", 1, Protocol.V2, connections=1),
    Workload("lstm", 256, Protocol.V2, connections=1),
]
"""What is compared with the library's own call in a process of its own."""

HEALTH_GOAL_MS = 10.0


def twin(workload: Workload) -> Workload:
    """Return the workload on the model that costs nothing which sends about as many values."""
    rows = {1: 12, 256: 3072}.get(workload.rows, 1)
    return Workload("free", rows, Protocol.V2, connections=1)


TWINS = [work for work in dict.fromkeys(map(twin, OURS)) if work not in COMPARED]


def call_key(workload: Workload) -> str:
    """Name what a workload costs in process, where the protocol makes no difference."""
    return f"{workload.model} {workload.rows}"
