"""Child processes with a pipe each: started fresh, told to stop, and ended by their pid."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

_SPAWN = multiprocessing.get_context("spawn")


class Line:
    """A child's end of the pipe: it reports, and learns that it has to stop."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._told: list[str] = []

    def report(self, kind: str, value: object) -> None:
        """Send one report."""
        self._connection.send((kind, value))

    def wait(self, seconds: float) -> str:
        """Wait so long, or until something is said; return it, and ``stop`` for ever after it."""
        self._hear(0 if self._told else seconds)
        if not self._told:
            return ""
        return self._told[0] if self._told[0] == "stop" else self._told.pop(0)

    def is_over(self) -> bool:
        """Return whether this child has to stop; whatever else was said is told later."""
        self._hear(0)
        return "stop" in self._told

    def _hear(self, seconds: float) -> None:
        try:
            if "stop" not in self._told and self._connection.poll(seconds):
                self._told.append(str(self._connection.recv()))
        except (EOFError, OSError):
            self._told.append("stop")


@dataclass
class Child:
    """A process of ours and our end of its pipe."""

    name: str
    process: Any
    connection: Connection

    @property
    def pid(self) -> int:
        return int(self.process.pid)

    def tell(self, word: str) -> None:
        """Say something to it; one that has ended hears nothing."""
        try:
            self.connection.send(word)
        except OSError:
            return

    def end(self, deadline: float) -> None:
        """Wait until the deadline, then kill it."""
        self.process.join(max(0.0, deadline - time.monotonic()))
        if self.process.is_alive():
            self.process.kill()
            self.process.join(10)


def start(name: str, work: Callable[..., None], *arguments: object) -> Child:
    """Run a function of a module, which gets its line first, in a process of its own."""
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_run, args=(theirs, work, *arguments), name=name, daemon=True)
    process.start()
    theirs.close()
    return Child(name, process, ours)


def _run(connection: Connection, work: Callable[..., None], *arguments: object) -> None:
    # Ctrl-C reaches the whole group; the parent alone decides, and tells us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line = Line(connection)
    try:
        work(line, *arguments)
    except Exception as error:  # noqa: BLE001  # whatever ended this child has to be seen
        import traceback

        line.report("broke down", f"{error!r}\n{traceback.format_exc()}")
    sys.stdout.flush()
