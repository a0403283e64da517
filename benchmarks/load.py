"""Load on a server for some seconds: wrk for REST, Python processes for gRPC."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from questions import Question
from servers import HERE, HOST, Server

LONGEST_SECONDS = 120.0
"""What a load may take on top of its own time before it counts as hung."""


class LoadFailed(Exception):
    """The load could not be put on a server."""


@dataclass(frozen=True)
class Load:
    """What came of a load; ``started`` is a time of ``perf_counter``, which all processes share."""

    started: float
    requests: int
    seconds: float
    failed: int
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        """Answers per second; failures are none."""
        return (self.requests - self.failed) / self.seconds


def put_load(server: Server, asked: Question, connections: int, seconds: float) -> Load:
    """Ask one question over a number of connections, each waiting for its answer before the next.

    Raises:
        LoadFailed: the client did not run.
    """
    with tempfile.NamedTemporaryFile(suffix=".body") as file:
        file.write(asked.body)
        file.flush()
        if asked.path:
            command = _wrk(server, asked, Path(file.name), connections, seconds)
        else:
            script = [sys.executable, str(HERE / "grpc_load.py"), server.grpc_address, file.name]
            command = [*script, f"--connections={connections}", f"--seconds={seconds}"]
        started = time.perf_counter()
        output = _run(command, seconds + LONGEST_SECONDS)
        return Load(**{"started": started, **json.loads(output.splitlines()[-1])})


def find_wrk() -> str:
    """Return where wrk is.

    Raises:
        LoadFailed: it is not installed; says how to get it.
    """
    found = shutil.which("wrk")
    if found is None:
        raise LoadFailed(
            "wrk is not installed; it is in the packages of most systems: apt-get install wrk, "
            "dnf install wrk, brew install wrk"
        )
    return found


def _wrk(
    server: Server, asked: Question, body: Path, connections: int, seconds: float
) -> list[str]:
    url = f"http://{HOST}:{server.port}{asked.path}"
    # One thread: it is enough for 50 000 requests a second, and leaves the cores to the servers.
    # wrk measures whole seconds only.
    how = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "60s"]
    headers = [part for pair in asked.headers.items() for part in pair]
    script = ["--script", str(HERE / "wrk" / "post.lua"), url, "--", str(body), *headers]
    return [find_wrk(), *how, *script]


def _run(command: list[str], timeout_seconds: float) -> str:
    """Run a client in a session of its own, so that all its processes can be ended together."""
    client = subprocess.Popen(  # the command is our own
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        output, errors = client.communicate(timeout=timeout_seconds)
    except BaseException:
        os.killpg(client.pid, signal.SIGKILL)
        client.wait()
        raise
    if client.returncode:
        raise LoadFailed(f"{command[0]} ended with {client.returncode}: {errors or output}")
    return output
