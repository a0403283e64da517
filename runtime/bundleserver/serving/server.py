"""The server: REST and gRPC in one process, from listening to a clean exit."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY, CollectorRegistry, disable_created_metrics

from bundleserver.errors import ConfigError, Problem
from bundleserver.serving.addresses import EVERY, EVERY_IPV4, addresses_of, bracketed
from bundleserver.serving.administration import Administration
from bundleserver.serving.connection.server import RestServer, listening
from bundleserver.serving.edge import Edge
from bundleserver.serving.execution.answering import ServedModels, in_thread
from bundleserver.serving.execution.limits import Limits
from bundleserver.serving.execution.thread_pool import ThreadPool
from bundleserver.serving.grpc.server import GrpcServer
from bundleserver.serving.logs.config import set_up_logging
from bundleserver.serving.metrics.kserve import KServeMetrics, drop_unused_histograms
from bundleserver.serving.metrics.requests import RequestMetrics
from bundleserver.serving.metrics.traffic import TrafficCollector
from bundleserver.serving.metrics.versions import ManagerCollector
from bundleserver.serving.options import ServerOptions, lame_duck, rest_port
from bundleserver.serving.payload_log.logged_models import LoggedModels
from bundleserver.serving.payload_log.starting import make_log
from bundleserver.serving.stopping import SIGNALS, StoppableManager, end_now
from bundleserver.serving.tracing import set_up
from bundleserver.serving.workers.peers import Peers

if TYPE_CHECKING:
    from bundleserver.manager import Manager
    from bundleserver.serving.workers.member import Member

LOG = logging.getLogger(__name__)


class BundleServer:
    """Serves a manager's models over REST and gRPC until a signal or ``stop``.

    One of several worker processes listens once it has loaded the agreed versions.
    """

    def __init__(
        self,
        manager: Manager,
        options: ServerOptions | None = None,
        registry: CollectorRegistry = REGISTRY,
        member: Member | None = None,
        on_listening: Callable[[], None] = lambda: None,
        environ: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Prepare to serve; ``member`` connects one of several worker processes.

        ``environ`` has OpenTelemetry's variables.
        """
        self._on_listening = on_listening
        self.options = options = options or ServerOptions()
        set_up_logging(options)
        self._tracing = set_up(environ)
        self.peers = None if member is None else Peers(member, manager, registry)
        self.manager = StoppableManager(manager) if self.peers is None else self.peers.manager
        self.pool = ThreadPool(options.max_asyncio_workers, options.max_queue, options.workers)
        metrics = RequestMetrics(registry)
        limits = Limits(options.max_answer_values, options.request_timeout_seconds)
        self.log = make_log(options, self.manager, registry)
        parts = (self.manager, self.pool, metrics, options.max_batch_rows, limits)
        self.served = ServedModels(*parts) if self.log is None else LoggedModels(self.log, *parts)
        administration = Administration.of(options, registry)
        self.http_port, self.grpc_port = rest_port(options), options.grpc_port
        self.listening = threading.Event()
        drop_unused_histograms(registry)
        disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus-client
        registry.register(KServeMetrics(metrics))
        registry.register(ManagerCollector(manager, administration.discretion.status, metrics.keep))
        registry.register(TrafficCollector(self.manager, self.served.splitter))
        ends = (self.manager, self.served, self.peers, administration, registry, metrics)
        self._edge = Edge(options, *ends, self._tracing.tracer)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end = asyncio.Event()
        self._is_signalled, self._code = False, 0
        self._stop_by = math.inf

    @property
    def stopping(self) -> bool:
        """Whether the server is stopping: not ready, but requests in flight are answered."""
        return self.manager.stopping

    def run(self) -> None:
        """Serve until SIGTERM, SIGINT or SIGQUIT; return once all requests in flight are answered.

        A second signal, or the end of the grace period, exits the process immediately.

        Raises:
            SystemExit: a port or a TLS file cannot be used; it is logged.
        """
        try:
            _runner(self.options.event_loop)(self._run())
        except ConfigError as error:
            LOG.error("%s", error)
            raise SystemExit(1) from error

    def stop(self, sig: int = 0, code: int = 0) -> None:
        """Stop, from any thread; ``serve`` returns once all requests in flight are answered."""
        self.manager.stopping, self._code = True, code or self._code
        self._stop_by = min(self._stop_by, time.monotonic() + self.options.grace_period_seconds)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._end.set)

    async def serve(self) -> None:
        """Listen and answer until ``stop``; then answer requests in flight and close every bundle.

        ``listening``, ``http_port`` and ``grpc_port`` are set once both listen.

        Raises:
            ConfigError: a port or a TLS file cannot be used.
        """
        self._loop = asyncio.get_running_loop()
        if self.log is not None:
            self.log.start()
        if self.stopping:
            self._end.set()
        if self.peers is not None and not await self._may_listen(self.peers):
            await self._close_all()
            return
        rest = RestServer(self._edge.rest_app(), self.options, self._say_listening)
        addresses, shared = addresses_of(self.options.host, EVERY_IPV4), self.peers is not None
        with listening(self.http_port, addresses, shared=shared) as (self.http_port, listeners):
            grpc_server = await self._start_grpc() if self.options.enable_grpc else None
            serving = asyncio.create_task(rest.serve(sockets=listeners))
            try:
                ending = asyncio.create_task(self._end.wait())
                await asyncio.wait({serving, ending}, return_when=asyncio.FIRST_COMPLETED)
                ending.cancel()
            finally:
                await self._drain(rest, serving, grpc_server)

    async def _run(self) -> None:
        for number in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number)
        await self.serve()

    def _on_signal(self, number: signal.Signals) -> None:
        if self._is_signalled:
            end_now(1, f"{number.name} again: ending now; requests in flight are lost")
        self._is_signalled, grace = True, self.options.grace_period_seconds
        LOG.info(
            "%s: stopping; not ready, answers close their connections for %g s before new ones are "
            "refused; grace period %g s for requests in flight",
            number.name,
            lame_duck(self.options),
            grace,
        )
        deadline = threading.Timer(
            grace, end_now, (self._code, "the grace period is over; requests in flight are lost")
        )
        # A daemon runs even while the interpreter waits for other threads.
        deadline.daemon = True
        deadline.start()
        self.stop(number)

    async def _may_listen(self, peers: Peers) -> bool:
        """Wait until this worker process has joined; returns False if it stops."""
        joined, loop = asyncio.Event(), asyncio.get_running_loop()

        def join() -> None:
            loop.call_soon_threadsafe(joined.set)

        peers.start(join, self.stop)
        waits = {asyncio.create_task(event.wait()) for event in (joined, self._end)}
        _, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in pending:
            wait.cancel()
        return not self._end.is_set()

    async def _start_grpc(self) -> GrpcServer:
        server = self._edge.grpc_server()
        addresses = addresses_of(self.options.host, EVERY)
        self.grpc_port = await server.start(self.grpc_port, addresses)
        return server

    def _say_listening(self) -> None:
        scheme = "https" if self.options.ssl_certfile else "http"
        rest, grpc = (bracketed(self.options.host or one.host) for one in (EVERY_IPV4, EVERY))
        also = f" and gRPC on {grpc}:{self.grpc_port}" if self.options.enable_grpc else ""
        LOG.info("serving REST on %s://%s:%d%s", scheme, rest, self.http_port, also)
        self.listening.set()
        self._on_listening()
        if self.peers is not None:
            self.peers.say_listening()

    async def _drain(
        self, rest: RestServer, serving: asyncio.Task[None], grpc_server: GrpcServer | None
    ) -> None:
        """Tell clients, answer requests in flight, wait for the thread pool, close the bundles."""
        self.manager.stopping = True
        # The rest of the grace period is for closing the bundles.
        grace, telling = self.options.grace_period_seconds * 0.9, lame_duck(self.options)
        if telling and not serving.done():
            await rest.tell_clients(telling)
        grace -= telling
        rest.begin_stop(grace)
        try:
            await asyncio.gather(
                serving,
                grpc_server.stop(grace, tells=telling > 0) if grpc_server else asyncio.sleep(0),
            )
        finally:
            await self._close_all()

    async def _close_all(self) -> None:
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="close") as closer:
            await in_thread(closer, self._close)

    def _close(self) -> None:
        self.served.shadows.stop()
        self.pool.shutdown()
        if self.log is not None:
            self.log.stop(self._seconds_to_write())
        self.manager.close()
        self._tracing.close()
        LOG.info("stopped: every bundle is closed")

    def _seconds_to_write(self) -> float:
        """Return what is left of the grace period, but for a little to close the bundles in."""
        grace = self.options.grace_period_seconds
        left = min(self._stop_by - time.monotonic(), grace)
        return max(left - min(1.0, grace * 0.05), 0.0)


def _runner(event_loop: str) -> Callable[[Coroutine[object, object, None]], None]:
    """Return the function that runs a coroutine on the configured event loop."""
    if event_loop == "asyncio":
        return asyncio.run
    try:
        import uvloop
    except ImportError:
        if event_loop == "uvloop":
            problem = Problem("--event-loop", "requires the package uvloop, which is not installed")
            raise ConfigError("the server cannot start", [problem]) from None
        return asyncio.run
    return uvloop.run
