"""The RPCs of the V2 service: each from message to message, raising our errors."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from time import perf_counter
from types import MappingProxyType
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from bundleserver.errors import (
    BundleServerError,
    InvalidInput,
    NotReady,
    QueueFull,
    RequestTimedOut,
)
from bundleserver.serving import metadata as describe
from bundleserver.serving.administration import Administration, Asked
from bundleserver.serving.codecs import json_body
from bundleserver.serving.codecs.json_pieces import LARGE_BYTES
from bundleserver.serving.errors import NoteRefusal
from bundleserver.serving.execution.answering import ServedModels
from bundleserver.serving.execution.small_first import SmallFirst
from bundleserver.serving.execution.traced import MODEL
from bundleserver.serving.grpc import codec as grpc_codec
from bundleserver.serving.grpc import open_inference as messages
from bundleserver.serving.grpc.wire import check_values
from bundleserver.serving.metadata import EXTENSIONS, tensor_types
from bundleserver.serving.metrics.coding import Coding
from bundleserver.serving.models import ServingManager
from bundleserver.serving.requests import PredictRequest, PredictResponse
from bundleserver.spans import Span, timed
from bundleserver.tensors import TensorSpec
from bundleserver.tensors.budget import Budget
from bundleserver.tensors.signature import Signature

T = TypeVar("T")

Rpc = Callable[[Message], Awaitable[Message]]

_CHANGES = MappingProxyType({"RepositoryModelLoad": "load", "RepositoryModelUnload": "unload"})
ADMINISTERED = frozenset({"RepositoryIndex", *_CHANGES})
"""The RPCs that may be closed to whoever calls them."""
UNKNOWN = Asked("grpc", "an unknown address", None)
_LONGEST_LOGGED = 64 * 2**10
"""Bytes of a message that is read for the log before it is known whether it is admitted."""


class InferenceService:
    """Answers the V2 service's RPCs from the models served and their manager. On the event loop."""

    def __init__(
        self,
        served: ServedModels,
        manager: ServingManager,
        name: str,
        version: str,
        index: describe.Index | None = None,
        max_body_values: int = 0,
        administration: Administration | None = None,
        coding: Coding | None = None,
        note_unread: NoteRefusal = lambda *_: None,
    ) -> None:
        """Answer for a server of this name; messages have so many values, 0: any number.

        ``administration`` admits changes; None refuses all of them.
        """
        self._coding, self._note_unread = coding or Coding(), note_unread
        self._administration = administration or Administration()
        self.discretion = self._administration.discretion
        self._most_values = max_body_values
        # Very large ones one at a time: each may need many times its size in memory.
        self._large = SmallFirst(2, "large-message")
        self._index = index or describe.own_index(manager)
        self._served = served
        self._manager = manager
        self._name = name
        self._version = version
        self.rpcs: Mapping[str, Rpc] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "RepositoryIndex": self._repository_index,
            "RepositoryModelLoad": self._repository_model_load,
            "RepositoryModelUnload": self._repository_model_unload,
        }

    async def call(
        self,
        rpc: str,
        body: bytes,
        routing_key: str | None = None,
        deadline: float | None = None,
        caller: Asked = UNKNOWN,
        trace: Span | None = None,
    ) -> bytes:
        """Answer one serialized request, with its routing key, its deadline and its span.

        ``caller`` shows who sends it, which counts where not everybody may ask.

        Raises:
            BundleServerError: why it cannot be answered, such as a body that cannot be decoded.
        """
        is_large = len(body) > LARGE_BYTES
        budget = self._served.limits.budget(deadline) if is_large else None
        if rpc == "ModelInfer":
            decode = timed(trace, "decode", partial(self._decode_infer, body, routing_key, trace))
            try:
                asked, raw = await self._run(len(body), decode, budget)
            except (QueueFull, RequestTimedOut, CancelledError) as error:
                # It was not begun, or nobody waits for it.
                self._note_unread("grpc", error)
                raise
            if deadline is not None or budget is not None:
                began = None if budget is None else budget.began
                asked = asked._replace(deadline=deadline, began=began)
            if trace is not None:
                asked = asked.traced(trace)
            answered = await self._served.answer(asked, "grpc")
            encode = self._coding.encode(trace, asked.model, partial(_encoded, answered, raw))
            return await self._run(answered.size_bytes, encode, budget)
        if trace is not None and rpc in _CHANGES:
            trace.set(MODEL, self._named(rpc, body)[0])
        await self._admit(rpc, body, caller)
        request = await self._run(len(body), partial(self._parse, rpc, body), budget)
        response = await self.rpcs[rpc](request)
        serialized: bytes = response.SerializeToString()
        return serialized

    def told(self, rpc: str, error: BaseException) -> BaseException:
        """Return an error as the caller of an RPC may read it; those admitted may read all."""
        return error if rpc in ADMINISTERED else self.discretion.error(error)

    async def _admit(self, rpc: str, body: bytes, asked: Asked) -> None:
        """Let an administrator's RPC pass; all others do.

        Raises:
            Forbidden, Unauthenticated: it may not.
        """
        if rpc == "RepositoryIndex":
            await self._administration.admit_index(asked)
        elif rpc in _CHANGES:
            model, version = self._named(rpc, body)
            await self._administration.admit_change(_CHANGES[rpc], model, version, asked)

    def _named(self, rpc: str, body: bytes) -> tuple[str, str | None]:
        """Return which model and version a change is about, for the log; empty if it is no use."""
        with suppress(BundleServerError):
            if len(body) <= _LONGEST_LOGGED:
                request = self._parse(rpc, body)
                with suppress(BundleServerError):
                    return _model_of(request, _CHANGES[rpc])
                return request.model_name, request.model_version
        return "", None

    async def _run(self, size: int, call: Callable[[], T], budget: Budget | None) -> T:
        """Work on so many bytes; on many in a thread, so that others are answered meanwhile."""
        if size <= LARGE_BYTES:
            return call()
        return await self._large.run(size, call, budget or self._served.limits.budget())

    def _parse(self, rpc: str, body: bytes) -> Message:
        request_class, _ = messages.METHODS[rpc]
        check_values(body, request_class.DESCRIPTOR, self._most_values)
        try:
            request: Message = request_class.FromString(body)
        except DecodeError as error:
            raise InvalidInput(
                f"the request is not a valid {request_class.DESCRIPTOR.name}"
            ) from error
        return request

    def _decode_infer(
        self, body: bytes, routing_key: str | None, trace: Span | None
    ) -> tuple[PredictRequest, bool]:
        """Decode a request, and tell whether its answer is raw."""
        started = perf_counter()
        try:
            request = self._parse("ModelInfer", body)
            if trace is not None:
                # Also of a model that nobody knows.
                trace.set(MODEL, request.model_name)
            describe.check_known(self._manager, request.model_name)
        except Exception as error:
            self._note_unread("grpc", error)
            raise
        try:
            asked = grpc_codec.decode_request(request, routing_key, self._most_values)
        except Exception as error:
            self._served.note_refusal(request.model_name, "grpc", error)
            raise
        self._coding.decoded(asked.model, perf_counter() - started)
        return asked, grpc_codec.wants_raw(request)

    async def _server_live(self, _: Message) -> Message:
        return messages.ServerLiveResponse(live=True)

    async def _server_ready(self, _: Message) -> Message:
        return messages.ServerReadyResponse(ready=self._manager.is_server_ready())

    async def _model_ready(self, request: Message) -> Message:
        try:
            self._manager.check_ready(request.name, request.version or None)
        except NotReady:
            return messages.ModelReadyResponse(ready=False)
        return messages.ModelReadyResponse(ready=True)

    async def _server_metadata(self, _: Message) -> Message:
        return messages.ServerMetadataResponse(
            name=self._name, version=self._version, extensions=EXTENSIONS
        )

    async def _model_metadata(self, request: Message) -> Message:
        ready = describe.ready_version(self._manager, request.name, request.version or None)
        found = self.discretion.version(ready)
        status = self.discretion.status(self._manager.status(request.name))
        about = describe.model_metadata(status, found)
        signature = found.signature or Signature()
        properties = {
            "model_version": found.version,
            "default_version": about["default_version"],
            "labels": about["labels"],
            **found.metadata,
            "runs": self._served.runs(request.name, found.version),
            **describe.staleness(status),
        }
        if traffic := self._served.splitter.describe_traffic(request.name):
            properties["traffic"] = self.discretion.traffic(traffic)
        return messages.ModelMetadataResponse(
            name=about["name"],
            versions=about["versions"],
            platform=about["platform"],
            inputs=_tensors(signature.inputs),
            outputs=_tensors(signature.outputs),
            properties={key: _property(value) for key, value in properties.items()},
        )

    async def _repository_index(self, request: Message) -> Message:
        entries = await self._index(request.ready)
        return messages.RepositoryIndexResponse(
            models=[messages.ModelIndex(**entry) for entry in entries]
        )

    async def _repository_model_load(self, request: Message) -> Message:
        name, version = _model_of(request, "load")
        await self._served.load(name, version)
        return messages.RepositoryModelLoadResponse(model_name=name, isLoaded=True)

    async def _repository_model_unload(self, request: Message) -> Message:
        name, version = _model_of(request, "unload")
        await self._served.unload(name, version)
        return messages.RepositoryModelUnloadResponse(model_name=name, isUnloaded=True)


def _model_of(request: Message, verb: str) -> tuple[str, str | None]:
    """Return model and version, which KServe and Triton have in different fields."""
    parameters = grpc_codec.decode_parameters(request.parameters, "the request")
    describe.refuse_files(parameters, verb)
    version = request.model_version or str(parameters.get("version", ""))
    return request.model_name or request.repository_name, version or None


def _encoded(response: PredictResponse, raw: bool) -> bytes:
    serialized: bytes = grpc_codec.encode_response(response, raw).SerializeToString()
    return serialized


def _tensors(specs: Iterable[TensorSpec]) -> list[Message]:
    return [messages.TensorMetadata(**described) for described in tensor_types(specs)]


def _property(value: object) -> str:
    return value if isinstance(value, str) else json_body.encode(value).decode()
