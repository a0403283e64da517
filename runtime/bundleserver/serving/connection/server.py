"""uvicorn with our routes, without its own way with signals; changed TLS files are followed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import cast

import uvicorn

from bundleserver.errors import ConfigError, Problem
from bundleserver.serving.accepting import finish_accepting
from bundleserver.serving.addresses import EVERY_IPV4, Address, reusable_socket
from bundleserver.serving.connection.access_log import (
    format_problem,
    hide_secrets,
    with_access_log,
)
from bundleserver.serving.connection.ending import (
    Ending,
    EndingConnection,
    wait_for_silence,
)
from bundleserver.serving.connection.logged.forwarded import with_forwarded_client
from bundleserver.serving.connection.plain import watched
from bundleserver.serving.connection.protocols import (
    Find,
    eager_protocol,
    plain_protocol,
    why_plain,
)
from bundleserver.serving.options import ServerOptions
from bundleserver.serving.rest.app import RestApp
from bundleserver.serving.rest.asgi import AsgiApp
from bundleserver.serving.unsent import UnsentAnswers

LOG = logging.getLogger(__name__)

_BACKLOG = 2048

_YEARS_SECONDS = 100_000_000
"""uvicorn has no other way to keep an idle connection."""


class RestServer(uvicorn.Server):
    """One uvicorn server that follows changed TLS certificates, as kserve's does."""

    def __init__(self, app: RestApp, options: ServerOptions, on_listening: Callable[[], None]):
        self._ending = Ending()
        super().__init__(_uvicorn_config(app, options, self._ending))
        self._on_listening = on_listening
        self._lame_duck_seconds = 0.0
        self._until = 0.0
        # Those that were open when the server began to end.
        self._known: set[object] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self._on_listening()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to ``BundleServer``: uvicorn raises them again after a clean shutdown.

        uvicorn enters it for as long as it serves, so TLS files are followed here.
        """
        with _refreshed(self.config):
            yield

    async def tell_clients(self, seconds: float) -> None:
        """Close each connection with its next answer, for that long; new ones are still taken."""
        self._lame_duck_seconds = seconds
        self._ending.begun = True
        self._known = set(self.server_state.connections)
        for connection in self._open:
            connection.close_after_answers()
        await asyncio.sleep(seconds)

    def begin_stop(self, grace_seconds: float) -> None:
        """Stop accepting, and give the requests in flight that long."""
        self._until = asyncio.get_running_loop().time() + grace_seconds
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the listeners, then the connections that have been silent for a lame duck's time.

        Each of the others is closed after its answer.
        """
        if self._lame_duck_seconds:
            await finish_accepting(sockets or ())
            for closed in (*self.servers, *(sockets or ())):
                closed.close()
            await wait_for_silence(self._open, self._known, self._lame_duck_seconds)
        left = max(0.0, self._until - asyncio.get_running_loop().time())
        # Declared whole, and waited for by asyncio, which takes parts of a second too.
        self.config.timeout_graceful_shutdown = left  # type: ignore[assignment]
        await super().shutdown(sockets)

    @property
    def _open(self) -> set[EndingConnection]:
        # The same set throughout: connections come and go in it.
        return cast("set[EndingConnection]", self.server_state.connections)


def listen(port: int, address: Address = EVERY_IPV4, *, shared: bool = False) -> socket.socket:
    """Take a port on an address; 0 takes a free one. Worker processes share one.

    Raises:
        ConfigError: the port is taken or not ours to take.
    """
    listener = reusable_socket(address)
    try:
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address.socket_at(port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        what = f"cannot listen on {address.at(port)} for REST: {error.strerror or error}"
        raise ConfigError("serve", [Problem("--http_port", what)]) from error
    return listener


@contextlib.contextmanager
def listening(
    port: int, addresses: Iterable[Address], *, shared: bool = False
) -> Iterator[tuple[int, list[socket.socket]]]:
    """Listen on one port of all addresses while the block runs; yields the port and the sockets.

    Raises:
        ConfigError: as of ``listen``.
    """
    with contextlib.ExitStack() as stack:
        listeners: list[socket.socket] = []
        for address in addresses:
            listeners.append(stack.enter_context(listen(port, address, shared=shared)))
            port = listeners[0].getsockname()[1]
        yield port, listeners


@contextlib.contextmanager
def _refreshed(config: uvicorn.Config) -> Iterator[None]:
    """Use TLS files anew when they change; called on the event loop."""
    if config.ssl is None:
        yield
        return
    from bundleserver.serving.kserve.sdk import SSLCertRefresher

    refresher = SSLCertRefresher(
        ssl_context=config.ssl,
        key_path=str(config.ssl_keyfile),
        cert_path=str(config.ssl_certfile),
    )
    try:
        yield
    finally:
        refresher.stop()


def _uvicorn_config(rest: RestApp, options: ServerOptions, ending: Ending) -> uvicorn.Config:
    app: AsgiApp = rest
    is_logged, form = options.access_log, options.access_log_format
    if form is not None:
        if what := format_problem(form):
            raise ConfigError("serve", [Problem("--access_log_format", what)])
        app, is_logged = with_access_log(app, form), True
    hide_secrets(logging.getLogger("uvicorn.access"))
    timeout_receive, problem = options.timeout_receive, why_plain()
    max_head = options.max_head_bytes
    if problem is not None:
        LOG.warning("%s; requests take uvicorn's own way, which is slower", problem)
        app = watched(app, timeout_receive, ending, max_head)
    if is_logged:
        # Nothing but the logs asks who a client behind a proxy is.
        app = with_forwarded_client(app)
    # An access log has the requests that reach the application.
    find = _find_none if is_logged else rest.find
    config = uvicorn.Config(
        app,
        log_config=None,
        lifespan="off",
        http="h11" if problem else _eager(rest, options, find, ending),
        ws="none",
        # Its own takes any text for an address.
        proxy_headers=False,
        access_log=is_logged and form is None,
        h11_max_incomplete_event_size=max_head or sys.maxsize,
        timeout_keep_alive=options.timeout_keep_alive or _YEARS_SECONDS,
        ssl_certfile=options.ssl_certfile,
        ssl_keyfile=options.ssl_keyfile,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        files = f"{options.ssl_certfile} and {options.ssl_keyfile}"
        unusable = Problem("--ssl_certfile", f"cannot use {files} for TLS: {error}")
        raise ConfigError("serve", [unusable]) from error
    if problem is not None:
        config.http_protocol_class = plain_protocol(
            timeout_receive,
            config.http_protocol_class,
            timeout_send=options.timeout_send,
            max_head_bytes=max_head,
            answers=UnsentAnswers(options.max_inflight_bytes // 2),
            note_unread=rest.note_unread,
        )
    return config


def _eager(
    rest: RestApp, options: ServerOptions, find: Find, ending: Ending
) -> type[asyncio.Protocol]:
    return eager_protocol(
        options.timeout_receive,
        find,
        ending,
        timeout_send=options.timeout_send,
        max_head_bytes=options.max_head_bytes,
        bodies=rest.bodies,
        answers=UnsentAnswers(options.max_inflight_bytes // 2),
        note_unread=rest.note_unread,
    )


def _find_none(_method: bytes, _path: bytes) -> None:
    """Leave every request to the application."""
