"""The models as ``kserve.ModelServer`` asks for them: a view of the manager, nothing kept twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from bundleserver.errors import ModelNotFound
from bundleserver.serving.metrics import RequestMetrics
from bundleserver.serving.model import BundleModel, in_thread
from bundleserver.serving.requests import PredictRequest, PredictResponse
from bundleserver.serving.sdk import ModelRepository
from bundleserver.serving.shadowing import Shadows
from bundleserver.serving.splitting import Splitter
from bundleserver.serving.stopping import LendingManager
from bundleserver.serving.workers import WorkerPool

LOAD_TIMEOUT_SECONDS = 600.0
"""How long a load or unload that a client asked for may take before the client is told."""

_BLOCKING_SECONDS = 20.0
"""How long kserve's own server may be kept from everything else while it unloads a model."""


class BundleRepository(ModelRepository):  # type: ignore[misc]  # kserve publishes no types
    """Every model of a manager, each as one ``BundleModel`` made when it is first asked for.

    Called from the event loop only.
    """

    def __init__(
        self,
        manager: LendingManager,
        pool: WorkerPool | None = None,
        metrics: RequestMetrics | None = None,
    ) -> None:
        super().__init__()
        self._manager = manager
        self._pool = pool or WorkerPool()
        self._metrics = metrics
        self.splitter = Splitter(manager)
        self.shadows = Shadows(manager, self._pool, self.splitter.totals)
        self._loaders = ThreadPoolExecutor(max_workers=4, thread_name_prefix="load")

    def get_model(self, name: str) -> BundleModel | None:
        """Return the model of that name, the same object each time; None when none is served."""
        if name not in self._manager.models():
            return None
        if name not in self.models:
            self.update(
                BundleModel(
                    name, self._manager, self._pool, self._metrics, self.splitter, self.shadows
                )
            )
        model: BundleModel = self.models[name]
        return model

    def get_models(self) -> dict[str, BundleModel]:
        """Return every model that the manager knows now, ready or not."""
        found = {name: self.get_model(name) for name in self._manager.models()}
        return {name: model for name, model in found.items() if model is not None}

    async def is_model_ready(self, name: str) -> bool:
        """Say whether the model's default version answers; False for an unknown one."""
        model = self.get_model(name)
        return model is not None and model.ready

    async def answer(self, request: PredictRequest, protocol: str | None = None) -> PredictResponse:
        """Let the model that a request names answer it; ``protocol`` as in ``BundleModel.answer``.

        Raises:
            BundleServerError: no model has that name, or what ``BundleModel.answer`` raises.
        """
        model = self.get_model(request.model)
        if model is None:
            raise ModelNotFound(request.model, self._manager.models())
        return await model.answer(request, protocol)

    async def load(
        self, name: str, version: str | None = None, timeout_seconds: float = LOAD_TIMEOUT_SECONDS
    ) -> bool:
        """Load a model or one version of it, off the event loop, and wait until it answers.

        Raises:
            BundleServerError: why it does not answer.
        """
        await in_thread(
            self._loaders,
            partial(self._manager.load, name, version, timeout_seconds=timeout_seconds),
        )
        return True

    async def unload_version(
        self, name: str, version: str | None = None, timeout_seconds: float = LOAD_TIMEOUT_SECONDS
    ) -> None:
        """Unload a model or one version of it, off the event loop, and wait until it is gone.

        Raises:
            BundleServerError: why it is still there.
        """
        await in_thread(
            self._loaders,
            partial(self._manager.unload, name, version, timeout_seconds=timeout_seconds),
        )

    def unload(self, name: str) -> None:
        """Unload a model for an untouched ``kserve.ModelServer``, which waits for this call.

        Raises:
            KeyError: no model has that name; kserve makes a 404 of it.
        """
        try:
            self._manager.unload(name, timeout_seconds=_BLOCKING_SECONDS)
        except ModelNotFound as error:
            raise KeyError(str(error)) from error
