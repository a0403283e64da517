"""Where a worker belongs, handed from the supervisor to its workers in one environment variable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

VARIABLE = "BUNDLESERVER_WORKER"
"""Set by the supervisor for its workers, and by nobody else."""


@dataclass(frozen=True)
class Place:
    """One worker's place: its number from 1, where to speak to the supervisor, and the ports."""

    socket: str
    http_port: int
    grpc_port: int
    number: int = 0

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Place | None:
        """Return this process's place; None where it is no worker."""
        text = environ.get(VARIABLE)
        return None if not text else cls(**json.loads(text))

    def environment(self, number: int) -> dict[str, str]:
        """Return what tells a worker its place."""
        return {VARIABLE: json.dumps(asdict(replace(self, number=number)))}
