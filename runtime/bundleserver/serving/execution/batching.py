"""Requests that gather while a version is busy, and are answered by one call when it is free.

There is no timer: a version that is free answers at once. Only versions whose rows are independent
to the bit are asked so, and each caller gets its own rows; whatever goes wrong in a joint call is
found out by asking each request alone.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from bundleserver.errors import BundleServerError, NotReady
from bundleserver.serving.execution.costs import Costs, Size
from bundleserver.serving.execution.predict import bind, respond
from bundleserver.serving.execution.thread_pool import WorkerPool
from bundleserver.serving.metrics.collectors import RequestMetrics
from bundleserver.serving.metrics.tallies import Measured
from bundleserver.serving.stopping import LendingManager
from bundleserver.serving.traffic.splitting import Answered, Route, Splitter
from bundleserver.tensors import NamedTensor

if TYPE_CHECKING:
    from bundleserver.bundle import Bundle

MAX_BATCH_ROWS = 1024
"""How many rows one call answers at most, where nothing else is said."""

Bound = Mapping[str, NamedTensor]


@dataclass(frozen=True, eq=False)
class Waiting:
    """One request that waits for its version to be free, and the future of its answer."""

    route: Route
    measured: Measured
    size: Size
    rows: int
    outcome: Future[Answered]
    since: float = field(default_factory=time.perf_counter)

    def goes_with(self, other: Waiting) -> bool:
        """Ask whether one call may answer both: the same version was asked, in the same way."""
        one, two = self.route.request, other.route.request
        return (
            (self.route.version, self.size.form) == (other.route.version, other.size.form)
            and one.parameters == two.parameters
            and [_form(tensor) for tensor in one.tensors or ()]
            == [_form(tensor) for tensor in two.tensors or ()]
        )

    def fail(self, error: BaseException) -> None:
        """Tell the caller why there is no answer."""
        self.outcome.set_exception(error)


@dataclass
class _Lane:
    """What waits for one version; while it is busy, exactly one thread answers it."""

    waiting: deque[Waiting] = field(default_factory=deque)
    is_busy: bool = False


class Batches:
    """The requests that gather for each version. Called from event loops and worker threads."""

    def __init__(
        self,
        manager: LendingManager,
        pool: WorkerPool,
        splitter: Splitter,
        costs: Costs,
        metrics: RequestMetrics,
        max_rows: int = MAX_BATCH_ROWS,
    ) -> None:
        """Say who lends versions, which threads ask them, and how many rows one call takes."""
        self._manager = manager
        self._pool = pool
        self._splitter = splitter
        self._costs = costs
        self._metrics = metrics
        self._max_rows = max_rows
        self._lanes: WeakKeyDictionary[Bundle, _Lane] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def takes(self, bundle: Bundle, route: Route, size: Size) -> bool:
        """Ask whether a request may be answered together with others, and whether that saves time.

        A canary's and a shadow's requests stay alone: their times are compared.
        """
        return (
            bundle.call_traits.batchable
            and not route.is_watched
            and 0 < _rows_of(route) <= self._max_rows // 2
            and not self._costs.of(bundle).scales(size)
        )

    def submit(
        self, bundle: Bundle, route: Route, size: Size, measured: Measured
    ) -> Future[Answered]:
        """Queue a request for a version, and begin where that is free.

        Raises:
            QueueFull: as many requests wait as may.
        """
        outcome: Future[Answered] = self._pool.promise()
        with self._lock:
            lane = self._lanes.setdefault(bundle, _Lane())
            lane.waiting.append(Waiting(route, measured, size, _rows_of(route), outcome))
            starts, lane.is_busy = not lane.is_busy, True
        if starts:
            self._begin(lane)
        return outcome

    def _begin(self, lane: _Lane) -> None:
        try:
            self._pool.run_promised(partial(self._run, lane))
        except RuntimeError:  # the pool is shut down
            with self._lock:
                left, lane.waiting, lane.is_busy = lane.waiting, deque(), False
            for one in left:
                if one.outcome.set_running_or_notify_cancel():
                    one.fail(NotReady(f"model '{one.route.request.model}'", "the server stops", 1))

    def _run(self, lane: _Lane) -> None:
        """Answer what waits, as far as it goes together; come again while more does."""
        try:
            self._answer(self._next(lane))
        finally:
            with self._lock:
                lane.is_busy = goes_on = bool(lane.waiting)
            if goes_on:
                self._begin(lane)

    def _next(self, lane: _Lane) -> list[Waiting]:
        """Take the first that waits, and what may be answered with it."""
        taken: list[Waiting] = []
        left: deque[Waiting] = deque()
        rows = 0
        with self._lock:
            for one in lane.waiting:
                if one.outcome.cancelled():
                    continue
                if taken and (rows + one.rows > self._max_rows or not one.goes_with(taken[0])):
                    left.append(one)
                else:
                    taken.append(one)
                    rows += one.rows
            lane.waiting = left
        return [one for one in taken if one.outcome.set_running_or_notify_cancel()]

    def _answer(self, batch: Sequence[Waiting]) -> None:
        now = time.perf_counter()
        for one in batch:
            self._metrics.waited(one.route.request.model, now - one.since)
        left = self._answer_jointly(batch) if len(batch) > 1 else batch
        for one in left:
            self._answer_alone(one)

    def _answer_alone(self, one: Waiting) -> None:
        try:
            with self._splitter.lease(one.route) as bundle:
                started = time.thread_time()
                answered = self._splitter.ask(bundle, one.route, one.measured)
                self._costs.of(bundle).note(one.size, time.thread_time() - started)
            self._metrics.called(one.route.request.model, one.measured.version, 1, one.rows)
        except BaseException as error:  # noqa: BLE001 - it is the caller's, who waits for it
            one.fail(error)
        else:
            one.outcome.set_result(answered)

    def _answer_jointly(self, batch: Sequence[Waiting]) -> Sequence[Waiting]:
        """Answer those that one call can answer; return those that are to be asked alone."""
        route = batch[0].route
        try:
            with self._manager.acquire(route.request.model, route.version) as bundle:
                # Another version may stand under the same name by now.
                return self._ask(bundle, batch) if bundle.call_traits.batchable else batch
        except BundleServerError:
            return [one for one in batch if not one.outcome.done()]

    def _ask(self, bundle: Bundle, batch: Sequence[Waiting]) -> list[Waiting]:
        started = time.thread_time()
        groups: dict[object, list[tuple[Waiting, Bound]]] = {}
        left: list[Waiting] = []
        for one in batch:
            bound = _bound(bundle, one)
            if bound is None:
                left.append(one)
            else:
                forms = tuple(_form(tensor) for tensor in bound.values())
                groups.setdefault(forms, []).append((one, bound))
        for group in groups.values():
            if len(group) == 1 or not self._ask_once(bundle, group):
                left += [one for one, _ in group]
        if not left:
            form = batch[0].size.form
            values = sum(one.size.values for one in batch)
            self._costs.of(bundle).note(Size(form, values), time.thread_time() - started)
        return left

    def _ask_once(self, bundle: Bundle, group: Sequence[tuple[Waiting, Bound]]) -> bool:
        """Answer a group by one call; False where that fails, and nobody has been told anything."""
        first, bound = group[0]
        joined = {
            name: NamedTensor(
                name, np.concatenate([b[name].values for _, b in group]), tensor.columns
            )
            for name, tensor in bound.items()
        }
        counts = [len(next(iter(b.values())).values) for _, b in group]
        try:
            outputs = bundle.predict(joined, first.route.request.parameters)
        except Exception:  # noqa: BLE001 - whose fault it is shows when each is asked alone
            return False
        if any(values.shape[:1] != (sum(counts),) for values in outputs.values()):
            return False
        self._metrics.called(bundle.model, bundle.version, len(group), sum(counts))
        start = 0
        for (one, _), count in zip(group, counts, strict=True):
            own = {name: values[start : start + count] for name, values in outputs.items()}
            start += count
            one.measured.version = bundle.version
            try:
                one.outcome.set_result((respond(bundle, one.route.request, own), ()))
            except BundleServerError as error:
                one.fail(error)
        return True


def _rows_of(route: Route) -> int:
    """Count a request's rows; 0 where it has none, or not the same number in every tensor."""
    request = route.request
    if request.rows is not None:
        return len(request.rows)
    counts = {tensor.values.shape[:1] for tensor in request.tensors or ()}
    shape = counts.pop() if len(counts) == 1 else ()
    return shape[0] if shape else 0


def _form(tensor: NamedTensor) -> tuple[object, ...]:
    """Say what tensors have to have in common to be joined."""
    return tensor.name, tensor.values.dtype, tensor.values.shape[1:], tensor.columns


def _bound(bundle: Bundle, one: Waiting) -> Bound | None:
    """Bind a request; None where it cannot be, or cannot be joined with others."""
    try:
        bound = bind(bundle, one.route.request)
    except BundleServerError:
        return None
    arrays = [tensor.values for tensor in bound.values()]
    lengths = {values.shape[:1] for values in arrays}
    joins = len(lengths) == 1 and not lengths & {(), (0,)}
    return bound if joins and all(values.dtype.kind in "biuf" for values in arrays) else None
