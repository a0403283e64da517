"""Where a request is answered: at once on the event loop, together with others, or in a thread.

Handing a call to a thread and back costs more than a cheap model does, so calls that were measured
to cost little run where they are. Only versions whose calls are steady do, and only with finite
numbers: what is odd may take another, slower way through a library.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bundleserver.errors import BundleServerError, NotReady, VersionNotFound
from bundleserver.serving.execution.batching import MAX_BATCH_ROWS, Batches
from bundleserver.serving.execution.costs import Costs, Size, VersionCosts, size_of
from bundleserver.serving.execution.cpus import limit_library_threads
from bundleserver.serving.execution.predict import bind
from bundleserver.serving.execution.thread_pool import WorkerPool
from bundleserver.serving.metrics.collectors import RequestMetrics
from bundleserver.serving.metrics.tallies import Measured
from bundleserver.serving.requests import PredictRequest
from bundleserver.serving.stopping import LendingManager
from bundleserver.serving.traffic.splitting import Answered, Route, Splitter
from bundleserver.tensors import Array

if TYPE_CHECKING:
    from bundleserver.bundle import Bundle
    from bundleserver.bundle.plan import Recall

_FEW_VALUES = 64
"""So many values are looked up in a moment: a horizon, some dates, a short history."""


class Scheduler:
    """Decides for each request. Called from the event loop."""

    def __init__(
        self,
        manager: LendingManager,
        pool: WorkerPool,
        splitter: Splitter,
        metrics: RequestMetrics,
        max_batch_rows: int = MAX_BATCH_ROWS,
    ) -> None:
        """Say who lends versions, and in which threads they answer what is not small.

        Args:
            manager: lends the versions.
            pool: the threads, and the bound on the requests that wait for one.
            splitter: decides which version answers.
            metrics: are told how long requests wait, and how many one call answers.
            max_batch_rows: the most rows of several requests in one call; 0 or 1 joins none.
        """
        self._manager = manager
        self._pool = pool
        self._splitter = splitter
        self._metrics = metrics
        self._costs = Costs()
        self._batches = (
            Batches(manager, pool, splitter, self._costs, metrics, max_batch_rows)
            if max_batch_rows > 1
            else None
        )
        self._loop_is_prepared = False

    def answer(
        self, request: PredictRequest, measured: Measured
    ) -> Answered | asyncio.Future[Answered]:
        """Answer a request at once, or have it answered where it takes longer.

        Raises:
            BundleServerError: whatever keeps the request from being answered.
        """
        route = self._splitter.route(request)
        size = size_of(request)
        try:
            with self._manager.acquire(request.model, route.version) as bundle:
                costs = self._costs.of(bundle)
                if bundle.call_traits.predictable and costs.is_small(size):
                    answered = self._answer_at_once(bundle, costs, route, size, measured)
                    if answered is not None:
                        return answered
                elif bundle.remembers is not None and size.values <= _FEW_VALUES:
                    answered = self._answer_from_memory(bundle, bundle.remembers, route, measured)
                    if answered is not None:
                        return answered
                gathers = self._batches is not None and self._batches.takes(bundle, route, size)
        except (VersionNotFound, NotReady):
            # Who answers instead, or why nobody does, is found out where the call runs.
            gathers = False
        if gathers and self._batches is not None:
            return asyncio.wrap_future(self._batches.submit(bundle, route, size, measured))
        # The lease is taken there because asyncio cancels the wait and not the thread.
        work = partial(self._answer_in_thread, route, size, measured, time.perf_counter())
        return asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _answer_at_once(
        self, bundle: Bundle, costs: VersionCosts, route: Route, size: Size, measured: Measured
    ) -> Answered | None:
        """Answer on the event loop; None where the values are such that this may take long."""
        if not self._loop_is_prepared:
            self._loop_is_prepared = True
            limit_library_threads(self._pool.library_threads)
        clock = costs.clock
        started = clock()
        try:
            bound = bind(bundle, route.request)
        except BundleServerError:
            bound = None  # said, and counted, where the answer is made
        for tensor in bound.values() if bound is not None else ():
            if not is_plain(tensor.values):
                return None
        try:
            return self._splitter.ask(bundle, route, measured, bound)
        finally:
            costs.note_at_once(size, clock() - started, clock)

    def _answer_from_memory(
        self, bundle: Bundle, remembers: Recall, route: Route, measured: Measured
    ) -> Answered | None:
        """Answer on the event loop what was asked before; None where that is not so."""
        request = route.request
        if request.tensors is None:
            return None  # instances, each with an answer of its own
        try:
            bound = bind(bundle, request)
            if not remembers(bound, request.parameters):
                return None
        except BundleServerError:
            return None  # said, and counted, where the answer is made
        return self._splitter.ask(bundle, route, measured, bound)

    def _answer_in_thread(
        self, route: Route, size: Size, measured: Measured, since: float
    ) -> Answered:
        self._metrics.waited(route.request.model, time.perf_counter() - since)
        with self._splitter.lease(route) as bundle:
            started = time.thread_time()
            answered = self._splitter.ask(bundle, route, measured)
            if bundle.call_traits.predictable or bundle.call_traits.batchable:
                self._costs.of(bundle).note(size, time.thread_time() - started)
            return answered


def is_plain(values: Array) -> bool:
    """Ask whether an array holds finite numbers only."""
    kind = values.dtype.kind
    # Counted as bytes: reducing a small array takes longer than everything else here.
    return kind in "biu" or (kind == "f" and not np.isfinite(values).tobytes().count(0))
