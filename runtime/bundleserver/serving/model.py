"""A model as KServe knows one: the single place where sync meets async."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from functools import partial
from typing import TypeVar

from prometheus_client import CollectorRegistry

from bundleserver.errors import ModelNotFound, NotReady
from bundleserver.serving import v1
from bundleserver.serving.describe import ready_version
from bundleserver.serving.kserve_types import (
    decode_instances,
    decode_request,
    encode_response,
    raising_kserve_errors,
    tensor_types,
)
from bundleserver.serving.metrics import RequestMetrics
from bundleserver.serving.requests import PredictRequest, PredictResponse
from bundleserver.serving.sdk import InferRequest, InferResponse, Model
from bundleserver.serving.shadowing import Shadows
from bundleserver.serving.splitting import Splitter
from bundleserver.serving.stopping import LendingManager
from bundleserver.serving.workers import WorkerPool
from bundleserver.signature import Signature

T = TypeVar("T")


async def in_thread(pool: Executor, call: Callable[[], T]) -> T:
    """Run a blocking call in a pool's thread while the event loop goes on.

    Cancelling the wait drops a call that has not started; one that runs goes on to its end.
    """
    return await asyncio.get_running_loop().run_in_executor(pool, call)


class BundleModel(Model):  # type: ignore[misc]  # kserve publishes no types
    """One model of a manager, all its versions, for any ``kserve.ModelServer`` and for our own.

    It holds no state of its own: whether it is ready is the manager's to say.
    """

    def __init__(
        self,
        name: str,
        manager: LendingManager,
        pool: WorkerPool | None = None,
        metrics: RequestMetrics | None = None,
        splitter: Splitter | None = None,
        shadows: Shadows | None = None,
    ) -> None:
        self._manager = manager
        self._pool = pool or WorkerPool()
        self._splitter = splitter or Splitter(manager)
        self._shadows = shadows or Shadows(manager, self._pool, self._splitter.totals)
        self._metrics = metrics or RequestMetrics(CollectorRegistry())
        super().__init__(name)

    async def answer(self, request: PredictRequest, protocol: str | None = None) -> PredictResponse:
        """Answer a decoded request in a worker thread, holding a lease on the version meanwhile.

        Args:
            request: what was asked; its model is this one.
            protocol: how it came, for the metrics: ``v1``, ``v2`` or ``grpc``.

        Raises:
            BundleServerError: whatever keeps the request from being answered.
        """
        spoken = protocol or ("v2" if request.rows is None else "v1")
        with self._metrics.measure(self.name, spoken) as measured:
            # The lease is taken there because asyncio cancels the coroutine and not the thread.
            work = partial(self._splitter.answer, request, measured)
            response, copies = await in_thread(self._pool, work)
        for copy in copies:
            # Called when this task pauses next: when the answer is on its way.
            asyncio.get_running_loop().call_soon(self._shadows.offer, copy)
        return response

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
