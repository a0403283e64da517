"""A manager's model as KServe knows one: a ``kserve.Model`` that keeps no state of its own."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar

from bundleserver.errors import ModelNotFound, NotReady
from bundleserver.serving.codecs import v1
from bundleserver.serving.execution.answering import ServedModels
from bundleserver.serving.execution.limits import TIMEOUT_HEADER, deadline_of
from bundleserver.serving.execution.thread_pool import ThreadPool
from bundleserver.serving.kserve.sdk import InferRequest, InferResponse, Model
from bundleserver.serving.kserve.types import (
    decode_instances,
    decode_request,
    encode_response,
    raising_kserve_errors,
)
from bundleserver.serving.metadata import ready_version, tensor_types
from bundleserver.serving.metrics.requests import RequestMetrics
from bundleserver.serving.models import ServingManager
from bundleserver.serving.requests import PredictRequest, PredictResponse
from bundleserver.serving.traffic.routing_key import ROUTING_HEADER, routing_key
from bundleserver.tensors.signature import Signature

VERSION_HEADER = "X-Model-Version"

_ANSWERED: ContextVar[dict[str, str]] = ContextVar("answered")
"""The versions that answered while one request is being served, by model."""


class ManagedModel(Model):  # type: ignore[misc]  # kserve publishes no types
    """One model of a manager, with all its versions, for ``kserve.ModelServer``.

    ``ready`` stays True: kserve 0.21 registers only models that are ready when its server starts,
    and calls ``healthy`` from then on, which asks the manager.
    """

    def __init__(
        self,
        name: str,
        manager: ServingManager,
        pool: ThreadPool | None = None,
        metrics: RequestMetrics | None = None,
        served: ServedModels | None = None,
    ) -> None:
        self._manager = manager
        self._served = served or ServedModels(manager, pool, metrics)
        super().__init__(name)
        self.ready = True

    async def __call__(self, *request: object, **more: object) -> tuple[object, dict[str, str]]:
        """Answer as ``kserve.Model`` does, with the version in the response's headers.

        kserve's own response headers require a third argument of ``postprocess``, which not every
        subclass has.
        """
        answered: dict[str, str] = {}
        token = _ANSWERED.set(answered)
        try:
            response, headers = await super().__call__(*request, **more)
        finally:
            _ANSWERED.reset(token)
        if version := answered.get(self.name):
            headers.setdefault(VERSION_HEADER, version)
        return response, headers

    async def answer(self, request: PredictRequest, protocol: str | None = None) -> PredictResponse:
        """Answer a decoded request for this model, as ``ServedModels.answer`` does.

        Raises:
            BundleServerError: why it cannot be answered.
        """
        response = await self._served.answer(request, protocol)
        _ANSWERED.get({})[self.name] = response.version
        return response

    async def healthy(self) -> bool:
        """Ask whether the default version is ready."""
        return self._manager.is_ready(self.name)

    def load(self) -> bool:
        """Ask whether the default version is ready; loads nothing.

        kserve 0.21 calls this on the event loop, inside a request, when a model is unhealthy.
        """
        return self._manager.is_ready(self.name)

    def start(self) -> None:
        """Do nothing: the manager loads versions."""

    def stop(self) -> None:
        """Do nothing: the manager closes versions."""

    async def predict(
        self,
        payload: dict[str, object] | InferRequest,
        headers: Mapping[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> dict[str, object] | InferResponse:
        """Answer a request in KServe's own types, for an unmodified ``kserve.ModelServer``.

        Raises:
            kserve.errors.InvalidInput, ModelNotFound, ModelNotReady: our errors, converted.
        """
        with raising_kserve_errors(self.name):
            sent = headers or {}
            key = routing_key(sent.get(ROUTING_HEADER.lower()), ROUTING_HEADER)
            due = deadline_of(sent.get(TIMEOUT_HEADER.lower()))
            if isinstance(payload, InferRequest):
                protocol = "grpc" if payload.from_grpc else "v2"
                request = decode_request(self.name, payload)._replace(routing_key=key, deadline=due)
                return encode_response(await self.answer(request, protocol), payload)
            request = decode_instances(self.name, payload)._replace(routing_key=key, deadline=due)
            return v1.predictions(await self.answer(request))

    def get_input_types(self) -> list[dict[str, object]]:
        """Return the inputs of the default version; empty if none is ready or any are allowed."""
        return tensor_types(self._signature().inputs)

    def get_output_types(self) -> list[dict[str, object]]:
        """Return the outputs of the default version; empty if none is ready or any are allowed."""
        return tensor_types(self._signature().outputs)

    def _signature(self) -> Signature:
        try:
            version = ready_version(self._manager, self.name, None)
        except (ModelNotFound, NotReady):
            return Signature()
        return version.signature or Signature()
