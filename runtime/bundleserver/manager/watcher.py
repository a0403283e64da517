"""The thread that polls for versions, and loads and unloads them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from bundleserver.manager import Manager

LOG = logging.getLogger(__name__)

SETTLING_SECONDS = 1.0
"""The poll interval while a model or an order waits for files that are being written."""

REMINDER_SECONDS = 60.0
"""How often the log says again what is waited for: the first line may be long ago."""


class Watcher:
    """Reconciles a manager: at the start, at every poll interval, and when there is work.

    A thread that hangs in a load does not prevent the process from exiting.
    """

    def __init__(
        self,
        manager: Manager,
        poll_interval_seconds: float = 5.0,
        on_first_failure: Callable[[str], None] | None = None,
        reminder_seconds: float = REMINDER_SECONDS,
    ) -> None:
        """Set what to reconcile.

        Args:
            manager: its models.
            poll_interval_seconds: how often it polls.
            on_first_failure: called once, with the reason, if the first load has failed for good.
            reminder_seconds: how often the log says what is waited for.
        """
        self._manager = manager
        self._poll_interval_seconds = poll_interval_seconds
        self._on_first_failure = on_first_failure
        self._reminder_seconds = reminder_seconds
        self._reminded_at = time.monotonic()
        self._is_in_doubt = False
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        """Start the thread, which polls at once."""
        self._thread.start()

    def stop(self, timeout_seconds: float = 10.0) -> bool:
        """Stop the thread, and wait for loads in progress; returns False if one goes on.

        A load that hangs, past its deadline, is not waited for.
        """
        deadline = time.monotonic() + timeout_seconds
        self._is_stopping.set()
        self._manager.wake()
        if self._thread.ident is None:
            return True
        self._thread.join(timeout_seconds)
        is_idle = self._manager.wait_for_loads(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive() or not is_idle:
            LOG.warning("a load is still in progress; stopping without it")
        return is_idle and not self._thread.is_alive()

    def _run(self) -> None:
        polled_at, is_due = 0.0, True
        while not self._is_stopping.is_set():
            try:
                self._manager.reconcile(poll=is_due)
                is_in_doubt = self._has_failed(is_due)
            except BaseException:  # a dead watcher would serve stale versions
                LOG.exception("polling the model source failed; retrying at the next poll")
                is_in_doubt = False
            if is_due:
                polled_at = time.monotonic()
            left = polled_at + self._pause_seconds() - time.monotonic()
            is_due = is_in_doubt or left <= 0 or not self._manager.wait_for_work(left)

    def _has_failed(self, has_polled: bool) -> bool:
        """Tell whoever asked of a first load that has failed; returns True if a poll shall say so.

        Only one that began after the last try tells that its files have not changed since.
        """
        if self._on_first_failure is None:
            self._remind()
            return False
        why = self._manager.first_load.why_failed()
        was_in_doubt, self._is_in_doubt = self._is_in_doubt, bool(why)
        if not why:
            self._remind()
        elif has_polled and was_in_doubt:
            tell, self._on_first_failure = self._on_first_failure, None
            tell(why)
            return False
        return bool(why)

    def _remind(self) -> None:
        now = time.monotonic()
        if now - self._reminded_at < self._reminder_seconds:
            return
        self._reminded_at = now
        why = self._manager.first_load.why_waiting()
        if not why and not self._manager.models():
            why = self._manager.why_no_models()
        if why:
            LOG.warning("%s", why)

    def _pause_seconds(self) -> float:
        is_awaited = self._on_first_failure is not None and self._manager.first_load.is_retried()
        if is_awaited or self._manager.is_settling():
            return min(SETTLING_SECONDS, self._poll_interval_seconds)
        return self._poll_interval_seconds
