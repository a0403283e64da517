"""Open bundles and their leases: a bundle is closed by nobody while a request has a lease."""

from __future__ import annotations

import ctypes
import gc
import logging
import threading
from collections.abc import Callable, Mapping
from functools import lru_cache

from bundleserver.bundle import Bundle
from bundleserver.tensors.signature import Signature
from bundleserver.versions import Version

LOG = logging.getLogger(__name__)


class Loaded:
    """One open bundle and its leases; a lease ends with its ``with`` block.

    Whoever acquires a lease has counted it in ``in_flight``, under the manager's lock. The lock is
    held around ``claim_to_close`` too.

    Attributes:
        in_flight: the leases that have not been released.
        is_withdrawn: no new lease is given.
        is_closing: somebody closes it, or has; that is final.
    """

    def __init__(
        self,
        bundle: Bundle,
        version: Version,
        fingerprint: str,
        load_seconds: float,
        loaded_at: float,
        lock: threading.Lock,
        on_drained: Callable[[], None],
    ) -> None:
        """Take what was opened, the manager's lock, and whom the last lease of a drain tells."""
        self.bundle = bundle
        self.version = version
        self.fingerprint = fingerprint
        self.load_seconds = load_seconds
        self.loaded_at = loaded_at
        self.metadata: Mapping[str, object] = bundle.metadata()
        self.signature: Signature = bundle.signature
        self.in_flight = 0
        self.is_withdrawn = False
        self.is_closing = False
        self._lock = lock
        self._on_drained = on_drained

    def __enter__(self) -> Bundle:
        """Return the bundle, whose lease was counted when it was acquired."""
        return self.bundle

    def __exit__(self, *_: object) -> None:
        """Release the lease, whatever has happened."""
        with self._lock:
            self.in_flight -= 1
            is_drained = self.is_withdrawn and not self.in_flight
        if is_drained:
            self._on_drained()

    def claim_to_close(self) -> bool:
        """Ask to be the one who closes; nobody is while there is a lease, and only one ever."""
        is_free = self.in_flight == 0 and not self.is_closing
        self.is_closing = self.is_closing or is_free
        return is_free

    def close(self) -> None:
        """Close the bundle, called by whoever claimed it, without the lock."""
        try:
            self.bundle.close()
        except Exception:  # a framework's own code may raise anything
            LOG.exception("%s %s: closing it failed", self.bundle.model, self.bundle.version)


_THRESHOLDS = gc.get_threshold()
_WHILE_STARTING = 100_000


def collect_rarely() -> None:
    """Let a process start without looking for garbage all the time, which takes a fifth of it.

    Imports and models make many objects and hardly any garbage. The first load ends this.
    """
    gc.set_threshold(_WHILE_STARTING, *_THRESHOLDS[1:])


def settle_memory() -> None:
    """Leave what is there now out of the collections to come, which hold up every request."""
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)


def give_memory_back() -> None:
    """Return to the operating system what closed bundles have left behind, where it can be done."""
    was_settled = gc.get_freeze_count() > 0
    # What was settled may be the garbage of now.
    gc.unfreeze()
    gc.collect()
    if was_settled:
        gc.freeze()
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@lru_cache(maxsize=1)
def _malloc_trim() -> ctypes._NamedFuncPointer | None:
    # Only glibc has it, and glibc is what keeps freed memory for itself.
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
