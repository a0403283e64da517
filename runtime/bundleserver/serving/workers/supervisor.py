"""The process that starts the worker processes, replaces those that end, and ends them all."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bundleserver.errors import ConfigError, Problem
from bundleserver.serving.workers.hub import Hub
from bundleserver.serving.workers.identity import WorkerIdentity

LOG = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
PAUSES_SECONDS = (0.0, 1.0, 2.0, 5.0, 15.0, 30.0)
"""Backoff before a worker process is replaced, by how often it has ended in a row."""
STEADY_SECONDS = 60.0
"""A worker process that ran for so long begins with the first pause again."""
_EXTRA_SECONDS = 5.0
"""What worker processes get beyond their grace period before they are killed."""


class Supervisor:
    """Runs a command several times and keeps that many running until a signal."""

    def __init__(
        self, command: Sequence[str], workers: int, identity: WorkerIdentity, grace_seconds: float
    ) -> None:
        self._command = command
        self._workers = workers
        self._identity = identity
        self._grace_seconds = grace_seconds
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._listening: set[int] = set()
        self._was_up = False
        self._stopping = asyncio.Event()
        self._code = 0

    def run(self) -> int:
        """Serve until a signal; return the exit code of the whole."""
        return asyncio.run(self._run())

    async def _run(self) -> int:
        for number in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number)
        hub = Hub(self._on_listening)
        await hub.start(Path(self._identity.socket))
        try:
            kept = [asyncio.create_task(self._keep(n + 1)) for n in range(self._workers)]
            await asyncio.gather(*kept)
        finally:
            hub.close()
        LOG.info("stopped: every worker process has ended")
        return self._code

    async def _keep(self, number: int) -> None:
        """Keep one worker process running."""
        ended = 0
        while not self._stopping.is_set():
            started = asyncio.get_running_loop().time()
            code = await self._run_once(number)
            self._listening.discard(number)
            if self._stopping.is_set():
                break
            if code and not self._was_up:
                # What keeps the first workers from listening would keep all others from it too.
                self._stop(code if code > 0 else 1)
                break
            is_steady = asyncio.get_running_loop().time() - started > STEADY_SECONDS
            ended = 1 if is_steady else ended + 1
            pause = PAUSES_SECONDS[min(ended, len(PAUSES_SECONDS)) - 1]
            LOG.warning("worker process %s %s; starting another one", number, _how(code))
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _run_once(self, number: int) -> int:
        """Run one worker process from its start to its end."""
        environment = {**os.environ, **self._identity.environment(number)}
        # In a session of its own: what the terminal sends to all is the supervisor's to pass on.
        process = await asyncio.create_subprocess_exec(
            *self._command, env=environment, start_new_session=True
        )
        LOG.info("worker process %s starts with pid %s", number, process.pid)
        self._processes[number] = process
        if self._stopping.is_set():
            process.send_signal(signal.SIGTERM)
        code = await process.wait()
        del self._processes[number]
        return code

    def _on_listening(self, number: int) -> None:
        self._was_up = True
        self._listening.add(number)
        LOG.info("worker process %s listens: %s of %s", number, len(self._listening), self._workers)

    def _on_signal(self, number: signal.Signals) -> None:
        if self._stopping.is_set():
            LOG.warning("%s again: ending now; requests in flight are lost", number.name)
            self._code = 1
            self._signal_all(signal.SIGKILL)
            return
        LOG.info("%s: stopping %s worker processes", number.name, len(self._processes))
        self._stop(0)

    def _stop(self, code: int) -> None:
        self._code = code
        self._stopping.set()
        self._signal_all(signal.SIGTERM)
        timeout = self._grace_seconds + _EXTRA_SECONDS
        asyncio.get_running_loop().call_later(timeout, self._signal_all, signal.SIGKILL)

    def _signal_all(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)


def supervise(
    command: Sequence[str],
    *,
    workers: int,
    http_port: int,
    grpc_port: int | None,
    grace_seconds: float,
) -> int:
    """Run a command as several worker processes on the same ports; return the exit code of all.

    Args:
        command: serves, as the worker process that its environment names.
        workers: how many.
        http_port: of REST; 0 takes a free one.
        grpc_port: of gRPC; None where it is not served.
        grace_seconds: what workers have to end.

    Raises:
        ConfigError: a port is taken or not ours to take.
    """
    with contextlib.ExitStack() as held, tempfile.TemporaryDirectory() as directory:
        rest = held.enter_context(_reserved("--http_port", socket.AF_INET, http_port))
        grpc = rest if grpc_port is None else held.enter_context(_reserved_grpc(grpc_port))
        identity = WorkerIdentity(
            f"{directory}/supervisor.sock",
            rest.getsockname()[1],
            0 if grpc_port is None else grpc.getsockname()[1],
        )
        return Supervisor(command, workers, identity, grace_seconds).run()


@contextlib.contextmanager
def _reserved(flag: str, family: int, port: int) -> Iterator[socket.socket]:
    """Hold a port for the workers, which listen on it beside each other; nobody else gets it."""
    host = "::" if family == socket.AF_INET6 else "0.0.0.0"  # noqa: S104  # as the workers listen
    with contextlib.ExitStack() as held:
        try:
            # Without sharing first: it says whether somebody else listens there.
            with _bound(family, host, port) as probe:
                port = probe.getsockname()[1]
            taken = held.enter_context(_bound(family, host, port, shared=True))
        except OSError as error:
            reason = error.strerror or str(error)
            what = f"cannot listen on {host}:{port}: {reason}"
            raise ConfigError("serve", [Problem(flag, what)]) from error
        yield taken


@contextlib.contextmanager
def _reserved_grpc(port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    with _reserved("--grpc_port", family, port) as taken:
        yield taken


def _bound(family: int, host: str, port: int, *, shared: bool = False) -> socket.socket:
    taken = socket.socket(family, socket.SOCK_STREAM)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        taken.bind((host, port))
    except OSError:
        taken.close()
        raise
    return taken


def _how(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with code {code}"
