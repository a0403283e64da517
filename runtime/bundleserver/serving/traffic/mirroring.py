"""Copies of requests for versions whose answers nobody gets: compared, on spare capacity only.

Each shadowed version has a short queue and, while there is something in it, one thread of low
priority, which begins a copy only when a thread that predicts is free. A version that hangs so
holds up its own copies and nothing else; what does not fit is dropped, and counted.
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
"""What one shadowed version's copies may take while they wait."""

_LOOK_SECONDS = 0.25
_VALUE_BYTES = 64  # what a value of a V1 row takes, about
_LOWEST_PRIORITY = 19


@dataclass(frozen=True)
class Copy:
    """One request that was answered, for another version to answer once more.

    Args:
        pair: who answered, and who is to.
        request: what was asked.
        response: what was answered.
        seconds: how long the model took for that.
        on_compared: is told of the comparison; called in the shadow's thread.
    """

    pair: Pair
    request: PredictRequest
    response: PredictResponse
    seconds: float
    on_compared: Callable[[Comparison], None] | None = None


@dataclass
class _Lane:
    waiting: deque[tuple[Copy, int]] = field(default_factory=deque)
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
    """Takes copies from the event loop, and answers and compares them in threads of its own."""

    def __init__(
        self,
        manager: ServingManager,
        pool: SpareThreads,
        totals: ShadowTotals,
        predict: Callable[[Bundle, PredictRequest], PredictResponse],
    ) -> None:
        """Say who lends versions, which threads go first, and who is told how each copy ended."""
        self._manager = manager
        self._predict = predict
        self._pool = pool
        self._totals = totals
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._lock = threading.Lock()
        self._is_stopping = False

    def offer(self, copy: Copy) -> None:
        """Queue a copy, or drop it; never waits and never fails."""
        size = _size(copy)
        with self._lock:
            lane = self._lanes.setdefault((copy.pair.model, copy.pair.shadow), _Lane())
            is_full = len(lane.waiting) >= MAX_QUEUE
            if self._is_stopping or is_full or lane.queued_bytes + size > MAX_QUEUED_BYTES:
                self._totals.count(copy.pair, "dropped")
                return
            lane.waiting.append((copy, size))
            lane.queued_bytes += size
            starts, lane.is_running = not lane.is_running, True
        if starts:
            # No thread of a pool: a version that hangs must not keep the process from its end.
            threading.Thread(target=self._run, args=(lane,), name="shadow", daemon=True).start()

    def stop(self) -> None:
        """Begin no copy any more."""
        with self._lock:
            self._is_stopping = True
            for lane in self._lanes.values():
                lane.waiting.clear()

    def _run(self, lane: _Lane) -> None:
        """Work off one version's queue, and end."""
        limit_library_threads(self._pool.library_threads)
        with contextlib.suppress(AttributeError, OSError):
            # On Linux a thread has a priority of its own.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
        while True:
            while not self._is_stopping and not self._pool.wait_spare(_LOOK_SECONDS):
                pass
            with self._lock:
                if self._is_stopping or not lane.waiting:
                    lane.is_running = False
                    return
                copy, size = lane.waiting.popleft()
                lane.queued_bytes -= size
            self._answer(copy)

    def _answer(self, copy: Copy) -> None:
        """Answer one copy and compare; whatever happens is counted and goes no further."""
        pair = copy.pair
        try:
            with self._manager.acquire(pair.model, pair.shadow) as bundle:
                started = time.perf_counter()
                other = self._predict(bundle, copy.request._replace(version=pair.shadow))
                seconds = time.perf_counter() - started
            rowwise = copy.response.rowwise and other.rowwise
            found = compare(outputs_of(copy.response), outputs_of(other), rowwise)
            self._totals.add(pair, found, copy.seconds, seconds)
            if copy.on_compared is not None:
                copy.on_compared(found)
        except (ModelNotFound, VersionNotFound, NotReady) as error:
            self._totals.count(pair, "not_ready", str(error))
        except BundleServerError as error:
            self._totals.count(pair, "failed", str(error))
        except Exception as error:  # a framework's own code may raise anything
            LOG.exception("%s %s: a shadow's answer cannot be used", pair.model, pair.shadow)
            self._totals.count(pair, "failed", f"{type(error).__name__}: {error}")


def outputs_of(response: PredictResponse) -> Mapping[str, Array]:
    """Return an answer's outputs; the answers of a V1 forecast one behind the other."""
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


def _size(copy: Copy) -> int:
    """Estimate the bytes that a copy keeps alive."""
    tensors = [tensor.values for tensor in copy.request.tensors or ()]
    rows = copy.request.rows or ()
    if isinstance(rows, NumberRows):
        tensors, rows = [rows.values], ()
    values = sum(len(row) if isinstance(row, (list, dict)) else 1 for row in rows)
    return sum(a.nbytes for a in [*tensors, *copy.response.outputs.values()]) + (
        values * _VALUE_BYTES
    )
