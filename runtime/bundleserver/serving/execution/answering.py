"""The one decision for a request: route, acquire, validate, run, count.

This is the single place where the event loop meets threads. A version's calls run where its
placement says, by the rows of the request: inline, in a batch with others, or in the thread pool.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from prometheus_client import CollectorRegistry

from bundleserver.bundle.placement import OVERRUN_SECONDS
from bundleserver.serving.cpus import limit_library_threads
from bundleserver.serving.errors import outcome_of
from bundleserver.serving.execution.batching import MAX_BATCH_ROWS, Batches
from bundleserver.serving.execution.cached import inputs_of_cached, is_short
from bundleserver.serving.execution.limits import Limits
from bundleserver.serving.execution.overruns import leave_the_loop
from bundleserver.serving.execution.predict import (
    Inputs,
    are_finite,
    as_asked,
    predict,
    row_count,
    validate,
)
from bundleserver.serving.execution.thread_pool import ThreadPool
from bundleserver.serving.execution.traced import mirrored_in_span, note_route
from bundleserver.serving.execution.waiting import outcome_of_work
from bundleserver.serving.execution.watched import answer_watched
from bundleserver.serving.metrics.requests import RequestMetrics
from bundleserver.serving.models import ServingManager
from bundleserver.serving.requests import PredictRequest, PredictResponse
from bundleserver.serving.traffic.mirroring import MirroredRequest, Shadows
from bundleserver.serving.traffic.splitting import Splitter, is_watched
from bundleserver.tensors.budget import Budget, spending

if TYPE_CHECKING:
    from bundleserver.bundle import Bundle

T = TypeVar("T")

LOAD_TIMEOUT_SECONDS = 600.0
"""Timeout of a client's load or unload request."""

MOST_INLINE_OBJECTS = 64
"""Requests with more tensors, or rows that are objects, are not validated on the event loop."""


async def in_thread(pool: Executor, call: Callable[[], T]) -> T:
    """Run a blocking call in a thread of a pool.

    Cancelling drops a call that has not started; one that runs continues.
    """
    return await asyncio.get_running_loop().run_in_executor(pool, call)


class ServedModels:
    """Predicts with, loads and unloads the models of a manager. Called from the event loop only."""

    def __init__(
        self,
        manager: ServingManager,
        threads: ThreadPool | None = None,
        metrics: RequestMetrics | None = None,
        max_batch_rows: int = MAX_BATCH_ROWS,
        limits: Limits | None = None,
    ) -> None:
        self._manager = manager
        self._threads = threads or ThreadPool()
        self._metrics = metrics or RequestMetrics(CollectorRegistry())
        self._batches = Batches(self._threads, self._metrics, max_batch_rows)
        self.limits = limits or Limits()
        self._noted_values = self.limits.noted_values
        self.splitter = Splitter(manager)
        self.shadows = Shadows(manager, self._threads, self.splitter.totals, self._predict_mirrored)
        self._loaders = ThreadPoolExecutor(max_workers=4, thread_name_prefix="load")
        self._loop_is_prepared = False

    async def answer(self, request: PredictRequest, protocol: str | None = None) -> PredictResponse:
        """Answer a decoded request, with a lease on the version meanwhile.

        Args:
            request: a request for a known model; unknown ones would be counted too.
            protocol: for the metrics: ``v1``, ``v2`` or ``grpc``.

        Raises:
            BundleServerError: why it cannot be answered.
        """
        model, name = request.model, request.version
        spoken = protocol or ("v2" if request.rows is None else "v1")
        metrics, outcome, answered_by = self._metrics, "ok", [""]
        in_flight = metrics.in_flight(model, spoken)
        in_flight.inc()
        started = time.perf_counter()
        try:
            if request.deadline is not None:
                Budget(0, request.deadline, request.began).check()
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
                if request.trace is not None:
                    seconds = time.perf_counter() - started
                    note_route(request.trace, bundle, row_count(request), seconds)
                response = self._run(bundle, request)
                if isinstance(response, PredictResponse):
                    return response
                future, budget = response
            finally:
                if future is None:
                    release(None, None, None)
            # The lease ends with the call, since cancelling a request does not end its call.
            future.add_done_callback(lambda _: release(None, None, None))
            waiting = outcome_of_work(future, budget)
            # The traceback of its error has this frame: the error would hold itself.
            del future, response
            return await waiting
        except BaseException as error:
            outcome = outcome_of(error)
            raise
        finally:
            in_flight.dec()
            metrics.ended(model, answered_by[0], spoken, outcome).inc()
            seconds, trace = time.perf_counter() - started, request.trace
            trace_id = None if trace is None else f"{trace.trace_id:032x}"
            metrics.observe(model, answered_by[0], spoken, seconds, trace_id)

    def runs(self, model: str, version: str | None = None) -> str:
        """Return where a call of one row runs: ``inline``, ``batched`` or ``threads``.

        Raises:
            BundleServerError: the version is not ready.
        """
        with self._manager.acquire(model, version) as bundle:
            runs = bundle.placement.runs
            return runs if runs != "batched" or self._batches.accepts(bundle, 1) else "threads"

    def note_refusal(self, model: str, protocol: str, error: BaseException) -> None:
        """Count a request that cannot be decoded, so that ``answer`` is not called."""
        self._metrics.refused(model, protocol, error)

    async def load(
        self, name: str, version: str | None = None, timeout_seconds: float = LOAD_TIMEOUT_SECONDS
    ) -> bool:
        """Load a model or one version of it, off the event loop, and wait until it is READY.

        Raises:
            BundleServerError: why it is not.
        """
        load = partial(self._manager.load, name, version, timeout_seconds=timeout_seconds)
        await in_thread(self._loaders, load)
        return True

    async def unload(
        self, name: str, version: str | None = None, timeout_seconds: float = LOAD_TIMEOUT_SECONDS
    ) -> None:
        """Unload a model or one version of it, off the event loop, and wait until it is unloaded.

        Raises:
            BundleServerError: why it is not.
        """
        unload = partial(self._manager.unload, name, version, timeout_seconds=timeout_seconds)
        await in_thread(self._loaders, unload)

    def _run(
        self, bundle: Bundle, request: PredictRequest
    ) -> PredictResponse | tuple[Future[PredictResponse], Budget]:
        """Run a request inline, in a batch or in the thread pool; the caller has the lease.

        Raises:
            AnswerTooLarge: its answer would have too many values; none of it is run.
        """
        rows, inputs, bundle = row_count(request), None, as_asked(bundle, request)
        if rows * bundle.values_per_row >= self._noted_values or not bundle.signature.rowwise:
            self._check_values(bundle, request)
        if 0 < bundle.placement.inline_rows >= rows and (
            len(request.tensors) <= MOST_INLINE_OBJECTS
            if request.tensors is not None
            else not request.rows
            or rows <= MOST_INLINE_OBJECTS
            or not isinstance(request.rows[0], dict)
        ):
            inputs = validate(bundle, request)
            if are_finite(inputs):
                if not self._loop_is_prepared:
                    self._prepare_loop()
                # Processor time, which does not grow on a busy machine.
                started = time.thread_time()
                try:
                    if not bundle.has_open_widths:
                        return predict(bundle, request, inputs)
                    with spending(self.limits.budget(request.deadline, request.began)):
                        return predict(bundle, request, inputs)
                finally:
                    seconds = time.thread_time() - started
                    if seconds > OVERRUN_SECONDS:
                        leave_the_loop(bundle, seconds, self._metrics)
        elif bundle.is_cached is not None and is_short(request):
            inputs = inputs_of_cached(bundle.is_cached, bundle, request)
            if inputs is not None:
                return predict(bundle, request, inputs)
        elif self._batches.accepts(bundle, rows):
            budget = self.limits.budget(request.deadline, request.began)
            return self._batches.submit(bundle, request, rows, budget), budget
        budget = self.limits.budget(request.deadline, request.began)
        work = partial(self._run_in_thread, bundle, request, inputs, time.perf_counter(), budget)
        return self._threads.submit(work, bundle.model), budget

    def _check_values(self, bundle: Bundle, request: PredictRequest) -> None:
        """Note how many values an answer will have, and refuse too many."""
        values = self.limits.values_of(bundle, request, row_count(request))
        if values >= self._noted_values:
            self._metrics.asked(request.model, values)
            self.limits.check(values)

    def _prepare_loop(self) -> None:
        """Limit libraries' threads in inline calls as in the thread pool."""
        self._loop_is_prepared = True
        limit_library_threads(self._threads.library_threads)

    def _note_wait(self, request: PredictRequest, seconds: float) -> None:
        self._metrics.waited(request.model, seconds)
        if request.trace is not None:
            request.trace.past("wait", seconds)

    def _run_in_thread(
        self,
        bundle: Bundle,
        request: PredictRequest,
        inputs: Inputs | None,
        since: float,
        budget: Budget,
    ) -> PredictResponse:
        self._note_wait(request, time.perf_counter() - since)
        budget.check()
        bundle.measure_calls()
        with spending(budget):
            return predict(bundle, request, inputs)

    def _predict_mirrored(self, bundle: Bundle, request: PredictRequest) -> PredictResponse:
        """Answer a mirrored request, which nobody waits for, within limits of its own."""
        self.limits.check(self.limits.values_of(bundle, request, row_count(request)))
        trace, request = request.trace, request.traced(None)
        call = partial(predict, bundle, request)
        if trace is not None:
            call = partial(mirrored_in_span, trace, bundle, row_count(request), call)
        with spending(self.limits.budget()):
            return call()

    async def _answer_watched(
        self, request: PredictRequest, answered_by: list[str]
    ) -> PredictResponse:
        """Answer a request of a model with a canary or a shadow in the thread pool.

        A canary's progress is stored in files, and latencies are compared.
        """
        budget = self.limits.budget(request.deadline, request.began)
        work = partial(self._run_watched, request, answered_by, time.perf_counter(), budget)
        response, mirrored_requests = await outcome_of_work(
            self._threads.submit(work, request.model), budget
        )
        for mirrored in mirrored_requests:
            # Called when this task pauses next, after the response is sent.
            asyncio.get_running_loop().call_soon(self.shadows.offer, mirrored)
        return response

    def _run_watched(
        self, request: PredictRequest, answered_by: list[str], since: float, budget: Budget
    ) -> tuple[PredictResponse, tuple[MirroredRequest, ...]]:
        self._note_wait(request, time.perf_counter() - since)
        budget.check()
        traffic = self._manager.traffic(request.model)
        with spending(budget):
            return answer_watched(self.splitter, request, traffic, answered_by, self._check_values)
