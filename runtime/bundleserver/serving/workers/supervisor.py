"""The supervisor: starts the worker processes, replaces those that exit, and stops them all."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bundleserver.documents.printable import printable
from bundleserver.errors import ConfigError, Problem
from bundleserver.manager.first_load import FirstLoadFailed
from bundleserver.serving.addresses import (
    EVERY,
    EVERY_IPV4,
    Address,
    addresses_of,
    reusable_socket,
)
from bundleserver.serving.cpus import cpu_share
from bundleserver.serving.stopping import SIGNALS, ignore_signals
from bundleserver.serving.workers.hub import START_SECONDS, Hub
from bundleserver.serving.workers.identity import BEAT_SECONDS, WorkerIdentity

LOG = logging.getLogger(__name__)

PAUSES_SECONDS = (0.0, 1.0, 2.0, 5.0, 15.0, 30.0)
"""Backoff before a worker process is replaced, by how often it has exited in a row."""
STEADY_SECONDS = 60.0
"""A worker process that ran for so long resets its backoff."""
_EXTRA_SECONDS = 5.0
"""Time beyond the grace period before worker processes are killed."""


class Supervisor:
    """Runs a command several times and keeps that many running until a signal."""

    def __init__(
        self,
        command: Sequence[str],
        workers: int,
        identity: WorkerIdentity,
        grace_seconds: float,
        heartbeat_seconds: float = 0.0,
        cpus: float = math.inf,
        first_pauses_seconds: Sequence[float] | None = None,
        say_failed: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._command = command
        self._workers = workers
        self._identity = identity
        self._grace_seconds = grace_seconds
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._listening: set[int] = set()
        self._hung: dict[int, float] = {}
        self._was_up = False
        self._stopping = asyncio.Event()
        told = (self._on_listening, self._on_hung, heartbeat_seconds, self._on_failed)
        # All import at once, so that each has its share of the CPUs.
        start_seconds = START_SECONDS * max(1.0, workers / cpus)
        self._hub = Hub(*told, start_seconds, first_pauses_seconds)
        self._code, self._failure, self._say_failed = 0, "", say_failed
        self._is_signalled = False

    def run(self) -> int:
        """Run until a signal; return the exit code.

        Raises:
            FirstLoadFailed: the first load has failed for good, and the worker processes exit then.
        """
        code = asyncio.run(self._run())
        if self._failure:
            ignore_signals()
            raise FirstLoadFailed(self._failure)
        return code

    async def _run(self) -> int:
        for number in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number)
        hub = self._hub
        await hub.start(Path(self._identity.socket))
        try:
            kept = [asyncio.create_task(self._keep(n + 1)) for n in range(self._workers)]
            await asyncio.gather(*kept)
        finally:
            hub.close()
        LOG.info("stopped: every worker process has exited")
        return self._code

    async def _keep(self, number: int) -> None:
        """Keep one worker process running."""
        ended = 0
        while not self._stopping.is_set():
            started = asyncio.get_running_loop().time()
            code = await self._run_once(number)
            self._listening.discard(number)
            silent_seconds = self._hung.pop(number, None)
            has_hung = silent_seconds is not None
            blamed = await self._find_cause(number, code, silent_seconds)
            if self._stopping.is_set():
                break
            if code and not (self._was_up or blamed or has_hung):
                # An error that keeps the first ones from listening would stop all others too.
                self._stop(code if code > 0 else 1)
                break
            is_steady = asyncio.get_running_loop().time() - started > STEADY_SECONDS
            ended = 1 if is_steady else ended + 1
            pause = PAUSES_SECONDS[min(ended, len(PAUSES_SECONDS)) - 1]
            LOG.warning(
                "worker process %s exited (%s%s); starting another one", number, _how(code), blamed
            )
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _find_cause(self, number: int, code: int, silent_seconds: float | None) -> str:
        """Return which new versions a worker process was loading when it ended, for the log."""
        what = ""
        if silent_seconds is not None:
            what = f"kept the process from turning for {silent_seconds:g} s"
        elif code != -signal.SIGTERM:
            what = f"ended the process with {_name(code)}"
        # The system kills where memory is short, and whoever may.
        is_sure = silent_seconds is not None or code not in (0, -signal.SIGKILL)
        blamed = await self._hub.end(number, what, is_sure=is_sure)
        named = ", ".join(
            f"{printable(key.model)} {printable(key.version)}" for key in sorted(blamed)
        )
        return f" while loading {named}" if named else ""

    async def _run_once(self, number: int) -> int:
        environment = {**os.environ, **self._identity.environment(number)}
        # In a separate session: the supervisor forwards the terminal's signals.
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command, env=environment, start_new_session=True
            )
        except (OSError, RuntimeError, MemoryError) as error:
            # Too many processes or threads, or too little memory, which may pass.
            why = getattr(error, "strerror", None) or error
            LOG.error("worker process %s cannot be started: %s", number, why)
            return 1
        LOG.info("worker process %s started with pid %s", number, process.pid)
        self._processes[number] = process
        self._hub.begin(number)
        if self._stopping.is_set():
            process.send_signal(signal.SIGTERM)
        code = await process.wait()
        del self._processes[number]
        return code

    def _on_listening(self, number: int) -> None:
        self._was_up = True
        self._listening.add(number)
        LOG.info("worker process %s listens: %s of %s", number, len(self._listening), self._workers)

    def _on_hung(self, number: int, seconds: float) -> None:
        """Kill a worker process that hangs, so that another one takes its place."""
        process = self._processes.get(number)
        if process is None:
            return
        self._hung[number] = seconds
        LOG.error("worker process %s hangs: no heartbeat for %g s; killing it", number, seconds)
        with contextlib.suppress(ProcessLookupError):
            process.kill()

    def _on_failed(self, why: str) -> None:
        if not self._stopping.is_set():
            self._failure = why
            self._say_failed(why)
            self._stop(1)

    def _on_signal(self, number: signal.Signals) -> None:
        if self._is_signalled:
            LOG.warning("%s again: ending now; requests in flight are lost", number.name)
            self._code = 1
            self._signal_all(signal.SIGKILL)
            return
        LOG.info("%s: stopping %s worker processes", number.name, len(self._processes))
        self._is_signalled = True
        if not self._stopping.is_set():
            self._stop(0)

    def _stop(self, code: int) -> None:
        self._code = code
        self._stopping.set()
        self._signal_all(signal.SIGTERM)
        asyncio.get_running_loop().call_later(_EXTRA_SECONDS, self._kill_beginners)
        timeout = self._grace_seconds + _EXTRA_SECONDS
        asyncio.get_running_loop().call_later(timeout, self._signal_all, signal.SIGKILL)

    def _kill_beginners(self) -> None:
        """Kill worker processes that have no requests, as they do not listen."""
        for number in {*self._processes} - self._listening:
            with contextlib.suppress(ProcessLookupError):
                self._processes[number].kill()

    def _signal_all(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)


def _how(code: int) -> str:
    return f"ended by {_name(code)}" if code < 0 else _name(code)


def _name(code: int) -> str:
    """Name an exit code or a signal."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):  # real-time signals have numbers only
        return signal.Signals(-code).name
    return f"signal {-code}"


def supervise(
    command: Sequence[str],
    *,
    workers: int,
    host: str | None,
    http_port: int,
    grpc_port: int | None,
    grace_seconds: float,
    heartbeat_seconds: float,
    first_pauses_seconds: Sequence[float] | None = None,
    say_failed: Callable[[str], None] = lambda _: None,
) -> int:
    """Run a command as several worker processes on the same ports; return the exit code of all.

    Args:
        command: runs the worker process that its environment names.
        workers: the number of worker processes.
        host: an address, or a name of some; None for every address.
        http_port: the REST port; 0 selects a free one.
        grpc_port: the gRPC port; None without gRPC.
        grace_seconds: the worker processes' grace period.
        heartbeat_seconds: how long one may hang before it is replaced; 0 for ever.
        first_pauses_seconds: see ``Trials``.
        say_failed: called with the reason as soon as the first load has failed for good.

    Raises:
        ConfigError: a port is in use or not allowed, or the host is not this machine.
        FirstLoadFailed: the first load has failed for good, and they exit then.
    """
    with contextlib.ExitStack() as reserved, tempfile.TemporaryDirectory() as directory:
        rest = _reserve("--http_port", addresses_of(host, EVERY_IPV4), http_port, reserved)
        grpc = 0
        if grpc_port is not None:
            every = EVERY if socket.has_dualstack_ipv6() else EVERY_IPV4
            grpc = _reserve("--grpc_port", addresses_of(host, every), grpc_port, reserved)
        # Four beats within the limit, so that one may be late.
        beat_seconds = min(BEAT_SECONDS, heartbeat_seconds / 4 or BEAT_SECONDS)
        identity = WorkerIdentity(
            f"{directory}/supervisor.sock", rest, grpc, beat_seconds=beat_seconds
        )
        how = (grace_seconds, heartbeat_seconds, cpu_share(), first_pauses_seconds, say_failed)
        supervisor = Supervisor(command, workers, identity, *how)
        return supervisor.run()


def _reserve(
    flag: str, addresses: Sequence[Address], port: int, reserved: contextlib.ExitStack
) -> int:
    """Reserve a port for the worker processes, which share it; no other process gets it."""
    for address in addresses:
        try:
            # First without sharing, to check that no other process listens there.
            with _bound(address, port) as probe:
                port = probe.getsockname()[1]
            reserved.enter_context(_bound(address, port, shared=True))
        except OSError as error:
            what = f"cannot listen on {address.at(port)}: {error.strerror or error}"
            raise ConfigError("serve", [Problem(flag, what)]) from error
    return port


def _bound(address: Address, port: int, *, shared: bool = False) -> socket.socket:
    taken = reusable_socket(address)
    try:
        if shared:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(address.socket_at(port))
    except OSError:
        taken.close()
        raise
    return taken
