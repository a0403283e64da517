"""A server in a process of its own, for tests of how one starts and ends.

Run as a program it serves two models: ``sums``, and ``slow``, which says ``entered`` on standard
output and answers when someone writes to the named pipe it was given.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.serving.fakes import DEADLINE_SECONDS


@dataclass
class Process:
    """The process and what it has said so far."""

    popen: subprocess.Popen[str]
    http_port: int
    grpc_port: int
    pipe: Path
    errors: list[str] = field(default_factory=list)
    output: list[str] = field(default_factory=list)
    listening: threading.Event = field(default_factory=threading.Event)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    closed: threading.Event = field(default_factory=threading.Event)

    @property
    def rest(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def log(self) -> str:
        return "".join(self.errors)

    def send(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def open_gate(self) -> None:
        """Let one request through."""
        self.pipe.write_text("go")

    def exit_code(self) -> int:
        return self.popen.wait(DEADLINE_SECONDS)

    def watch(self) -> list[threading.Thread]:
        """Read what the process says, in threads that end with it."""
        threads = [threading.Thread(target=self._read_errors), threading.Thread(target=self._read)]
        for thread in threads:
            thread.start()
        return threads

    def _read_errors(self) -> None:
        for line in self.popen.stderr or ():
            self.errors.append(line)
            if "serving REST" in line:
                self.listening.set()

    def _read(self) -> None:
        for line in self.popen.stdout or ():
            self.output.append(line)
            if line == "entered\n":
                self.entered.release()
            if line == "closed\n":
                self.closed.set()


@contextmanager
def process(
    ports: list[int], pipe: Path, options: Mapping[str, object] | None = None
) -> Iterator[Process]:
    """Run a server while the block runs; its settings are those of ``ServerOptions``."""
    http_port, grpc_port = ports
    ports_only = {"http_port": http_port, "grpc_port": grpc_port, "lame_duck_seconds": 0.0}
    settings = {**ports_only, **(options or {})}
    command = [sys.executable, "-m", __name__, str(pipe), json.dumps(settings), "--port=ours"]
    popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    started = Process(popen, http_port, grpc_port, pipe)
    threads = started.watch()
    try:
        yield started
    finally:
        popen.kill()
        popen.wait(DEADLINE_SECONDS)
        for thread in threads:
            thread.join(DEADLINE_SECONDS)


def say(word: str) -> None:
    """Tell the test something at once."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main(pipe: str, settings: str) -> None:
    """Serve until a signal."""
    from bundleserver.serving.options import ServerOptions
    from bundleserver.serving.server import BundleServer
    from tests.serving.fakes import FakeManager, FakeModel, FakeVersion, sums

    def slow(inputs, parameters):
        say("entered")
        Path(pipe).read_text()
        return sums(inputs, parameters)

    class Manager(FakeManager):
        def close(self) -> None:
            super().close()
            say("closed")

    manager = Manager(FakeModel("sums"), FakeModel("slow", (FakeVersion("1", slow),)))
    BundleServer(manager, ServerOptions(**json.loads(settings))).run()


if __name__ == "__main__":
    # kserve would end the process here if it saw this process's own '--port'.
    main(*sys.argv[1:3])
