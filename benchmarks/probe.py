"""A second client beside a load: how long health takes, and whether answers stay right."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
from load import Load
from questions import Question, answer_values
from servers import Server, ServerFailed, ask_over
from workloads import Protocol

HEALTH_PATH = "/v2/health/live"
PROBE_EVERY_SECONDS = 0.02
CHECK_EVERY_SECONDS = 0.2


@dataclass(frozen=True)
class Expected:
    """A question whose answer is known."""

    protocol: Protocol
    question: Question
    values: np.ndarray


@dataclass
class Probe:
    """Two threads that ask while the block of the context manager lasts.

    Health is asked every 20 ms. When an answer takes longer than that, the probes that should have
    gone out meanwhile count from when they should have, as those of other clients would.
    """

    server: Server
    expected: Sequence[Expected]
    checked: int = 0
    problems: list[str] = field(default_factory=list)
    _health: list[tuple[float, float]] = field(default_factory=list)

    def __enter__(self) -> Probe:
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._probe, self._check)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def health_during(self, load: Load) -> list[float]:
        """Return how many milliseconds health took, for each probe while the load was on."""
        until = load.started + load.seconds
        return [ms for asked, ms in self._health if load.started <= asked <= until]

    def _probe(self) -> None:
        with self.server.connection() as connection:
            due = answered = time.perf_counter()
            while not self._ended.wait(max(0.0, due - time.perf_counter())):
                # Late because this thread was woken late is not the server's fault.
                asked = due if due < answered else time.perf_counter()
                self._ask_health(connection)
                answered = time.perf_counter()
                self._health.append((asked, (answered - asked) * 1e3))
                due += PROBE_EVERY_SECONDS

    def _ask_health(self, connection: http.client.HTTPConnection) -> None:
        try:
            connection.request("GET", HEALTH_PATH)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                self.problems.append(f"health: {answer.status}")
        except (OSError, http.client.HTTPException) as error:
            self.problems.append(f"health: {error}")
            connection.close()

    def _check(self) -> None:
        """Ask other questions than the load does, one after the other, and compare the answers."""
        with self.server.connection() as connection:
            while self.expected and not self._ended.wait(CHECK_EVERY_SECONDS):
                known = self.expected[self.checked % len(self.expected)]
                self.checked += 1
                try:
                    body, length = ask_over(connection, known.question)
                except (OSError, http.client.HTTPException, ServerFailed) as error:
                    self.problems.append(str(error))
                    connection.close()
                    continue
                if not same(known.values, answer_values(known.protocol, body, length)):
                    self.problems.append(f"{known.question.path}: a wrong answer under load")


def same(expected: np.ndarray, came: np.ndarray) -> bool:
    """Ask whether an answer is the expected one: whole numbers exactly, others to 1e-6."""
    if expected.size != came.size:
        return False
    return bool(np.allclose(expected.ravel(), came.ravel(), rtol=1e-6, atol=0))
