"""The soak: starts servers, clients and directors, reads their reports, and ends them all."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

from bundleserver import BundleStore
from tests.end_to_end.processes import ServerProcess, running
from tests.soak.checking import LOST, Book
from tests.soak.children import Child, start
from tests.soak.clients import Place, run_client
from tests.soak.hostile import run_hostile
from tests.soak.models import KINDS, REGISTERED, save
from tests.soak.registry import run_registry
from tests.soak.tally import Tally, say
from tests.soak.volume import run_volume
from tests.soak.weighing import kill_worker, weigh

POLL_SECONDS = 0.5
PROGRESS_SECONDS = 10.0
FIRST_KILL_SECONDS, KILL_SECONDS = 25.0, 60.0
"""Kills come at a fixed pace, so that the processes are of the same age when they are weighed."""
WEIGHED_AT_SECONDS = 120.0
SETTLE_SECONDS = 4.0
JUDGED_AFTER_SECONDS = 5.0
"""How long a failure waits for the kill that may explain it."""
STARTED_WITHIN_SECONDS = 120.0
ENDED_WITHIN_SECONDS = 60.0
LOG_TAIL_LINES = 6
LOADS = {
    "single": ("V1", "V2", "V2 binary", "gRPC"),
    "pair": ("V1", "V1", "V2", "V2 binary", "gRPC", "gRPC"),
    "registry": ("V1", "V2"),
}
_STARTED = re.compile(r"worker process (\d+) started with pid (\d+)")


@dataclass
class Soak:
    """One soak from its start to its end; everything that it started ends with ``run``."""

    minutes: float
    seed: int
    tally: Tally = field(default_factory=Tally)
    children: list[Child] = field(default_factory=list)
    servers: dict[str, ServerProcess] = field(default_factory=dict)
    started: int = 0
    registry_pid: int = 0
    registry_uri: str = ""
    paused: set[str] = field(default_factory=set)
    weighed: list[float] = field(default_factory=list)

    def run(self) -> list[str]:
        """Run it and return why it has failed; nothing if it has passed."""
        self.tally.tail = self._log_tail
        root = Path(tempfile.mkdtemp(prefix="soak-"))
        try:
            with ExitStack() as stack:
                stack.callback(self._end_children)
                self._load(root, self._start(root, stack))
                self._watch(time.monotonic())
                self._stop_load()
                self._stop_servers()
        finally:
            shutil.rmtree(root, ignore_errors=True)
        self.tally.end()
        self.tally.show(self.weighed)
        return self.tally.verdict(self.minutes)

    def _start(self, root: Path, stack: ExitStack) -> dict[str, Place]:
        store, book = BundleStore(root / "volume"), Book(root / "book")
        for model in KINDS:
            save(store, book, model, 1, "v1")
        self.children.append(start("registry", run_registry, root, self.seed + 1))
        flags = {"poll_interval_seconds": POLL_SECONDS}
        self.servers["single"] = stack.enter_context(running(root / "volume", **flags))
        self.servers["pair"] = stack.enter_context(running(root / "volume", workers=2, **flags))
        for name in ("single", "pair"):
            for model in KINDS:
                self.servers[name].wait_until_ready(model)
        self.servers["pair"].wait_for_line("2 of 2")
        self._wait_for_children("the registry runs", lambda: bool(self.registry_uri))
        os.environ["MLFLOW_TRACKING_URI"] = self.registry_uri
        given = {
            "http_port": 0,
            "grpc_port": 0,
            "model_uri": f"models:/{REGISTERED}@champion",
            "cache_dir": root / "cache",
            **flags,
        }
        server = ServerProcess(tuple(f"--{flag}={value}" for flag, value in given.items()))
        stack.callback(server.kill)
        self.servers["registry"] = server
        server.wait_until_listening()
        server.wait_until_ready(REGISTERED)
        for child in self._named("registry"):
            child.tell(str(server.http_port))
        return {
            name: Place(
                name,
                server.http_port,
                server.grpc_port,
                (REGISTERED,) if name == "registry" else tuple(KINDS),
            )
            for name, server in self.servers.items()
        }

    def _load(self, root: Path, places: dict[str, Place]) -> None:
        number = self.seed * 1000
        for name, protocols in LOADS.items():
            for protocol in protocols:
                number += 1
                work = (protocol, places[name], root / "book", number)
                self.children.append(start(f"client {name} {protocol}", run_client, *work))
        volume = [places["single"], places["pair"]]
        self.children.append(start("volume", run_volume, root, volume, self.seed))
        self.children.append(start("hostile", run_hostile, volume, self.seed + 2))
        self._wait_for_children("all run", lambda: self.started == len(self.children) - 1)

    def _wait_for_children(self, what: str, ask: Callable[[], bool]) -> None:
        end = time.monotonic() + STARTED_WITHIN_SECONDS
        while not ask():
            self._read(0.5)
            if time.monotonic() > end or self.tally.faults["broke down"]:
                raise RuntimeError(f"waited in vain until {what}")

    def _watch(self, began: float) -> None:
        """Read reports until the time is over; kill, weigh and tell on the way."""
        end = began + 60 * self.minutes
        next_kill, next_line, kills = began + FIRST_KILL_SECONDS, began + PROGRESS_SECONDS, 0
        # A soak of two minutes is weighed halfway, and prints how memory grew since.
        first_weighing = began + min(WEIGHED_AT_SECONDS, 30 * self.minutes)
        while (now := time.monotonic()) < end - SETTLE_SECONDS * 2:
            self._read(min(0.5, max(0.0, next_line - now)))
            self.tally.settle(now - JUDGED_AFTER_SECONDS)
            if now >= next_kill:
                kills, next_kill = kills + 1, next_kill + KILL_SECONDS
                self._kill(1 + kills % 2)
            if now >= first_weighing and not self.weighed:
                self._weigh(began)
            if now >= next_line:
                next_line = now + PROGRESS_SECONDS
                weights = {name: weigh(s.popen.pid) for name, s in self.servers.items()}
                say(self.tally.line(now - began, weights))
            for name, server in self.servers.items():
                if server.popen.poll() is not None:
                    self.tally.fault(LOST, f"the server {name} ended: {server.popen.returncode}")
                    return
        self._weigh(began)

    def _weigh(self, began: float) -> None:
        """Let the directors pause, under load all the same, and weigh each server."""
        directors = self._named("volume", "registry")
        self.paused.clear()
        for director in directors:
            director.tell("pause")
        end = time.monotonic() + STARTED_WITHIN_SECONDS
        while len(self.paused) < len(directors) and time.monotonic() < end:
            self._read(0.2)
        if len(self.paused) < len(directors):
            self.tally.fault("missed", f"only {sorted(self.paused)} paused to be weighed")
        settled = time.monotonic() + SETTLE_SECONDS
        while (left := settled - time.monotonic()) > 0:
            self._read(left)
        for name, server in self.servers.items():
            self.tally.weights.setdefault(name, []).append(weigh(server.popen.pid, samples=5))
        self.weighed.append(time.monotonic() - began)
        for director in directors:
            director.tell("resume")

    def _kill(self, number: int) -> None:
        server = self.servers["pair"]
        found = {int(m[1]): int(m[2]) for m in map(_STARTED.search, list(server.lines)) if m}
        with suppress(ProcessLookupError):
            ports = server.http_port, server.grpc_port
            self.tally.kill(kill_worker("pair", found[number], ports))

    def _read(self, seconds: float) -> None:
        """Take what the children report, for at most so long."""
        open_ends = {child.connection: child for child in self.children}
        for connection in wait(list(open_ends), seconds):
            child = open_ends[connection]
            try:
                kind, value = connection.recv()
            except (EOFError, OSError):
                self.children.remove(child)
                child.end(time.monotonic() + 5)
                self.tally.fault("broke down", f"{child.name} ended by itself")
                continue
            self._take(child, kind, value)

    def _take(self, child: Child, kind: str, value: object) -> None:
        tally = self.tally
        if kind == "counts":
            tally.count(value)
        elif kind == "problem":
            tally.problem(*value)
        elif kind == "step":
            tally.steps[value] += 1
        elif kind == "retired":
            model, version, at = value
            tally.retired[model, version] = at
        elif kind == "started":
            self.started += 1
        elif kind == "hostile":
            tally.hostile += 1
        elif kind == "paused":
            self.paused.add(value)
        elif kind == "registry":
            self.registry_pid = value
        elif kind == "registered":
            self.registry_uri = value
        else:
            tally.fault(kind, f"{child.name}: {value}")

    def _named(self, *names: str) -> list[Child]:
        """Return those that have not ended; an end by itself is a fault already."""
        return [child for child in self.children if child.name in names]

    def _stop_load(self) -> None:
        """Tell all children to stop and read their last reports."""
        end = time.monotonic() + ENDED_WITHIN_SECONDS
        for child in self.children:
            child.tell("stop")
        open_ends = {child.connection: child for child in self.children}
        while open_ends and time.monotonic() < end:
            for connection in wait(list(open_ends), 1.0):
                try:
                    kind, value = connection.recv()
                    self._take(open_ends[connection], kind, value)
                except (EOFError, OSError):
                    del open_ends[connection]
        for child in open_ends.values():
            self.tally.fault(LOST, f"{child.name} did not end: an answer never came")

    def _stop_servers(self) -> None:
        """Stop the servers as a platform does; each has to end cleanly."""
        for server in self.servers.values():
            server.send(signal.SIGTERM)
        for name, server in self.servers.items():
            if code := server.exit_code():
                self.tally.fault("broke down", f"the server {name} ended with {code}")

    def _end_children(self) -> None:
        deadline = time.monotonic() + 10
        for child in self.children:
            child.tell("stop")
        for child in self.children:
            child.end(deadline)
        if self.registry_pid:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.registry_pid, signal.SIGKILL)

    def _log_tail(self, server: str) -> str:
        lines = self.servers[server].lines[-LOG_TAIL_LINES:] if server in self.servers else []
        return "".join(f"    {line}" for line in lines)
