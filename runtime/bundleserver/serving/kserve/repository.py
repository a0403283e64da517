"""The models of the manager as a repository of ``kserve.ModelServer``."""

from __future__ import annotations

from bundleserver.errors import ModelNotFound
from bundleserver.serving.execution.answering import LOAD_TIMEOUT_SECONDS, ServedModels
from bundleserver.serving.kserve.model import ManagedModel
from bundleserver.serving.kserve.sdk import ModelRepository
from bundleserver.serving.models import ServingManager

_BLOCKING_SECONDS = 20.0
"""How long unloading a model may block kserve's own server."""


class BundleRepository(ModelRepository):  # type: ignore[misc]  # kserve publishes no types
    """Every model of a manager, each as one ``ManagedModel`` created at its first use.

    Called from the event loop only.
    """

    def __init__(self, manager: ServingManager, served: ServedModels | None = None) -> None:
        super().__init__()
        self._manager = manager
        self._served = served or ServedModels(manager)

    def get_model(self, name: str) -> ManagedModel | None:
        """Return the model of that name, the same object each time; None if it is unknown."""
        if name not in self._manager.models():
            return None
        if name not in self.models:
            self.update(ManagedModel(name, self._manager, served=self._served))
        model: ManagedModel = self.models[name]
        return model

    def get_models(self) -> dict[str, ManagedModel]:
        """Return every model of the manager, ready or not."""
        found = {name: self.get_model(name) for name in self._manager.models()}
        return {name: model for name, model in found.items() if model is not None}

    async def load(
        self, name: str, version: str | None = None, timeout_seconds: float = LOAD_TIMEOUT_SECONDS
    ) -> bool:
        """Load a model or one version of it, and wait until it is READY.

        Raises:
            BundleServerError: why it is not.
        """
        return await self._served.load(name, version, timeout_seconds)

    def unload(self, name: str) -> None:
        """Unload a model for an unmodified ``kserve.ModelServer``, which waits for this call.

        Raises:
            KeyError: the model is unknown; kserve responds with 404.
        """
        try:
            self._manager.unload(name, timeout_seconds=_BLOCKING_SECONDS)
        except ModelNotFound as error:
            raise KeyError(str(error)) from error
