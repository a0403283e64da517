"""Mirrored requests for shadow versions: their responses are compared and discarded.

Each shadow has a short queue and, while that is not empty, one low-priority thread, which runs a
request only when the thread pool has a free thread. A shadow that hangs delays only its own
mirrored requests; when its queue is full they are dropped and counted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from bundleserver.errors import BundleServerError, ModelNotFound, NotReady, VersionNotFound
from bundleserver.serving.codecs.number_rows import NumberRows
from bundleserver.serving.cpus import limit_library_threads
from bundleserver.serving.requests import PredictRequest, PredictResponse
from bundleserver.serving.traffic.totals import Pair, ShadowTotals
from bundleserver.tensors import Array
from bundleserver.versions.comparison import Comparison, compare

if TYPE_CHECKING:
    from bundleserver.bundle import Bundle
    from bundleserver.serving.models import ServingManager

LOG = logging.getLogger(__name__)

MAX_QUEUE = 16
MAX_QUEUED_BYTES = 32 * 2**20
"""Maximum size of one shadow's queue."""

_STOP_CHECK_SECONDS = 0.25
_VALUE_BYTES = 64  # approximate size of a value in a V1 row
_LOWEST_PRIORITY = 19


@dataclass(frozen=True)
class MirroredRequest:
    """One request with its response, to run on a shadow version too.

    Args:
        pair: the version of the response, and the shadow.
        request: the request.
        response: the response to compare with.
        seconds: how long the model took for it.
        on_compared: callback with the comparison, called in the shadow's thread.
    """

    pair: Pair
    request: PredictRequest
    response: PredictResponse
    seconds: float
    on_compared: Callable[[Comparison], None] | None = None


@dataclass
class _Lane:
    waiting: deque[tuple[MirroredRequest, int]] = field(default_factory=deque)
    queued_bytes: int = 0
    is_running: bool = False


class SpareThreads(Protocol):
    """The threads that go first."""

    @property
    def library_threads(self) -> int:
        """How many threads a library may use for one call."""

    def wait_spare(self, timeout_seconds: float) -> bool:
        """Wait until a thread is free and no call waits for one; False when the time is over."""


class Shadows:
    """Queues mirrored requests, and runs and compares them in threads of its own."""

    def __init__(
        self,
        manager: ServingManager,
        pool: SpareThreads,
        totals: ShadowTotals,
        predict: Callable[[Bundle, PredictRequest], PredictResponse],
    ) -> None:
        """Set the manager, the thread pool that has priority, the totals, and what predicts."""
        self._manager = manager
        self._predict = predict
        self._pool = pool
        self._totals = totals
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._lock = threading.Lock()
        self._is_stopping = False

    def offer(self, mirrored: MirroredRequest) -> None:
        """Queue a mirrored request, or drop it; never waits and never fails."""
        size = _size(mirrored)
        with self._lock:
            lane = self._lanes.setdefault((mirrored.pair.model, mirrored.pair.shadow), _Lane())
            is_full = len(lane.waiting) >= MAX_QUEUE
            if self._is_stopping or is_full or lane.queued_bytes + size > MAX_QUEUED_BYTES:
                self._totals.count(mirrored.pair, "dropped")
                return
            lane.waiting.append((mirrored, size))
            lane.queued_bytes += size
            starts, lane.is_running = not lane.is_running, True
        if not starts:
            return
        # A daemon thread: a version that hangs must not keep the process from exiting.
        run = threading.Thread(target=self._run, args=(lane,), name="shadow", daemon=True)
        try:
            run.start()
        except (RuntimeError, MemoryError):
            # The machine has no more threads; the next mirrored request tries again.
            with self._lock:
                lane.is_running = False

    def stop(self) -> None:
        """Start no further mirrored request."""
        with self._lock:
            self._is_stopping = True
            for lane in self._lanes.values():
                lane.waiting.clear()

    def _run(self, lane: _Lane) -> None:
        """Process one shadow's queue until it is empty."""
        limit_library_threads(self._pool.library_threads)
        with contextlib.suppress(AttributeError, OSError):
            # On Linux the priority is per thread.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
        while True:
            while not self._is_stopping and not self._pool.wait_spare(_STOP_CHECK_SECONDS):
                pass
            with self._lock:
                if self._is_stopping or not lane.waiting:
                    lane.is_running = False
                    return
                mirrored, size = lane.waiting.popleft()
                lane.queued_bytes -= size
            self._compare(mirrored)

    def _compare(self, mirrored: MirroredRequest) -> None:
        """Run one mirrored request and compare the responses; any error is only counted."""
        pair = mirrored.pair
        try:
            with self._manager.acquire(pair.model, pair.shadow) as bundle:
                started = time.perf_counter()
                other = self._predict(bundle, mirrored.request._replace(version=pair.shadow))
                seconds = time.perf_counter() - started
            rowwise = mirrored.response.rowwise and other.rowwise
            found = compare(outputs_of(mirrored.response), outputs_of(other), rowwise)
            self._totals.add(pair, found, mirrored.seconds, seconds)
            if mirrored.on_compared is not None:
                mirrored.on_compared(found)
        except (ModelNotFound, VersionNotFound, NotReady) as error:
            self._totals.count(pair, "not_ready", str(error))
        except BundleServerError as error:
            self._totals.count(pair, "failed", str(error))
        except BaseException as error:  # a framework may raise anything, and exit
            LOG.exception("%s %s: mirrored request failed", pair.model, pair.shadow)
            self._totals.count(pair, "failed", f"{type(error).__name__}: {error}")


def outputs_of(response: PredictResponse) -> Mapping[str, Array]:
    """Return a response's outputs; those of a V1 forecast's rows concatenated."""
    if response.answers is None:
        return response.outputs
    columns: dict[str, list[Array]] = {}
    for answer in response.answers:
        for name, values in answer.items() if isinstance(answer, dict) else ():
            columns.setdefault(name, []).append(np.atleast_1d(_array(values)))
    return {name: np.concatenate(arrays) for name, arrays in columns.items()}


def _array(values: object) -> Array:
    array = np.asarray(values)
    return array.astype(object) if array.dtype.kind in "US" else array


def _size(mirrored: MirroredRequest) -> int:
    """Estimate the memory of a mirrored request in bytes."""
    tensors = [tensor.values for tensor in mirrored.request.tensors or ()]
    rows = mirrored.request.rows or ()
    if isinstance(rows, NumberRows):
        tensors, rows = [rows.values], ()
    values = sum(len(row) if isinstance(row, (list, dict)) else 1 for row in rows)
    return sum(a.nbytes for a in [*tensors, *mirrored.response.outputs.values()]) + (
        values * _VALUE_BYTES
    )
