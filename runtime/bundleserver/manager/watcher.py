"""The one thread that looks for versions, has them loaded and closes them."""

from __future__ import annotations

import logging
import threading
import time

from bundleserver.manager import Manager

LOG = logging.getLogger(__name__)

SETTLING_SECONDS = 1.0
"""The pause between two looks while somebody waits for files that seem to be still written."""


class Watcher:
    """Reconciles a manager at once, at every poll, and whenever something is ordered by hand.

    Started and stopped by whoever serves; a thread that hangs in a load does not keep the process.
    """

    def __init__(self, manager: Manager, poll_interval_seconds: float = 5.0) -> None:
        self._manager = manager
        self._poll_interval_seconds = poll_interval_seconds
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        """Begin to watch, with a first look at once."""
        self._thread.start()

    def wake(self) -> None:
        """Look now instead of at the next poll."""
        self._manager.wake()

    def stop(self, timeout_seconds: float = 10.0) -> bool:
        """Watch no more, and wait for the work in hand; returns whether it has ended in time."""
        deadline = time.monotonic() + timeout_seconds
        self._is_stopping.set()
        self._manager.wake()
        if self._thread.ident is None:
            return True
        self._thread.join(timeout_seconds)
        is_idle = self._manager.wait_for_loads(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive() or not is_idle:
            LOG.warning("a load is still at work after %g s", timeout_seconds)
        return is_idle and not self._thread.is_alive()

    def _run(self) -> None:
        while not self._is_stopping.is_set():
            try:
                self._manager.reconcile()
            except (Exception, SystemExit):  # a dead watcher would serve stale versions for ever
                LOG.exception("a look at the models failed; the next one follows")
            self._manager.wait_for_work(self._pause_seconds())

    def _pause_seconds(self) -> float:
        if self._manager.is_settling():
            return min(SETTLING_SECONDS, self._poll_interval_seconds)
        return self._poll_interval_seconds
