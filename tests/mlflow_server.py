"""A real MLflow server for tests, a TCP proxy that spoils its answers, and bundles to register."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import requests

from bundleserver import BundleStore

DEADLINE_SECONDS = 120.0
TICK_SECONDS = 0.1


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def wait_until(question, deadline_seconds: float = DEADLINE_SECONDS):
    """Ask until the answer is true, and return it; the event never comes, so waiting is a gate."""
    never = threading.Event()
    for _ in range(int(deadline_seconds / TICK_SECONDS)):
        if answer := question():
            return answer
        never.wait(TICK_SECONDS)
    raise AssertionError("it did not come true in time")


@dataclass
class MlflowServer:
    """One registry with its artifacts behind its own proxy; may be killed and started again."""

    directory: Path
    port: int = field(default_factory=free_port)
    popen: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.launch()
        wait_until(self.answers)

    def launch(self) -> None:
        """Start the process, which answers later."""
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.directory}/registry.db"]
        command += ["--artifacts-destination", str(self.directory / "artifacts")]
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "PATH": os.environ["PATH"], "HOME": "/tmp"}  # noqa: S108
        # A registry needs none of the eight processes that run jobs.
        quiet["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
        with (self.directory / "server.log").open("ab") as log:
            self.popen = subprocess.Popen(
                command, stdout=log, stderr=log, env=quiet, start_new_session=True
            )

    def answers(self) -> bool:
        with suppress(requests.RequestException):
            return requests.get(f"{self.uri}/health", timeout=5).ok
        return False

    def kill(self) -> None:
        if self.popen is not None:
            os.killpg(self.popen.pid, 9)
            self.popen.wait(DEADLINE_SECONDS)
            self.popen = None

    def client(self):
        import mlflow

        return mlflow.MlflowClient(self.uri, self.uri)


class Proxy:
    """Stands before a server; ``mode`` says what becomes of what passes.

    ``pass`` lets everything through, ``stall`` answers nothing, ``cut`` ends each answer after
    ``cut_after`` bytes, ``refuse`` does not listen.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.port = free_port()
        self.mode = "pass"
        self.cut_after = 2000
        self.connections = 0
        self._listener: socket.socket | None = None
        self._open: list[socket.socket] = []
        self._listen()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def set(self, mode: str) -> None:
        """Change what becomes of connections; those that are open end."""
        self.mode = mode
        self._hang_up()
        if mode == "refuse":
            self._close_listener()
        elif self._listener is None:
            self._listen()

    def close(self) -> None:
        self.mode = "refuse"
        self._close_listener()
        self._hang_up()

    def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _close_listener(self) -> None:
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def _hang_up(self) -> None:
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._open.clear()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                self.connections += 1
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self.mode == "stall":
            return
        with suppress(OSError, ValueError), client:
            server = socket.create_connection(("127.0.0.1", self.target))
            self._open.append(server)
            with server:
                self._carry(client, server)

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        answered = 0
        while True:
            ready, _, _ = select.select([client, server], [], [], DEADLINE_SECONDS)
            for side in ready:
                data = side.recv(65536)
                if not data:
                    return
                if side is server:
                    answered += len(data)
                    if self.mode == "cut" and answered > self.cut_after:
                        client.sendall(data[: max(0, len(data) - (answered - self.cut_after))])
                        return
                (server if side is client else client).sendall(data)


@contextmanager
def answering(answers: Mapping[str, tuple[int, str, bytes]]) -> Iterator[str]:
    """Run a server of fixed answers, by the end of the path; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            found = next((a for end, a in answers.items() if path.endswith(end)), None)
            status, kind, body = found or (404, "text/plain", b"no such page")
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(DEADLINE_SECONDS)


def make_bundle(root: Path, factor: float, rows: int = 3) -> Path:
    """Save a bundle that answers ``factor`` times the sum of its row of two; returns where."""
    from sklearn.linear_model import LinearRegression

    table = np.arange(2.0 * rows).reshape(rows, 2)
    model = LinearRegression().fit(table, factor * table.sum(axis=1))
    store = BundleStore(root)
    version = store.save("sums", model, examples=table, metrics={"factor": factor})
    return store.path("sums", version)
