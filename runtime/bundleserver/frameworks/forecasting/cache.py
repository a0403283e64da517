"""The cache of a forecaster.

A forecast depends on the fitted model and the request alone, so the same request has the same
answer, to the bit. The cache belongs to one predictor and is cleared with it.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from hashlib import blake2b
from threading import Lock

import numpy as np

from bundleserver.frameworks.forecasting.contract import ForecastRequest
from bundleserver.tensors import Array

MAX_ENTRIES = 256
MAX_BYTES = 16 * 1024 * 1024
"""The limits of one cache; the least recently used answer is evicted first."""

Answer = tuple[Array, ...]


@dataclass(eq=False)
class _Entry:
    """An answer of so many steps; ``size`` in bytes is 0 until it is computed."""

    steps: int
    answer: Future[Answer] = field(default_factory=Future)
    size: int = 0


class ForecastCache:
    """Answers by request, least recently used ones evicted; safe for many threads.

    With ``prefixes``, a forecast by ``horizon`` without regressors is answered from a longer one:
    only for models whose first steps do not depend, in any bit, on how many steps follow.
    """

    def __init__(
        self, *, prefixes: bool, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES
    ) -> None:
        self._prefixes = prefixes
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: OrderedDict[object, _Entry] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def answer(self, request: ForecastRequest, compute: Callable[[], Sequence[Array]]) -> Answer:
        """Return the answer to a request, computed once however many threads ask at a time.

        The arrays are read-only and shared between callers. An error is not cached.
        """
        key, steps = self._key(request), request.steps
        entry, mine = self._claim(key, steps)
        if mine:
            return self._fill(key, entry, compute)
        if entry.answer.exception() is not None:  # waits for the thread that computes
            return _frozen(compute())
        return tuple(array[:steps] for array in entry.answer.result())

    def has(self, request: ForecastRequest) -> bool:
        """Ask whether ``answer`` would be a cache hit."""
        entry = self._entries.get(self._key(request))
        return entry is not None and entry.steps >= request.steps and entry.size > 0

    def clear(self) -> None:
        """Evict every answer."""
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    def _key(self, request: ForecastRequest) -> object:
        prefix = self._prefixes and request.ds is None and not request.regressors
        return (
            None if prefix else request.steps,
            None if request.ds is None else _digest(repr(request.ds).encode()),
            None if request.history is None else _digest(request.history.tobytes()),
            request.history_start,
            tuple(_digest(values.tobytes()) for values in request.regressors.values()),
            request.level,
        )

    def _claim(self, key: object, steps: int) -> tuple[_Entry, bool]:
        """Find an entry that is long enough, or add one; return whether the caller must fill it."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and entry.steps >= steps:
                self._entries.move_to_end(key)
                return entry, False
            self._drop(key)
            entry = self._entries[key] = _Entry(steps)
            return entry, True

    def _fill(self, key: object, entry: _Entry, compute: Callable[[], Sequence[Array]]) -> Answer:
        try:
            answer = _frozen(compute())
        except BaseException as error:
            with self._lock:
                if self._entries.get(key) is entry:
                    self._drop(key)
            entry.answer.set_exception(error)
            raise
        with self._lock:
            if self._entries.get(key) is entry:
                entry.size = sum(_size(array) for array in answer)
                self._bytes += entry.size
                self._shrink(key)
        entry.answer.set_result(answer)
        return answer

    def _shrink(self, latest: object) -> None:
        if self._entries[latest].size > self._max_bytes:
            self._drop(latest)
        while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: object) -> None:
        entry = self._entries.pop(key, None)
        self._bytes -= 0 if entry is None else entry.size


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=32).digest()


def _frozen(arrays: Sequence[Array]) -> Answer:
    """Copy arrays and make them read-only."""
    copies = tuple(np.array(array) for array in arrays)
    for copy in copies:
        copy.setflags(write=False)
    return copies


def _size(array: Array) -> int:
    if array.dtype != object:
        return array.nbytes
    return array.nbytes + sum(sys.getsizeof(value) for value in array.flat)
