"""What listens, put together: the REST application and the gRPC server over the same models."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

import bundleserver
from bundleserver.serving.administration import Administration
from bundleserver.serving.execution.answering import ServedModels
from bundleserver.serving.grpc.arriving import ArrivingMessages
from bundleserver.serving.grpc.limits import GrpcLimits
from bundleserver.serving.grpc.server import GrpcServer
from bundleserver.serving.grpc.service import InferenceService
from bundleserver.serving.inflight import InflightBytes
from bundleserver.serving.metrics.coding import Coding
from bundleserver.serving.metrics.kserve import drop_unused_histograms
from bundleserver.serving.metrics.requests import RequestMetrics
from bundleserver.serving.options import ServerOptions
from bundleserver.serving.page.front import PageFront
from bundleserver.serving.page.history import History, Row
from bundleserver.serving.rest.app import RestApp
from bundleserver.serving.rest.asgi import AsgiApp
from bundleserver.serving.rest.pages import KServeApp, metrics_page
from bundleserver.serving.rest.repository import RepositoryRoutes
from bundleserver.serving.rest.routes import Routes
from bundleserver.serving.stopping import StoppableManager
from bundleserver.serving.tracing.tracer import Tracer
from bundleserver.serving.unsent import RefusedAnswers
from bundleserver.serving.workers.peers import Peers

if TYPE_CHECKING:
    from bundleserver.serving.page.pages import Pages

NAME = "bundleserver"


@dataclass(frozen=True)
class Edge:
    """Makes the two ends that clients talk to.

    ``peers`` is None unless this is one of several worker processes.
    """

    options: ServerOptions
    manager: StoppableManager
    served: ServedModels
    peers: Peers | None
    administration: Administration
    registry: CollectorRegistry
    metrics: RequestMetrics
    tracer: Tracer | None = None
    bodies: InflightBytes = field(init=False)
    history: History = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bodies", InflightBytes(self.options.max_inflight_bytes))
        object.__setattr__(self, "history", History(self.metrics))
        if self.peers is not None:
            self.peers.tell_history(self.history.rows)

    def rest_app(self) -> RestApp:
        """Make the REST application."""
        index = None if self.peers is None else self.peers.index
        page = metrics_page(self.registry) if self.peers is None else self.peers.write_metrics
        routes = Routes(
            answer=self.served.answer,
            note_refusal=self.served.note_refusal,
            note_unread=self.metrics.refusals.note,
            manager=self.manager,
            server_name=NAME,
            server_version=bundleserver.__version__,
            routing_header=self.options.routing_header,
            traffic=self.served.splitter.describe_traffic,
            runs=self.served.runs,
            repository=RepositoryRoutes(
                self.manager, self.administration, index=index, limits=self.served.limits
            ),
            limits=self.served.limits,
            tracer=self.tracer,
            coding=Coding(self.metrics),
        )
        return RestApp(
            routes,
            self._behind_routes(KServeApp(page, self._api_pages)),
            max_request_bytes=self.options.max_request_bytes or sys.maxsize,
            timeout_receive=self.options.timeout_receive,
            max_body_values=self.options.max_body_values,
            bodies=self.bodies,
            note_unread=self.metrics.refusals.note,
        )

    def grpc_server(self) -> GrpcServer:
        """Make the gRPC server, which does not listen yet."""
        options = self.options
        service = InferenceService(
            self.served,
            self.manager,
            NAME,
            bundleserver.__version__,
            index=None if self.peers is None else self.peers.index,
            max_body_values=options.max_body_values,
            administration=self.administration,
            coding=Coding(self.metrics),
            note_unread=self.metrics.refusals.note,
        )
        return GrpcServer(
            service,
            self.manager,
            max_send_bytes=options.grpc_max_send_message_length,
            max_receive_bytes=options.grpc_max_receive_message_length,
            max_concurrent_streams=options.grpc_max_concurrent_streams,
            limits=GrpcLimits.of(options),
            bodies=self.bodies,
            arriving=ArrivingMessages(
                options.max_inflight_bytes // 2,
                options.grpc_max_receive_message_length,
                options.timeout_receive,
            ),
            answers=RefusedAnswers(options.max_inflight_bytes // 2),
            routing_header=options.routing_header,
            tracer=self.tracer,
            shared=self.peers is not None,
            note_unread=self.metrics.refusals.note,
        )

    def _behind_routes(self, app: AsgiApp) -> AsgiApp:
        if not self.options.enable_page:
            return app
        self.history.start()
        return PageFront(app, self._pages)

    def _pages(self) -> Pages:
        from bundleserver.serving.page.pages import Pages

        async def own_rows(models: Collection[str]) -> list[Row]:
            return await asyncio.to_thread(self.history.rows, models)

        rows = own_rows if self.peers is None else self.peers.history
        describe = self.served.splitter.describe_traffic
        return Pages(self.manager, describe, rows, self.administration)

    def _api_pages(self) -> AsgiApp:
        # Importing kserve takes a second and 50 MiB, and nothing else requires it.
        from bundleserver.serving.kserve.pages import api_pages

        pages: AsgiApp = api_pages(self.manager, self.served, self.options.enable_docs_url)
        drop_unused_histograms(self.registry)
        return pages
