"""bundleserver as a process of its own: started, waited for, and ended."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import httpx

HOST = "127.0.0.1"
"""Nobody but this machine reaches the demo."""
READY_WITHIN_SECONDS = 120.0
# More than the grace period that the server gives to requests in flight.
STOPPED_WITHIN_SECONDS = 30.0
LAST_LINES = 25


class ServerFailed(Exception):
    """The server ended by itself, or did not become ready."""


class LocalServer:
    """One server for all models of a directory; as a context manager it ends with its block."""

    def __init__(self, model_dir: Path, log: Path, http_port: int, grpc_port: int) -> None:
        self.url = f"http://{HOST}:{http_port}"
        self.grpc_address = f"{HOST}:{grpc_port}"
        self.command = [
            *(sys.executable, "-m", "bundleserver", "serve"),
            *("--model_dir", str(model_dir), "--host", HOST),
            *("--http_port", str(http_port), "--grpc_port", str(grpc_port)),
            # Ready is only when every model answers, and a new version is seen within a second.
            *("--strict_readiness", "true", "--poll_interval_seconds", "1"),
            *("--enable_page", "true"),
        ]
        self.log = log

    def __enter__(self) -> LocalServer:
        with self.log.open("w") as log:
            # In a session of its own, so that Ctrl-C reaches the demo alone, which then stops it.
            self._process = subprocess.Popen(  # noqa: S603  # the command is our own
                self.command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ask the server to answer what is in flight and to end; insist when it does not."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOPPED_WITHIN_SECONDS)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._process.kill()
            self._process.wait()

    def wait_until_ready(self) -> float:
        """Return once every model answers; return how many seconds that took.

        Raises:
            ServerFailed: it has ended, or is not ready in time.
        """
        started = time.monotonic()
        while time.monotonic() < started + READY_WITHIN_SECONDS:
            if self._process.poll() is not None:
                raise ServerFailed(f"the server ended with exit code {self._process.returncode}")
            if self._is_ready():
                return time.monotonic() - started
            time.sleep(0.2)
        raise ServerFailed(f"the server is not ready after {READY_WITHIN_SECONDS:g} s")

    def wait_until_it_ends(self) -> NoReturn:
        """Wait for as long as the server serves.

        Raises:
            ServerFailed: it has ended by itself.
        """
        code = self._process.wait()
        raise ServerFailed(f"the server ended with exit code {code}")

    def last_lines(self) -> list[str]:
        """Return the end of the server's log."""
        return self.log.read_text(errors="replace").splitlines()[-LAST_LINES:]

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/v2/health/ready", timeout=5).is_success
        except httpx.TransportError:
            return False


def free_ports(*wanted: int) -> list[int]:
    """Return the wanted ports, and in place of each that is taken another one that is free."""
    with ExitStack() as held:
        return [held.enter_context(_listen(port)).getsockname()[1] for port in wanted]


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except OSError:
        return socket.create_server((HOST, 0))
