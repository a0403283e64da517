"""Worker processes that score batches, each at most one at a time."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from types import TracebackType

from bundleserver.batch.jobs.messages import Done, Failed, Job, Ready, Task
from bundleserver.errors import BundleError, InvalidInput

_ENTRY = (
    "import sys; sys.path[:] = [place for place in sys.path if place]; "
    "from bundleserver.batch.jobs.worker import main; main(int(sys.argv[1]))"
)
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_END_SECONDS = 10.0


class Worker:
    """One process and the connection to it; used by one thread."""

    def __init__(self, job: Job) -> None:
        ours, theirs = socket.socketpair()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        if not any(name in os.environ for name in _THREADS):
            # Other numbers of threads may add up in another order.
            environment |= dict.fromkeys(_THREADS, "1")
        with theirs:
            self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-c", _ENTRY, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=2,  # what a model prints is no part of the scores
                pass_fds=[theirs.fileno()],
                env=environment,
                start_new_session=True,
            )
        self.connection = Connection(ours.detach())
        self.task: Task | None = None
        self._send(job)

    @property
    def doing(self) -> str:
        """The rows that it scores, for messages."""
        first, last = self.task.rows if self.task is not None else (0, 0)
        return f"rows {first} to {last}"

    def begin(self, task: Task) -> None:
        """Give it a batch; it must have none."""
        self.task = task
        self._send(task)

    def receive(self) -> Ready | Done | Failed:
        """Return what it says next.

        Raises:
            BundleError: it has ended by itself.
        """
        try:
            said: Ready | Done | Failed = self.connection.recv()
        except (EOFError, OSError):
            raise self._ended() from None
        return said

    def end(self) -> None:
        """End the process, whatever it does."""
        self.connection.close()
        self.process.kill()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_END_SECONDS)

    def _send(self, message: Job | Task) -> None:
        try:
            self.connection.send(message)
        except OSError:
            raise self._ended() from None

    def _ended(self) -> BundleError:
        code = self.process.wait(_END_SECONDS)
        doing = "opening the model" if self.task is None else f"scoring {self.doing}"
        how = f"with exit code {code}"
        if code < 0:
            how = f"with {signal.Signals(-code).name}"
        hint = ""
        if -code in (signal.SIGKILL, signal.SIGBUS):
            hint = "; there is probably too little memory: use fewer --jobs, or less --batch_rows"
        return BundleError(f"a worker process ended {how} while {doing}{hint}")


class Pool:
    """Worker processes for one job; used by one thread, and closed by whoever made it."""

    def __init__(self, job: Job, count: int) -> None:
        """Start the processes.

        Raises:
            BundleError: one ended at once.
            OSError: one cannot be started.
        """
        self._workers: list[Worker] = []
        try:
            for _ in range(count):
                self._workers.append(Worker(job))
        except BaseException:
            self.close()
            raise
        self._opening = list(self._workers)
        self._idle: list[Worker] = []

    def first_ready(self) -> Ready:
        """Wait until a process has opened the model.

        Raises:
            BundleError: it cannot be opened.
            InvalidInput: the table lacks what the model takes.
        """
        while True:
            for said in self._received(self._opening):
                if isinstance(said, Ready):
                    return said

    @property
    def has_idle(self) -> bool:
        """Whether a process waits for a batch."""
        return bool(self._idle)

    def begin(self, task: Task) -> None:
        """Give a batch to a process that waits for one."""
        self._idle.pop().begin(task)

    def done(self) -> list[Done]:
        """Wait until a process has scored a batch or is ready for one; return what was scored.

        Raises:
            BundleError: a process ended, or cannot open the model.
            InvalidInput, PredictionError: a batch as a whole is not valid.
        """
        busy = [worker for worker in self._workers if worker not in self._idle]
        return [said for said in self._received(busy) if isinstance(said, Done)]

    def close(self) -> None:
        """End all processes."""
        for worker in self._workers:
            worker.end()

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _received(self, workers: Sequence[Worker]) -> list[Ready | Done]:
        by_connection = {worker.connection: worker for worker in workers}
        received: list[Ready | Done] = []
        for connection in wait(list(by_connection)):
            worker = by_connection[connection]  # type: ignore[index]  # one of those waited for
            said = worker.receive()
            if isinstance(said, Failed):
                where = "" if worker.task is None else f"{worker.doing}: "
                raise (InvalidInput if said.is_input else BundleError)(where + said.said)
            worker.task = None
            self._idle.append(worker)
            received.append(said)
        return received
