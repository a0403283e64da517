"""The API documentation of KServe's own server."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from bundleserver.serving.execution.answering import ServedModels
from bundleserver.serving.kserve.repository import BundleRepository
from bundleserver.serving.kserve.sdk import DataPlane, ModelRepositoryExtension, kserve_rest
from bundleserver.serving.models import ServingManager


def api_pages(manager: ServingManager, served: ServedModels, with_docs: bool) -> Any:
    """Make the app of kserve's own server, which documents its routes."""
    app = FastAPI(title="bundleserver", docs_url="/docs" if with_docs else None, redoc_url=None)
    repository = BundleRepository(manager, served)
    dataplane, extension = DataPlane(repository), ModelRepositoryExtension(repository)
    kserve_rest.register_v1_endpoints(app, dataplane, extension)
    kserve_rest.register_v2_endpoints(app, dataplane, extension)
    return app
