"""The standard gRPC health service, answered from the manager's current state."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bundleserver.errors import ModelNotFound
from bundleserver.serving.administration import Discretion
from bundleserver.serving.errors import answer_for
from bundleserver.serving.grpc.ending import end_call
from bundleserver.serving.grpc.open_inference import SERVICE
from bundleserver.serving.models import ServingManager

SERVICE_NAME = "grpc.health.v1.Health"
WATCH_SECONDS = 0.5
"""How often a watched service is checked."""

_OVERALL = ("", SERVICE)

Response = health_pb2.HealthCheckResponse


class HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # grpc_health has no types
    """SERVING for the server (the empty name) or a model that is ready. On the event loop."""

    def __init__(self, manager: ServingManager, discretion: Discretion | None = None) -> None:
        """Answer from a manager; ``discretion`` shortens errors, None none of them."""
        self._manager = manager
        self._discretion = discretion or Discretion()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Send NOT_SERVING to every watching call, and end it."""
        self._stopping.set()

    async def Check(  # noqa: N802  # the protocol's spelling
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """Answer for one service; NOT_FOUND for an unknown model."""
        status = self._status(request.service)
        if status == Response.SERVICE_UNKNOWN:
            error = ModelNotFound(request.service, self._manager.models())
            await end_call(context, answer_for(self._discretion.error(error)))
        return Response(status=status)

    async def Watch(  # noqa: N802  # the protocol's spelling
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Answer immediately and after each change, until the server stops."""
        sent = None
        while True:
            # Asked first: while an answer is sent the server may begin to stop.
            is_last = self._stopping.is_set()
            status = self._status(request.service)
            if status != sent:
                sent = status
                yield Response(status=status)
            if is_last:
                return
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), WATCH_SECONDS)

    def _status(self, service: str) -> int:
        if self._stopping.is_set():
            return int(Response.NOT_SERVING)
        if service in _OVERALL:
            ready = self._manager.is_server_ready()
        elif service in self._manager.models():
            ready = self._manager.is_ready(service)
        else:
            return int(Response.SERVICE_UNKNOWN)
        return int(Response.SERVING if ready else Response.NOT_SERVING)
