"""The identity of a worker process, set by the supervisor in one environment variable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

BEAT_SECONDS = 1.0
"""How often the event loop notes that it turns, and the supervisor is told so, at the least."""
VARIABLE = "BUNDLESERVER_WORKER"
"""Set by the supervisor for its worker processes only."""


@dataclass(frozen=True)
class WorkerIdentity:
    """One worker process: number from 1, the supervisor's socket, the ports, time between beats."""

    socket: str
    http_port: int
    grpc_port: int
    number: int = 0
    beat_seconds: float = BEAT_SECONDS

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> WorkerIdentity | None:
        """Return this process's identity; None if it is not a worker process."""
        text = environ.get(VARIABLE)
        return None if not text else cls(**json.loads(text))

    def environment(self, number: int) -> dict[str, str]:
        """Return the environment variable of a worker process."""
        return {VARIABLE: json.dumps(asdict(replace(self, number=number)))}
