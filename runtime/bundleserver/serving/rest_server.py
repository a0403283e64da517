"""uvicorn with our routes before kserve's own app, and without its own way with signals."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator

import uvicorn
from fastapi import FastAPI

from bundleserver.errors import ConfigError, Problem
from bundleserver.serving.http import AsgiApp
from bundleserver.serving.options import ServerOptions
from bundleserver.serving.sdk import ModelServer, kserve_rest

HOST = "0.0.0.0"  # noqa: S104  # as kserve: a container's probes and sidecars come from outside
_BACKLOG = 2048


class RestServer(kserve_rest._RefreshingServer):  # type: ignore[misc]  # kserve publishes no types
    """One uvicorn server that follows changed TLS certificates, as kserve's does."""

    def __init__(self, app: AsgiApp, options: ServerOptions, on_listening: Callable[[], None]):
        super().__init__(_uvicorn_config(app, options))
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self._on_listening()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to ``BundleServer``: uvicorn raises them again after a clean shutdown."""
        yield

    def begin_stop(self, grace_seconds: float) -> None:
        """Stop accepting, and give the requests in flight that long."""
        self.config.timeout_graceful_shutdown = grace_seconds
        self.should_exit = True


def listen(port: int) -> socket.socket:
    """Take a port on every IPv4 address; 0 takes a free one.

    Raises:
        ConfigError: the port is taken or not ours to take.
    """
    # asyncio sets TCP_NODELAY only where the protocol is named; without it answers wait 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        problem = Problem("--http_port", f"cannot listen on {HOST}:{port} for REST: {reason}")
        raise ConfigError("serve", [problem]) from error
    return listener


def kserve_app(server: ModelServer) -> AsgiApp:
    """Make the app that kserve's own server would serve."""
    app = FastAPI(
        title="bundleserver",
        docs_url="/docs" if server.enable_docs_url else None,
        redoc_url=None,
    )
    # As RESTServer.create_application() does to one app that all servers of a process share, but
    # without its middleware, which logs every request, and its word that nothing forecasts here.
    dataplane, extension = server.dataplane, server.model_repository_extension
    app.add_api_route("/", dataplane.live)
    app.add_api_route("/metrics", kserve_rest.metrics_handler, methods=["GET"])
    kserve_rest.register_v1_endpoints(app, dataplane, extension)
    kserve_rest.register_v2_endpoints(app, dataplane, extension)
    rest = kserve_rest.RESTServer(app, dataplane, extension, server.http_port)
    rest._add_exception_handlers(app)
    return app


def _uvicorn_config(app: AsgiApp, options: ServerOptions) -> uvicorn.Config:
    if options.access_log_format is not None:
        app = _with_access_log(app, options.access_log_format)
    config = uvicorn.Config(
        app,
        log_config=None,
        lifespan="off",
        access_log=options.access_log and options.access_log_format is None,
        timeout_keep_alive=options.timeout_keep_alive,
        ssl_certfile=options.ssl_certfile,
        ssl_keyfile=options.ssl_keyfile,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        files = f"{options.ssl_certfile} and {options.ssl_keyfile}"
        problem = Problem("--ssl_certfile", f"cannot use {files} for TLS: {error}")
        raise ConfigError("serve", [problem]) from error
    return config


def _with_access_log(app: AsgiApp, form: str) -> AsgiApp:
    """Write one line per request in a format of the user's, as kserve does."""
    try:
        from asgi_logger import (
            AccessLoggerMiddleware,
        )
    except ImportError as error:
        problem = Problem(
            "--access_log_format", "needs the package asgi-logger; install kserve[logging]"
        )
        raise ConfigError("serve", [problem]) from error
    wrapped: AsgiApp = AccessLoggerMiddleware(app, format=form)
    return wrapped
