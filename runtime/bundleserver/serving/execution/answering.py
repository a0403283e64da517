"""The one decision for a request: route, acquire, validate, run, count.

This is the single place where the event loop meets threads. A version's calls run where its
placement says, by the rows of the request: inline, in a batch with others, or in the thread pool.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from prometheus_client import CollectorRegistry

from bundleserver.bundle.placement import OVERRUN_SECONDS
from bundleserver.errors import BundleServerError, InvalidInput
from bundleserver.serving.cpus import limit_library_threads
from bundleserver.serving.errors import outcome_of
from bundleserver.serving.execution.batching import MAX_BATCH_ROWS, Batches
from bundleserver.serving.execution.predict import Inputs, are_finite, predict, row_count, validate
from bundleserver.serving.execution.thread_pool import ThreadPool
from bundleserver.serving.metrics.requests import RequestMetrics
from bundleserver.serving.models import ServingManager
from bundleserver.serving.requests import PredictRequest, PredictResponse
from bundleserver.serving.traffic.mirroring import MirroredRequest, Shadows
from bundleserver.serving.traffic.splitting import Splitter, is_watched

if TYPE_CHECKING:
    from bundleserver.bundle import Bundle
    from bundleserver.bundle.plan import Recall
    from bundleserver.manager import TrafficStatus

LOG = logging.getLogger(__name__)

T = TypeVar("T")

LOAD_TIMEOUT_SECONDS = 600.0
"""How long a load or unload that a client asked for may take before the client is told."""

MOST_INLINE_OBJECTS = 64
"""More rows that are objects than that are not read on the event loop."""

_FEW_VALUES = 64
"""So many values are looked up in a moment: a horizon, some dates, a short history."""


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
        manager: ServingManager,
        threads: ThreadPool | None = None,
        metrics: RequestMetrics | None = None,
        max_batch_rows: int = MAX_BATCH_ROWS,
    ) -> None:
        self._manager = manager
        self._threads = threads or ThreadPool()
        self._metrics = metrics or RequestMetrics(CollectorRegistry())
        self._batches = Batches(self._threads, self._metrics, max_batch_rows)
        self.splitter = Splitter(manager)
        self.shadows = Shadows(manager, self._threads, self.splitter.totals, predict)
        self._loaders = ThreadPoolExecutor(max_workers=4, thread_name_prefix="load")
        self._loop_is_prepared = False

    async def answer(self, request: PredictRequest, protocol: str | None = None) -> PredictResponse:
        """Answer a decoded request, holding a lease on the version meanwhile.

        Args:
            request: what was asked of a model that is known; others would be counted, too.
            protocol: how it came, for the metrics: ``v1``, ``v2`` or ``grpc``.

        Raises:
            BundleServerError: no model has that name, or whatever else keeps the request from
                being answered.
        """
        model, name = request.model, request.version
        spoken = protocol or ("v2" if request.rows is None else "v1")
        metrics, outcome, answered_by = self._metrics, "ok", [""]
        in_flight = metrics.in_flight(model, spoken)
        in_flight.inc()
        started = time.perf_counter()
        try:
            lease: AbstractContextManager[Bundle] | None = None
            if name is None and self._manager.is_split(model):
                traffic = self._manager.traffic(model)
                if is_watched(traffic):
                    return await self._answer_watched(request, answered_by)
                lease = self.splitter.acquire(request, traffic)
            lease = lease or self._manager.acquire(model, name)
            release = lease.__exit__
            bundle = lease.__enter__()
            future: Future[PredictResponse] | None = None
            try:
                answered_by[0] = bundle.version
                response = self._run(bundle, request)
                if isinstance(response, PredictResponse):
                    return response
                future = response
            finally:
                if future is None:
                    release(None, None, None)
            # The lease ends with the call, since a request that is cancelled does not end its call.
            future.add_done_callback(lambda _: release(None, None, None))
            return await asyncio.wrap_future(future)
        except BaseException as error:
            outcome = outcome_of(error)
            raise
        finally:
            in_flight.dec()
            metrics.ended(model, answered_by[0], spoken, outcome).inc()
            metrics.seconds_of(model, answered_by[0], spoken).observe(time.perf_counter() - started)

    def runs(self, model: str, version: str | None = None) -> str:
        """Say where a call of one row runs: ``inline``, ``batched`` or ``threads``.

        Raises:
            BundleServerError: the version does not answer now.
        """
        with self._manager.acquire(model, version) as bundle:
            runs = bundle.placement.runs
            return runs if runs != "batched" or self._batches.takes(bundle, 1) else "threads"

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
        load = partial(self._manager.load, name, version, timeout_seconds=timeout_seconds)
        await in_thread(self._loaders, load)
        return True

    async def unload(
        self, name: str, version: str | None = None, timeout_seconds: float = LOAD_TIMEOUT_SECONDS
    ) -> None:
        """Unload a model or one version of it, off the event loop, and wait until it is gone.

        Raises:
            BundleServerError: why it is still there.
        """
        unload = partial(self._manager.unload, name, version, timeout_seconds=timeout_seconds)
        await in_thread(self._loaders, unload)

    def _run(
        self, bundle: Bundle, request: PredictRequest
    ) -> PredictResponse | Future[PredictResponse]:
        """Run a request inline, or have it run elsewhere; the bundle is held meanwhile."""
        rows, inputs = row_count(request), None
        if 0 < bundle.placement.inline_rows >= rows and (
            request.rows is None or rows <= MOST_INLINE_OBJECTS or not _are_objects(request.rows)
        ):
            inputs = validate(bundle, request)
            if are_finite(inputs):
                if not self._loop_is_prepared:
                    self._prepare_loop()
                # Processor time: what a busy machine takes from a call is not the call's own.
                started = time.thread_time()
                try:
                    return predict(bundle, request, inputs)
                finally:
                    seconds = time.thread_time() - started
                    if seconds > OVERRUN_SECONDS:
                        self._leave_the_loop(bundle, seconds)
        elif bundle.is_cached is not None and _is_short(request):
            inputs = _cached(bundle.is_cached, bundle, request)
            if inputs is not None:
                return predict(bundle, request, inputs)
        elif self._batches.takes(bundle, rows):
            return self._batches.submit(bundle, request, rows)
        work = partial(self._run_in_thread, bundle, request, inputs, time.perf_counter())
        return self._threads.submit(work)

    def _prepare_loop(self) -> None:
        """Let libraries use as many threads for an inline call as for one in the thread pool."""
        self._loop_is_prepared = True
        limit_library_threads(self._threads.library_threads)

    def _leave_the_loop(self, bundle: Bundle, seconds: float) -> None:
        bundle.placement.leave_the_loop()
        self._metrics.overran(bundle.model, bundle.version)
        LOG.warning(
            "%s %s: an inline call took %.1f ms, over %g ms; its calls run in the thread pool "
            "until it is loaded anew",
            bundle.model,
            bundle.version,
            seconds * 1e3,
            OVERRUN_SECONDS * 1e3,
        )

    def _run_in_thread(
        self, bundle: Bundle, request: PredictRequest, inputs: Inputs | None, since: float
    ) -> PredictResponse:
        self._metrics.waited(request.model, time.perf_counter() - since)
        return predict(bundle, request, inputs)

    async def _answer_watched(
        self, request: PredictRequest, answered_by: list[str]
    ) -> PredictResponse:
        """Answer a request of a model with a canary or a shadow, all of it in a thread.

        A canary's progress is kept in files, and its times are compared.
        """
        work = partial(self._run_watched, request, answered_by, time.perf_counter())
        response, mirrored_requests = await asyncio.wrap_future(self._threads.submit(work))
        for mirrored in mirrored_requests:
            # Called when this task pauses next: when the answer is on its way.
            asyncio.get_running_loop().call_soon(self.shadows.offer, mirrored)
        return response

    def _run_watched(
        self, request: PredictRequest, answered_by: list[str], since: float
    ) -> tuple[PredictResponse, tuple[MirroredRequest, ...]]:
        self._metrics.waited(request.model, time.perf_counter() - since)
        traffic = self._manager.traffic(request.model)
        return answer_watched(self.splitter, request, traffic, answered_by)


def answer_watched(
    splitter: Splitter, request: PredictRequest, traffic: TrafficStatus, answered_by: list[str]
) -> tuple[PredictResponse, tuple[MirroredRequest, ...]]:
    """Answer a request by the version that the traffic selects, and count that for its rules.

    Args:
        splitter: selects and acquires the version.
        request: what was asked.
        traffic: the model's.
        answered_by: its only element becomes the version's name as soon as that is known.

    Returns:
        The response, and the mirrored requests to queue.
    """
    with splitter.acquire(request, traffic) as bundle:
        answered_by[0] = bundle.version
        started, outcome = time.perf_counter(), "ok"
        try:
            response = predict(bundle, request)
        except BaseException as error:
            outcome = outcome_of(error)
            raise
        finally:
            seconds = time.perf_counter() - started
            splitter.count(request.model, traffic, bundle.version, outcome, seconds)
        return response, tuple(splitter.mirrored(request, response, seconds, traffic))


def _are_objects(rows: Sequence[object]) -> bool:
    return isinstance(rows[0], dict)


def _is_short(request: PredictRequest) -> bool:
    # Instances, which are rows, have an answer each.
    values = sum(tensor.values.size for tensor in request.tensors or ())
    return request.rows is None and values <= _FEW_VALUES


def _cached(is_cached: Recall, bundle: Bundle, request: PredictRequest) -> Inputs | None:
    """Validate a request whose answer is cached; None for others, and for what is refused."""
    try:
        inputs = validate(bundle, request)
        return inputs if is_cached(inputs, request.parameters) else None
    except InvalidInput:
        return None  # told where the answer is made
