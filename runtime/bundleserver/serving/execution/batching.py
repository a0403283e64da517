"""Batching: requests that wait while a version is busy are answered by one call when it is free.

There is no timer: a version that is free answers immediately. Only batchable versions are called
so, and each request gets its own rows; if a batch fails, its requests run one by one.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, ref

import numpy as np

from bundleserver.errors import NotReady
from bundleserver.serving.execution.predict import Inputs, predict, respond, validate
from bundleserver.serving.execution.promise import Promise
from bundleserver.serving.execution.thread_pool import ThreadPool
from bundleserver.serving.execution.traced import batch_in_spans
from bundleserver.serving.metrics.requests import RequestMetrics
from bundleserver.serving.requests import PredictRequest, PredictResponse
from bundleserver.tensors import Array, NamedTensor
from bundleserver.tensors.budget import Budget, spending

if TYPE_CHECKING:
    from bundleserver.bundle import Bundle

MAX_BATCH_ROWS = 1024
"""Default maximum of rows per batch."""


@dataclass(frozen=True, eq=False)
class Waiting:
    """One waiting request, and the promise of its response."""

    request: PredictRequest
    rows: int
    promise: Promise[PredictResponse]
    budget: Budget
    since: float = field(default_factory=time.perf_counter)


@dataclass
class _Queue:
    """The waiting requests of one version; while it is busy, exactly one thread runs them."""

    waiting: deque[Waiting] = field(default_factory=deque)
    is_busy: bool = False


class Batches:
    """The queues of all versions. Called from the event loop and the thread pool.

    Callers keep their lease until the future is done.
    """

    def __init__(
        self, threads: ThreadPool, metrics: RequestMetrics, max_rows: int = MAX_BATCH_ROWS
    ) -> None:
        """Set the thread pool and the maximum rows per batch; 0 or 1 disables batching."""
        self._threads = threads
        self._metrics = metrics
        self._max_rows = max_rows
        self._queues: WeakKeyDictionary[Bundle, _Queue] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def accepts(self, bundle: Bundle, rows: int) -> bool:
        """Ask whether a request may run in a batch, and whether that saves time."""
        placement = bundle.placement
        return (
            placement.batchable
            and 0 < rows <= self._max_rows // 2
            and placement.gains_from_batching(rows)
        )

    def submit(
        self, bundle: Bundle, request: PredictRequest, rows: int, budget: Budget
    ) -> Future[PredictResponse]:
        """Queue a request for a version, and start a batch if that is free.

        One that is cancelled, or late, before its batch runs is not in it.

        Raises:
            QueueFull: the queue is full.
        """
        outcome: Future[PredictResponse]
        promise, outcome = self._threads.promise(bundle.model)
        one = Waiting(request, rows, promise, budget)
        with self._lock:
            queue = self._queues.setdefault(bundle, _Queue())
            queue.waiting.append(one)
            starts, queue.is_busy = not queue.is_busy, True
        outcome.add_done_callback(partial(self._forget, queue, ref(one)))
        if starts:
            self._begin(bundle, queue)
        return outcome

    def _forget(
        self, queue: _Queue, waiting: ref[Waiting], outcome: Future[PredictResponse]
    ) -> None:
        """Keep nothing of a request that was cancelled, however long its version is busy."""
        if outcome.cancelled() and (one := waiting()) is not None:
            with self._lock:
                if one in queue.waiting:
                    queue.waiting.remove(one)

    def _begin(self, bundle: Bundle, queue: _Queue) -> None:
        try:
            self._threads.run(partial(self._run, bundle, queue), bundle.model)
        except NotReady as error:
            with self._lock:
                left, queue.waiting, queue.is_busy = queue.waiting, deque(), False
            for one in left:
                if one.promise.begin():
                    one.promise.fail(error)

    def _run(self, bundle: Bundle, queue: _Queue) -> None:
        """Run one batch, and start another one while requests wait."""
        batch = self._next(queue)
        failure: BaseException | None = None
        try:
            self._answer(bundle, batch)
        except BaseException as error:  # noqa: BLE001  # every request of the batch gets it
            failure = bundle.failure("a batch", f"{type(error).__name__}: {error}", error)
        finally:
            for one in batch:
                if one.promise.is_open:
                    one.promise.fail(failure or RuntimeError("the batch left a request out"))
            with self._lock:
                queue.is_busy = continues = bool(queue.waiting)
            if continues:
                self._begin(bundle, queue)

    def _next(self, queue: _Queue) -> list[Waiting]:
        """Take the requests that have waited longest, up to the maximum rows."""
        taken: list[Waiting] = []
        rows = 0
        with self._lock:
            while queue.waiting and (not taken or rows + queue.waiting[0].rows <= self._max_rows):
                taken.append(queue.waiting.popleft())
                rows += taken[-1].rows
        return [one for one in taken if one.promise.begin()]

    def _answer(self, bundle: Bundle, batch: Sequence[Waiting]) -> None:
        now = time.perf_counter()
        groups: dict[object, list[tuple[Waiting, Inputs]]] = {}
        for one in batch:
            self._metrics.waited(one.request.model, now - one.since)
            if one.request.trace is not None:
                one.request.trace.past("wait", now - one.since)
            try:
                one.budget.check()
                inputs = validate(bundle, one.request)
            except BaseException as error:  # noqa: BLE001  # its request gets it
                one.promise.fail(error)
            else:
                groups.setdefault(_form(one, inputs), []).append((one, inputs))
        for group in groups.values():
            if len(group) == 1 or not self._answer_in_batch(bundle, group):
                for one, inputs in group:
                    self._answer_single(bundle, one, inputs)

    def _answer_single(self, bundle: Bundle, one: Waiting, inputs: Inputs) -> None:
        try:
            with spending(one.budget):
                response = predict(bundle, one.request, inputs)
        except BaseException as error:  # noqa: BLE001  # its request gets it
            one.promise.fail(error)
        else:
            self._metrics.called(bundle.model, bundle.version, 1, one.rows)
            one.promise.set_result(response)

    def _answer_in_batch(self, bundle: Bundle, group: Sequence[tuple[Waiting, Inputs]]) -> bool:
        """Answer a group with one call; False if that fails, with no future set."""
        first, named = group[0]
        joined = {
            name: NamedTensor(
                name, np.concatenate([inputs[name].values for _, inputs in group]), tensor.columns
            )
            for name, tensor in named.items()
        }
        counts = [len(next(iter(inputs.values())).values) for _, inputs in group]
        shared = Budget(0, _latest([one.budget.deadline for one, _ in group]))
        call = _traced(group, counts, partial(bundle.predict, joined, first.request.parameters))
        try:
            with spending(shared):
                outputs = call()
        except Exception:  # noqa: BLE001  # each request runs again, and gets its own error
            return False
        if any(values.shape[:1] != (sum(counts),) for values in outputs.values()):
            return False
        self._metrics.called(bundle.model, bundle.version, len(group), sum(counts))
        start = 0
        for (one, _), count in zip(group, counts, strict=True):
            own = {name: values[start : start + count] for name, values in outputs.items()}
            start += count
            try:
                # What members have answered counts too.
                one.budget.spend_values(shared.spent_values * count // sum(counts))
                one.promise.set_result(respond(bundle, one.request, own))
            except Exception as error:  # noqa: BLE001  # an unknown output, too many values
                one.promise.fail(error)
        return True


def _traced(
    group: Sequence[tuple[Waiting, Inputs]],
    counts: Sequence[int],
    call: Callable[[], dict[str, Array]],
) -> Callable[[], dict[str, Array]]:
    """Return the call of a batch, in a span of each of its requests that is traced."""
    pairs = zip(group, counts, strict=True)
    traces = [
        (one.request.trace, rows) for (one, _), rows in pairs if one.request.trace is not None
    ]
    if not traces:
        return call
    return partial(batch_in_spans, traces, len(group), sum(counts), call)


def _latest(deadlines: Sequence[float | None]) -> float | None:
    """Return when nobody waits any more; None if somebody always does."""
    known = [deadline for deadline in deadlines if deadline is not None]
    return max(known) if len(known) == len(deadlines) else None


def _form(one: Waiting, inputs: Inputs) -> object:
    """Return the key of requests that may share a batch; unique if a request may not."""
    arrays = [tensor.values for tensor in inputs.values()]
    lengths = {values.shape[:1] for values in arrays}
    if len(lengths) != 1 or lengths & {(), (0,)}:
        return id(one)
    if any(values.dtype.kind not in "biuf" for values in arrays):
        return id(one)
    forms = tuple((t.name, t.values.dtype, t.values.shape[1:], t.columns) for t in inputs.values())
    return forms, repr(sorted(one.request.parameters.items()))
