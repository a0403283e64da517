"""The servers of the benchmarks as processes: started, waited for, weighed and ended."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

import grpc
import psutil
from grpc_load import METHOD as GRPC_METHOD
from grpc_load import OPTIONS as GRPC_OPTIONS
from models import Site
from questions import Question

HERE = Path(__file__).parent
HOST = "127.0.0.1"
ANSWERS_WITHIN_SECONDS = 120.0
STOPPED_WITHIN_SECONDS = 30.0
_MIB = 2**20

MLSERVER = "1.7.1"
MLSERVER_PACKAGES = ("mlserver", "mlserver-xgboost", "mlserver-lightgbm")


class ServerFailed(Exception):
    """The server ended by itself, or does not answer."""


class Server:
    """One server process; as a context manager it ends with its block."""

    def __init__(self, name: str, site: Site, python: str, flags: Sequence[str] = ()) -> None:
        self.name = name
        self.port, self.grpc_port = free_ports(2)
        self.grpc_address = f"{HOST}:{self.grpc_port}"
        self.log = site.root / f"{name}.log"
        self._command = [python, *_arguments(name, site, self.port, self.grpc_port), *flags]

    def __enter__(self) -> Server:
        # One thread for each library, in all servers alike; the servers' own settings come on top.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        if self.name == "mlserver":
            environment["PYTHONPATH"] = str(HERE / "rivals")
        self._started = time.perf_counter()
        with self.log.open("w") as log:
            self._process = subprocess.Popen(  # the command is our own
                self._command, stdout=log, stderr=subprocess.STDOUT, env=environment
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ask the server to end; insist when it does not."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOPPED_WITHIN_SECONDS)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """The process that was started."""
        return self._process.pid

    def wait_for_answer(self, asked: Question) -> float:
        """Return how many seconds after its start the server gave its first answer.

        Raises:
            ServerFailed: it has ended, or does not answer in time.
        """
        while time.perf_counter() < self._started + ANSWERS_WITHIN_SECONDS:
            if self._process.poll() is not None:
                raise ServerFailed(f"{self.name} ended: {self._process.returncode}; see {self.log}")
            try:
                self.ask(asked)
                return time.perf_counter() - self._started
            except (OSError, http.client.HTTPException, ServerFailed):
                time.sleep(0.01)
        raise ServerFailed(f"{self.name} does not answer; see {self.log}")

    def ask(self, asked: Question) -> tuple[bytes, str | None]:
        """Return the body that answers a question, and the length of its JSON part if told.

        Raises:
            ServerFailed: the answer is an error.
        """
        if not asked.path:
            return self._ask_grpc(asked), None
        with self.connection() as connection:
            return ask_over(connection, asked)

    def _ask_grpc(self, asked: Question) -> bytes:
        with grpc.insecure_channel(self.grpc_address, GRPC_OPTIONS) as channel:
            try:
                return bytes(channel.unary_unary(GRPC_METHOD)(asked.body, timeout=60))
            except grpc.RpcError as error:
                raise ServerFailed(f"{self.name} over gRPC: {error.details()}") from error

    @contextmanager
    def connection(self) -> Iterator[http.client.HTTPConnection]:
        """Lend a connection that is kept open between requests."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        try:
            yield connection
        finally:
            connection.close()

    def rss_mib(self) -> float:
        """Return the memory of the process and its children, in MiB."""
        process = psutil.Process(self.pid)
        family = [process, *process.children(recursive=True)]
        return sum(member.memory_info().rss for member in family) / _MIB


def ask_over(connection: http.client.HTTPConnection, asked: Question) -> tuple[bytes, str | None]:
    """Ask over an open connection; the same as ``Server.ask``.

    Raises:
        ServerFailed: the answer is an error.
    """
    connection.request("POST", asked.path, asked.body, asked.headers)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise ServerFailed(f"{asked.path}: {answer.status} {body[:300]!r}")
    return body, answer.headers.get("Inference-Header-Content-Length")


def fastapi_python(build: Path, constraints: Path) -> str:
    """Return the Python of an environment that holds what a service written by hand needs.

    The other two servers share the environment that runs the benchmarks, with the same versions.
    """
    home = build / "fastapi"
    python = home / "bin" / "python"
    if (home / ".installed").exists():
        return str(python)
    packages = ["fastapi", "uvicorn[standard]", "orjson", "scikit-learn", "joblib"]
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    subprocess.run([*install, "--constraint", str(constraints), *packages], check=True)
    (home / ".installed").touch()
    return str(python)


def mlserver_python(build: Path) -> str:
    """Return the Python of an environment with MLServer, and its runtimes for both boosters."""
    home = build / "mlserver"
    python = home / "bin" / "python"
    if (home / ".installed").exists():
        return str(python)
    runtimes = (f"{name}=={MLSERVER}" for name in MLSERVER_PACKAGES)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    # Its worker process does not start with a newer loop.
    subprocess.run([*install, *runtimes, "onnxruntime", "uvloop<0.22"], check=True)
    (home / ".installed").touch()
    return str(python)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [taken.getsockname()[1] for taken in sockets]


def _arguments(name: str, site: Site, port: int, grpc_port: int) -> list[str]:
    if name == "fastapi":
        script = [str(HERE / "rivals" / "fastapi_app.py"), "--model_dir", str(site.pickles)]
        return [*script, "--http_port", str(port)]
    if name == "mlserver":
        return _mlserver(site, port, grpc_port)
    ports = ["--http_port", str(port), "--grpc_port", str(grpc_port)]
    if name == "kserve":
        script = [str(HERE / "rivals" / "kserve_server.py"), "--model_dir", str(site.pickles)]
        return [*script, *ports]
    served = site.forecasters if name == "forecasters" else site.store
    return ["-m", "bundleserver", "serve", "--model_dir", str(served), *ports]


def _mlserver(site: Site, port: int, grpc_port: int) -> list[str]:
    """Write MLServer's settings: its own defaults, but for ports and what is logged."""
    (metrics_port,) = free_ports(1)
    settings = {"http_port": port, "grpc_port": grpc_port, "metrics_port": metrics_port}
    settings |= {"host": HOST, "debug": False}
    (site.mlserver / "settings.json").write_text(json.dumps(settings))
    return ["-c", "from mlserver.cli import main; main()", "start", str(site.mlserver)]
