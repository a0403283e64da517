"""Exports spans in a thread of its own: requests never wait for a collector."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from bundleserver.spans import Span

LOG = logging.getLogger(__name__)

Export = Callable[[Sequence[Span]], str | None]
"""Exports spans, and returns why that failed; None if it did not."""


class Exporting:
    """A bounded queue, and the thread that empties it.

    What does not fit is dropped and counted. An outage is one line in the log, and so is its end.

    Attributes:
        dropped: how many spans were not exported.
    """

    def __init__(
        self,
        export: Export,
        shut_down: Callable[[], None],
        *,
        queue: int = 2048,
        batch: int = 512,
        delay_seconds: float = 5.0,
    ) -> None:
        self.dropped = 0
        self._export, self._shut_down = export, shut_down
        self._most, self._batch, self._delay_seconds = queue, batch, delay_seconds
        self._waiting: deque[Span] = deque()
        self._wake, self._stops = threading.Event(), False
        self._is_out = False
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def take(self, span: Span) -> None:
        """Queue a span that has ended. From any thread; never waits."""
        waiting = self._waiting
        if len(waiting) >= self._most:
            self.dropped += 1
            return
        waiting.append(span)
        if len(waiting) >= self._batch and not self._wake.is_set():
            self._wake.set()

    def close(self, timeout_seconds: float) -> None:
        """Export what waits, within that time, and end the thread."""
        deadline = time.monotonic() + timeout_seconds
        self._stops = True
        self._wake.set()
        self._thread.join(timeout_seconds)
        # Ends a call that waits for its collector; the thread is a daemon in any case.
        self._shut_down()
        self._thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        while True:
            self._wake.wait(self._delay_seconds)
            self._wake.clear()
            while self._waiting:
                self._export_batch()
            if self._stops:
                return

    def _export_batch(self) -> None:
        waiting = self._waiting
        batch = [waiting.popleft() for _ in range(min(len(waiting), self._batch))]
        try:
            why = self._export(batch)
        except Exception as error:  # noqa: BLE001  # a library's own; the next batch may do
            why = f"{type(error).__name__}: {error}"
        if why is not None:
            self.dropped += len(batch)
            if not self._is_out:
                LOG.warning("traces cannot be exported: %s; dropping spans until they can", why)
        elif self._is_out:
            LOG.info("traces are exported again; %d spans were dropped so far", self.dropped)
        self._is_out = why is not None
