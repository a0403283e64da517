"""The V2 protocol over gRPC, with the standard health and reflection services."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from functools import partial
from urllib.parse import unquote

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from bundleserver.errors import (
    BundleServerError,
    ConfigError,
    Problem,
    RequestTooSlow,
    TooManyBytes,
)
from bundleserver.serving.addresses import EVERY, Address
from bundleserver.serving.administration import Asked
from bundleserver.serving.errors import ErrorAnswer, NoteRefusal, answer_for
from bundleserver.serving.grpc import open_inference
from bundleserver.serving.grpc.arriving import ArrivingMessages
from bundleserver.serving.grpc.ending import end_call
from bundleserver.serving.grpc.goaway import leave
from bundleserver.serving.grpc.health import SERVICE_NAME, HealthService
from bundleserver.serving.grpc.limits import GrpcLimits
from bundleserver.serving.grpc.service import ADMINISTERED, UNKNOWN, InferenceService
from bundleserver.serving.grpc.traced import begin_call, ended, note_status
from bundleserver.serving.inflight import SMALL_BYTES, InflightBytes
from bundleserver.serving.models import ServingManager
from bundleserver.serving.options import MESSAGE_BYTES
from bundleserver.serving.tracing.tracer import Tracer
from bundleserver.serving.traffic.routing_key import ROUTING_HEADER, routing_key
from bundleserver.serving.unsent import RefusedAnswers
from bundleserver.spans import Span, inside

_TOO_SLOW = RequestTooSlow("the message has not arrived in time")
_METADATA_BYTES = 64 * 2**10

_MAX_PENDING = 16384
"""Calls that wait for the event loop to take them. Over gRPC's own default of 1000 it cancels calls
at random, of whichever connection; our queue has a limit and an answer that says so."""


class GrpcServer:
    """Listens on one port from ``start`` to ``stop``; lives on one event loop."""

    def __init__(
        self,
        service: InferenceService,
        manager: ServingManager,
        *,
        max_send_bytes: int = MESSAGE_BYTES,
        max_receive_bytes: int = MESSAGE_BYTES,
        max_concurrent_streams: int = 0,
        routing_header: str = ROUTING_HEADER,
        shared: bool = False,
        limits: GrpcLimits | None = None,
        bodies: InflightBytes | None = None,
        arriving: ArrivingMessages | None = None,
        answers: RefusedAnswers | None = None,
        tracer: Tracer | None = None,
        note_unread: NoteRefusal = lambda *_: None,
    ) -> None:
        self._service = service
        self._tracer, self._note_unread = tracer, note_unread
        self._arriving = arriving or ArrivingMessages()
        self._answers = answers or RefusedAnswers(0)
        self._routing_header = routing_header
        # gRPC's own word for no limit is -1.
        self._max_send_bytes = max_send_bytes or -1
        self._bodies = bodies or InflightBytes(0)
        self._health = HealthService(manager, service.discretion)
        self._port, self._answering = 0, asyncio.Event()
        self._answering.set()
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_send_message_length", self._max_send_bytes),
                ("grpc.max_receive_message_length", max_receive_bytes or -1),
                # A second server on the same port would silently get half of the calls, which is
                # intended only among worker processes.
                ("grpc.so_reuseport", int(shared)),
                # gRPC's default of 8 KiB would refuse a long key without naming it.
                ("grpc.max_metadata_size", _METADATA_BYTES),
                ("grpc.absolute_max_metadata_size", _METADATA_BYTES),
                ("grpc.server.max_pending_requests", _MAX_PENDING),
                ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING),
                *_limit_of_streams(max_concurrent_streams),
                *(limits or GrpcLimits()).channel_arguments(),
            ]
        )
        self._server.add_generic_rpc_handlers((self._inference_handlers(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (open_inference.SERVICE, SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server, pool=_reflected())

    async def start(self, port: int, addresses: Iterable[Address] = (EVERY,)) -> int:
        """Listen on one port of all addresses and return it; 0 selects a free one.

        Raises:
            ConfigError: the port is in use or not allowed.
        """
        for address in addresses:
            try:
                where = address.at(port)
                # It is a part of a URI, in which the mark of a zone has to be written so.
                port = self._server.add_insecure_port(where.replace("%", "%25"))
            except RuntimeError as error:
                what = f"cannot listen on {where} for gRPC: the port is in use or not allowed"
                raise ConfigError("serve", [Problem("--grpc_port", what)]) from error
        await self._server.start()
        self._port = port
        return port

    async def stop(self, grace_seconds: float, *, tells: bool = True) -> None:
        """Refuse new calls, and wait that long for those in flight.

        Args:
            grace_seconds: how long both take at most.
            tells: send the clients elsewhere before, so that no call is lost.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + grace_seconds
        self._health.stop()
        if tells:
            await leave(self._port, self._answering, grace_seconds)
        await self._server.stop(max(0.0, until - loop.time()))

    def _inference_handlers(self) -> grpc.GenericRpcHandler:
        # Bodies stay bytes here: grpc would answer INTERNAL for one that cannot be decoded.
        handlers = {
            # Read by us: gRPC would read from any number of calls at a time.
            rpc: grpc.stream_unary_rpc_method_handler(partial(self._call, rpc))
            for rpc in open_inference.METHODS
        }
        return grpc.method_handlers_generic_handler(open_inference.SERVICE, handlers)

    async def _call(self, rpc: str, _: object, context: grpc.aio.ServicerContext) -> bytes:
        if self._tracer is None:
            return await self._answer(rpc, context, None)
        trace = begin_call(self._tracer, rpc, context.invocation_metadata() or ())
        with ended(trace):
            return await self._answer(rpc, context, trace)

    async def _answer(
        self, rpc: str, context: grpc.aio.ServicerContext, trace: Span | None
    ) -> bytes:
        try:
            response = await self._respond(rpc, context, trace)
        except grpc.aio.AbortError:
            raise
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001  # a status
            with inside(trace):
                answer: ErrorAnswer | None = answer_for(self._service.told(rpc, error))
            if trace is not None and answer is not None:
                note_status(trace, error, answer)
        else:
            answer = None
        if answer is not None:
            # Not while it is handled: its frames have the message.
            await end_call(context, answer)
        if not self._answering.is_set():
            await self._answering.wait()
        if 0 <= self._max_send_bytes < len(response):
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"the response has {len(response)} bytes; expected at most "
                f"{self._max_send_bytes}; send fewer rows per request, or raise "
                "--grpc_max_send_message_length",
            )
        return response

    async def _respond(
        self, rpc: str, context: grpc.aio.ServicerContext, trace: Span | None
    ) -> bytes:
        try:
            body = await self._arriving.receive(context)
            key, deadline = self._key(rpc, context), _deadline(context)
        except (Exception, asyncio.CancelledError) as error:
            self._note(rpc, _TOO_SLOW if isinstance(error, grpc.aio.AbortError) else error)
            raise
        asked = _asked(context) if rpc in ADMINISTERED else UNKNOWN
        response = await self._counted(rpc, body, key, deadline, asked, trace)
        if len(response) > SMALL_BYTES:
            self._hold(len(response), context)
        return response

    def _note(self, rpc: str, error: BaseException) -> None:
        """Count a prediction that is refused before it is decoded."""
        if rpc == "ModelInfer":
            self._note_unread("grpc", error)

    def _hold(self, size: int, context: grpc.aio.ServicerContext) -> None:
        """Count an answer until its client has taken it."""
        try:
            self._answers.take(size)
        except TooManyBytes as error:
            # Its model has answered, but its client gets nothing of that.
            self._note("ModelInfer", error)
            raise
        context.add_done_callback(lambda _: self._answers.give_back(size))

    async def _counted(
        self,
        rpc: str,
        body: bytes,
        key: str | None,
        deadline: float | None,
        asked: Asked,
        trace: Span | None,
    ) -> bytes:
        size = len(body)
        if size <= SMALL_BYTES:
            return await self._service.call(rpc, body, key, deadline, asked, trace)
        try:
            self._bodies.take(size)
        except BundleServerError as error:
            self._note(rpc, error)
            raise
        try:
            return await self._service.call(rpc, body, key, deadline, asked, trace)
        finally:
            self._bodies.give_back(size)

    def _key(self, rpc: str, context: grpc.aio.ServicerContext) -> str | None:
        if rpc != "ModelInfer":
            return None
        wanted, key = self._routing_header.lower(), None
        for name, value in context.invocation_metadata() or ():
            if name == wanted and isinstance(value, str):
                key = value
        return routing_key(key, self._routing_header)


def _asked(context: grpc.aio.ServicerContext) -> Asked:
    """Return what a call shows of whoever makes it."""
    pairs = [
        (name.encode(), value.encode() if isinstance(value, str) else bytes(value))
        for name, value in context.invocation_metadata() or ()
    ]
    # As REST writes it: gRPC begins with the family.
    peer = unquote(context.peer())
    return Asked("grpc", peer.removeprefix("ipv4:").removeprefix("ipv6:"), pairs)


def _limit_of_streams(most: int) -> list[tuple[str, int]]:
    """Limit the calls of one connection, also those that it has reset and that are not over."""
    # Without it one connection that resets its calls fills the server with them.
    return [("grpc.max_concurrent_streams", most)] if most else []


def _deadline(context: grpc.aio.ServicerContext) -> float | None:
    left = context.time_remaining()
    return None if left is None else time.monotonic() + left


def _reflected() -> DescriptorPool:
    """Make the descriptor pool of the reflection service."""
    pool = DescriptorPool()
    for file in (open_inference.FILE, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        pool.AddSerializedFile(file.serialized_pb)
    return pool
