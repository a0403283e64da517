"""The RPCs of the V2 service: each from message to message, raising our errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

from google.protobuf.message import DecodeError, Message

from bundleserver.errors import InvalidInput, NotReady
from bundleserver.serving import metadata as describe
from bundleserver.serving.codecs import json_body
from bundleserver.serving.execution.answering import ServedModels
from bundleserver.serving.grpc import codec as grpc_codec
from bundleserver.serving.grpc import open_inference as messages
from bundleserver.serving.metadata import EXTENSIONS, tensor_types
from bundleserver.serving.models import ServingManager
from bundleserver.tensors import TensorSpec
from bundleserver.tensors.signature import Signature

Rpc = Callable[[Message], Awaitable[Message]]


class InferenceService:
    """Answers the V2 service's RPCs from the models served and their manager. On the event loop."""

    def __init__(
        self,
        served: ServedModels,
        manager: ServingManager,
        name: str,
        version: str,
        index: describe.Index | None = None,
    ) -> None:
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
            "ModelInfer": self._model_infer,
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
    ) -> bytes:
        """Answer one serialized request, with its routing key and its deadline.

        Raises:
            BundleServerError: why it cannot be answered, such as a body that cannot be decoded.
        """
        request_class, _ = messages.METHODS[rpc]
        try:
            request = request_class.FromString(body)
        except DecodeError as error:
            raise InvalidInput(
                f"the request is not a valid {request_class.DESCRIPTOR.name}"
            ) from error
        if rpc == "ModelInfer":
            response = await self._model_infer(request, routing_key, deadline)
        else:
            response = await self.rpcs[rpc](request)
        serialized: bytes = response.SerializeToString()
        return serialized

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
        found = describe.ready_version(self._manager, request.name, request.version or None)
        status = self._manager.status(request.name)
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
            properties["traffic"] = traffic
        return messages.ModelMetadataResponse(
            name=about["name"],
            versions=about["versions"],
            platform=about["platform"],
            inputs=_tensors(signature.inputs),
            outputs=_tensors(signature.outputs),
            properties={key: _property(value) for key, value in properties.items()},
        )

    async def _model_infer(
        self, request: Message, routing_key: str | None = None, deadline: float | None = None
    ) -> Message:
        describe.check_known(self._manager, request.model_name)
        try:
            asked = grpc_codec.decode_request(request, routing_key)
        except InvalidInput as error:
            self._served.note_refusal(request.model_name, "grpc", error)
            raise
        if deadline is not None:
            asked = asked._replace(deadline=deadline)
        response = await self._served.answer(asked, "grpc")
        return grpc_codec.encode_response(response, grpc_codec.wants_raw(request))

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


def _tensors(specs: Iterable[TensorSpec]) -> list[Message]:
    return [messages.TensorMetadata(**described) for described in tensor_types(specs)]


def _property(value: object) -> str:
    return value if isinstance(value, str) else json_body.encode(value).decode()
