"""Real processes: ``python -m bundleserver …`` that serves, and commands as a user types them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx

T = TypeVar("T")

DEADLINE_SECONDS = 90.0
"""How long a test waits for what must come; this machine may be busy."""

BUNDLESERVER = (sys.executable, "-m", "bundleserver")
HERE = Path(__file__).resolve().parent

_LISTENING = re.compile(r"serving REST on https?://\S+:(\d+)(?: and gRPC on \S+:(\d+))?")
_STEP = threading.Event()


def eventually(ask: Callable[[], T], what: str) -> T:
    """Ask again and again until the answer is true, and return it."""
    end = time.monotonic() + DEADLINE_SECONDS
    while not (answer := ask()):
        assert time.monotonic() < end, f"waited in vain until {what}"
        _STEP.wait(0.02)
    return answer


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment, with the classes of ``gated.py`` importable."""
    path = os.pathsep.join(filter(None, (str(HERE.parent.parent), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **more}


class Threads:
    """Threads that run while a block does; each ends once ``ends`` is set."""

    def __init__(self, *calls: Callable[[], None]) -> None:
        self.ends = threading.Event()
        self._threads = [threading.Thread(target=call) for call in calls]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ends.set()
        for thread in self._threads:
            thread.join(DEADLINE_SECONDS)


class ServerProcess:
    """A server in a process of its own, what it says, and where it listens."""

    def __init__(self, flags: tuple[str, ...]) -> None:
        self.popen = subprocess.Popen(
            [*BUNDLESERVER, *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
        )
        self.lines: list[str] = []
        self.http_port = self.grpc_port = 0
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.client = httpx.Client(timeout=DEADLINE_SECONDS)

    @property
    def rest(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def log(self) -> str:
        return "".join(self.lines)

    def wait_for_line(self, text: str, after: int = 0) -> str:
        """Wait until a line with this text is logged, and return it."""

        def found() -> str | None:
            return next((line for line in self.lines[after:] if text in line), None)

        with self._news:
            over = self._news.wait_for(
                lambda: found() or self.popen.poll() is not None, DEADLINE_SECONDS
            )
        line = found()
        assert line, f"no line with {text!r} ({'ended' if over else 'too late'}):\n{self.log}"
        return line

    def wait_until_listening(self) -> None:
        found = _LISTENING.search(self.wait_for_line("serving REST"))
        assert found
        self.http_port, self.grpc_port = int(found[1]), int(found[2] or 0)
        self.client.base_url = httpx.URL(self.rest)

    def get(self, path: str, **more: object) -> httpx.Response:
        return self.client.get(path, **more)

    def post(self, path: str, **more: object) -> httpx.Response:
        return self.client.post(path, **more)

    def predict(self, model: str, body: object, version: str | None = None) -> httpx.Response:
        """Ask with V1."""
        place = f"/versions/{version}" if version else ""
        return self.post(f"/v1/models/{model}{place}:predict", json=body)

    def infer(
        self, model: str, *inputs: object, version: str | None = None, **more: object
    ) -> httpx.Response:
        """Ask with V2."""
        place = f"/versions/{version}" if version else ""
        return self.post(f"/v2/models/{model}{place}/infer", json={"inputs": inputs, **more})

    def is_ready(self, model: str, version: str | None = None) -> bool:
        place = f"/versions/{version}" if version else ""
        return self.get(f"/v2/models/{model}{place}/ready").status_code == 200

    def wait_until_ready(self, model: str, version: str | None = None) -> None:
        eventually(lambda: self.is_ready(model, version), f"{model} {version} is ready")

    def index(self, model: str) -> dict[str, dict[str, str]]:
        """Return what the repository's index says of a model's versions."""
        entries = self.post("/v2/repository/index").json()
        return {entry.get("version", ""): entry for entry in entries if entry["name"] == model}

    def reason(self, model: str) -> str:
        """Return why a model does not answer, as its ready route says it."""
        answer = self.get(f"/v2/models/{model}/ready")
        return "" if answer.status_code == 200 else answer.json()["error"]

    def wait_for_reason(self, model: str, text: str) -> str:
        """Wait until a model does not answer for this reason, and return the whole sentence."""
        return eventually(
            lambda: (said := self.reason(model)) and text in said and said,
            f"{model} is not ready because of {text!r}; it says {self.reason(model)!r}",
        )

    def send(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def exit_code(self) -> int:
        return self.popen.wait(DEADLINE_SECONDS)

    def kill(self) -> None:
        """End it if it has not ended yet, and read the rest of what it says."""
        self.client.close()
        self.popen.kill()
        self.popen.wait(DEADLINE_SECONDS)
        self._reader.join(DEADLINE_SECONDS)

    def _read(self) -> None:
        for line in self.popen.stdout or ():
            with self._news:
                self.lines.append(line)
                self._news.notify_all()
        with self._news:
            self._news.notify_all()


@contextmanager
def running(
    directory: Path | str, name: str | None = None, **flags: object
) -> Iterator[ServerProcess]:
    """Serve a directory on free ports while the block runs; keywords are flags."""
    given = {
        "http_port": 0,
        "grpc_port": 0,
        "poll_interval_seconds": 0.1,
        "model_dir": directory,
        **({"model_name": name} if name else {}),
        **flags,
    }
    server = ServerProcess(tuple(f"--{flag}={value}" for flag, value in given.items()))
    try:
        server.wait_until_listening()
        yield server
    finally:
        server.kill()


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> object:
        return json.loads(self.out)


def command(
    *words: object, stdin: str | None = None, variables: Mapping[str, str] | None = None
) -> Ended:
    """Run ``bundleserver WORDS`` to its end."""
    ended = subprocess.run(
        [*BUNDLESERVER, *map(str, words)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        env=environment(COLUMNS="100", **(variables or {})),
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def run_client(script: str, *words: object) -> dict[str, object]:
    """Run a script of ``clients/`` in a process of its own and return what it printed as JSON."""
    path = HERE / "clients" / script
    ended = subprocess.run(
        [sys.executable, str(path), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)
