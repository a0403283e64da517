"""A model as KServe knows one, for any ``kserve.ModelServer``."""

from __future__ import annotations

from collections.abc import Mapping

from bundleserver.errors import ModelNotFound, NotReady
from bundleserver.serving.codecs import v1
from bundleserver.serving.execution.answering import ServedModels
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
from bundleserver.tensors.signature import Signature


class BundleModel(Model):  # type: ignore[misc]  # kserve publishes no types
    """One model of a manager, all its versions, as ``kserve.ModelServer`` takes them.

    It holds no state of its own: whether it is ready is the manager's to say.
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

    async def answer(self, request: PredictRequest, protocol: str | None = None) -> PredictResponse:
        """Answer a decoded request for this model, as ``ServedModels.answer`` does.

        Raises:
            BundleServerError: whatever keeps the request from being answered.
        """
        return await self._served.answer(request, protocol)

    @property
    def ready(self) -> bool:
        """Whether the default version answers; kserve's own assignments to it have no effect."""
        return self._manager.is_ready(self.name)

    @ready.setter
    def ready(self, value: bool) -> None:
        # kserve 0.21 sets it True in start() whatever has been loaded.
        pass

    async def healthy(self) -> bool:
        """Say whether the default version answers."""
        return self.ready

    def load(self) -> bool:
        """Say whether the default version answers, and load nothing.

        kserve 0.21 calls this on the event loop, inside a request, when a model is unhealthy.
        """
        return self.ready

    def start(self) -> None:
        """Do nothing: the manager decides what is loaded."""

    def stop(self) -> None:
        """Do nothing: the manager closes what it opened."""

    async def predict(
        self,
        payload: dict[str, object] | InferRequest,
        headers: Mapping[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> dict[str, object] | InferResponse:
        """Answer a request in KServe's own types, for an untouched ``kserve.ModelServer``.

        Raises:
            kserve.errors.InvalidInput, ModelNotFound, ModelNotReady: as our errors translate.
        """
        with raising_kserve_errors(self.name):
            if isinstance(payload, InferRequest):
                protocol = "grpc" if payload.from_grpc else "v2"
                response = await self.answer(decode_request(self.name, payload), protocol)
                return encode_response(response, payload)
            return v1.predictions(await self.answer(decode_instances(self.name, payload)))

    def get_input_types(self) -> list[dict[str, object]]:
        """Return the inputs of the version that answers; none while none does or they are open."""
        return tensor_types(self._signature().inputs)

    def get_output_types(self) -> list[dict[str, object]]:
        """Return the outputs of the version that answers; none while none does or they are open."""
        return tensor_types(self._signature().outputs)

    def _signature(self) -> Signature:
        try:
            version = ready_version(self._manager, self.name, None)
        except (ModelNotFound, NotReady):
            return Signature()
        return version.signature or Signature()
