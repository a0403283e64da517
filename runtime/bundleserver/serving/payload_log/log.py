"""The payload log's queue, which never waits, and its thread, which writes what is in it."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque
from typing import TYPE_CHECKING

from bundleserver.serving.payload_log.entries import (
    QUEUE_BYTES,
    Entry,
    request_bytes,
    response_bytes,
)
from bundleserver.serving.payload_log.log_options import LogOptions
from bundleserver.serving.payload_log.metrics import LogMetrics

if TYPE_CHECKING:
    from bundleserver.serving.payload_log.writing import Writer

LOG = logging.getLogger(__name__)

MOST_QUEUED = 20_000
"""Requests that wait to be written."""

PAUSE_SECONDS = 0.5
"""How long the thread collects requests, since many at once are cheaper than one by one."""

# Low, but not the lowest: while this thread has Python's lock all others wait for it.
_PRIORITY = 10
_MOST_AT_ONCE = 500
_BYTES_AT_ONCE = 4 * 2**20


class PayloadLog:
    """Takes requests on the event loop, and has them written by a thread of its own.

    Attributes:
        sample: the share of requests that are to be offered.
        columns: the inputs to log; empty for none, then requests need not be kept.
    """

    def __init__(self, options: LogOptions, writer: Writer, metrics: LogMetrics) -> None:
        self.sample, self.columns = options.sample, options.columns
        self.metrics = metrics
        self._writer = writer
        self._queue: deque[tuple[Entry, int]] = deque()
        self._queued_bytes, self._under_way = 0, 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="payload-log", daemon=True)

    @property
    def free_bytes(self) -> int:
        """The bytes for which the queue has room."""
        return QUEUE_BYTES - self._queued_bytes

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def offer(self, entry: Entry) -> None:
        """Queue a request, or drop and count it; never waits and never fails."""
        if entry.response is None:
            entry = entry._replace(request=entry.request._replace(rows=None, tensors=None))
            size = request_bytes(entry.request)
        else:
            size = request_bytes(entry.request) + response_bytes(entry.response)
        with self._lock:
            is_full = len(self._queue) >= MOST_QUEUED or self._queued_bytes + size > QUEUE_BYTES
            is_taken = not is_full and not self._is_stopping
            if is_taken:
                self._queue.append((entry, size))
                self._queued_bytes += size
        if not is_taken:
            self.metrics.dropped("queue_full" if is_full else "stopping")

    def stop(self, timeout_seconds: float) -> None:
        """Write what is in the queue and complete every file, within the time that there is."""
        with self._lock:
            self._is_stopping = True
        self._wake.set()
        if not self._thread.ident:
            return
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            with self._lock:
                lost = len(self._queue) + self._under_way
            LOG.warning(
                "payload log: '%s' takes more than the %.1f s that are left of the grace period; "
                "the last %d requests are lost",
                self._writer.directory,
                timeout_seconds,
                lost + self._writer.waiting(),
            )

    def _run(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            # On Linux the priority is per thread.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _PRIORITY)
        self._writer.begin()
        while True:
            self._wake.wait(PAUSE_SECONDS)
            is_last = self._is_stopping
            try:
                while self._write_some():
                    pass
                self._writer.rotate(everything=is_last)
            except Exception:
                # A thread that ends would leave the queue full, and the log empty.
                LOG.exception("payload log: unexpected error")
            if is_last:
                return

    def _write_some(self) -> bool:
        """Have the next requests turned into tables; False if there are none.

        They count until they are, as they are still held. Few at a time, as they are held twice.
        """
        taken: list[Entry] = []
        total = 0
        with self._lock:
            while self._queue and len(taken) < _MOST_AT_ONCE and total < _BYTES_AT_ONCE:
                entry, size = self._queue.popleft()
                taken.append(entry)
                total += size
            self._under_way = len(taken)
        try:
            if taken:
                self._writer.add(taken)
        finally:
            with self._lock:
                self._queued_bytes -= total
                self._under_way = 0
        return bool(taken)
