"""The API documentation of KServe's own server."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from bundleserver.errors import Forbidden
from bundleserver.serving.execution.answering import LOAD_TIMEOUT_SECONDS, ServedModels
from bundleserver.serving.kserve.repository import BundleRepository
from bundleserver.serving.kserve.sdk import DataPlane, ModelRepositoryExtension, kserve_rest
from bundleserver.serving.models import ServingManager


def api_pages(manager: ServingManager, served: ServedModels, with_docs: bool) -> Any:
    """Make the app of kserve's own server, which documents its routes and changes nothing."""
    app = FastAPI(title="bundleserver", docs_url="/docs" if with_docs else None, redoc_url=None)
    repository = _DocumentedRepository(manager, served)
    dataplane, extension = DataPlane(repository), ModelRepositoryExtension(repository)
    kserve_rest.register_v1_endpoints(app, dataplane, extension)
    kserve_rest.register_v2_endpoints(app, dataplane, extension)
    return app


class _DocumentedRepository(BundleRepository):
    """A repository behind pages, whose routes pass by our administration, so that none changes."""

    async def load(
        self, name: str, version: str | None = None, timeout_seconds: float = LOAD_TIMEOUT_SECONDS
    ) -> bool:
        """Refuse it.

        Raises:
            Forbidden: always.
        """
        raise Forbidden("loading is not open to this kind of request; use /v2/repository")

    def unload(self, name: str) -> None:
        """Refuse it.

        Raises:
            Forbidden: always.
        """
        raise Forbidden("unloading is not open to this kind of request; use /v2/repository")
