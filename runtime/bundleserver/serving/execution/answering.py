"""Requests to the models of a manager, answered: the single place where sync meets async."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from prometheus_client import CollectorRegistry

from bundleserver.errors import BundleServerError
from bundleserver.serving.execution.batching import MAX_BATCH_ROWS
from bundleserver.serving.execution.scheduling import Scheduler
from bundleserver.serving.execution.thread_pool import WorkerPool
from bundleserver.serving.metrics.collectors import RequestMetrics
from bundleserver.serving.requests import PredictRequest, PredictResponse
from bundleserver.serving.stopping import LendingManager
from bundleserver.serving.traffic.mirroring import Shadows
from bundleserver.serving.traffic.splitting import Splitter

T = TypeVar("T")

LOAD_TIMEOUT_SECONDS = 600.0
"""How long a load or unload that a client asked for may take before the client is told."""


async def in_thread(pool: Executor, call: Callable[[], T]) -> T:
    """Run a blocking call in a pool's thread while the event loop goes on.

    Cancelling the wait drops a call that has not started; one that runs goes on to its end.
    """
    return await asyncio.get_running_loop().run_in_executor(pool, call)


class ServedModels:
    """Every model of a manager, as requests know them: answered, loaded, unloaded.

    Called from the event loop only.
    """

    def __init__(
        self,
        manager: LendingManager,
        pool: WorkerPool | None = None,
        metrics: RequestMetrics | None = None,
        max_batch_rows: int = MAX_BATCH_ROWS,
    ) -> None:
        self._manager = manager
        self._pool = pool or WorkerPool()
        self._metrics = metrics or RequestMetrics(CollectorRegistry())
        self.splitter = Splitter(manager)
        self.shadows = Shadows(manager, self._pool, self.splitter.totals)
        self._scheduler = Scheduler(
            manager, self._pool, self.splitter, self._metrics, max_batch_rows
        )
        self._loaders = ThreadPoolExecutor(max_workers=4, thread_name_prefix="load")

    async def answer(self, request: PredictRequest, protocol: str | None = None) -> PredictResponse:
        """Answer a decoded request, holding a lease on the version meanwhile.

        Args:
            request: what was asked of a model that is known; others would be counted, too.
            protocol: how it came, for the metrics: ``v1``, ``v2`` or ``grpc``.

        Raises:
            BundleServerError: no model has that name, or whatever else keeps the request from
                being answered.
        """
        spoken = protocol or ("v2" if request.rows is None else "v1")
        with self._metrics.measure(request.model, spoken) as measured:
            answered = self._scheduler.answer(request, measured)
            response, copies = answered if isinstance(answered, tuple) else await answered
        for copy in copies:
            # Called when this task pauses next: when the answer is on its way.
            asyncio.get_running_loop().call_soon(self.shadows.offer, copy)
        return response

    def note_refusal(self, model: str, protocol: str, error: BundleServerError) -> None:
        """Count a request that does not come as far as ``answer``: it cannot be decoded."""
        self._metrics.refused(model, protocol, error)

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

    async def unload(
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
