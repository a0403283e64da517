"""Open bundles and their leases: a bundle is not closed while a request has a lease."""

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
    """One open bundle and its leases; the end of a ``with`` block releases a lease.

    Leases are counted in ``in_flight`` when they are acquired, under the manager's lock, which is
    also held around ``claim_to_close``.

    Attributes:
        in_flight: the leases that have not been released.
        is_withdrawn: no new leases can be acquired.
        signature: its signature, completed by what came out of its first call.
        probe_problem: why it probably cannot answer; an empty string if it can.
        signature_problem: why its files' signature does not verify; an empty string if it does, or
            nobody looked.
        mismatches: the libraries that are other ones than those that it was saved with.
        interface: what its clients rely on.
        breaks_of: why clients of what answered before it break, by the label that they ask for;
            an empty label for those who ask for none.
        is_closing: it is being closed or was closed.
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
        """Set up an open bundle; ``on_drained`` is called when its last lease is released."""
        self.bundle = bundle
        self.version = version
        self.fingerprint = fingerprint
        self.load_seconds = load_seconds
        self.loaded_at = loaded_at
        self.metadata: Mapping[str, object] = bundle.metadata()
        self.signature: Signature = bundle.probe.signature
        self.probe_problem = bundle.probe.problem
        self.signature_problem = bundle.verification.problem
        self.mismatches = bundle.mismatches
        self.interface = bundle.interface()
        self.breaks_of: dict[str, str] = {}
        self.in_flight = 0
        self.is_withdrawn = False
        self.is_closing = False
        self._lock = lock
        self._on_drained = on_drained

    @property
    def breaks(self) -> str:
        """Why clients of what answered before it break; an empty string if none do."""
        return "; ".join(filter(None, self.breaks_of.values()))

    def __enter__(self) -> Bundle:
        """Return the bundle; its lease was counted when it was acquired."""
        return self.bundle

    def __exit__(self, *_: object) -> None:
        """Release the lease."""
        with self._lock:
            self.in_flight -= 1
            is_drained = self.is_withdrawn and not self.in_flight
        if is_drained:
            self._on_drained()

    def claim_to_close(self) -> bool:
        """Return True once, to the first caller after the last lease: that one closes it."""
        is_free = self.in_flight == 0 and not self.is_closing
        self.is_closing = self.is_closing or is_free
        return is_free

    def close(self) -> None:
        """Close the bundle, after ``claim_to_close``, without the lock."""
        try:
            self.bundle.close()
        except BaseException:  # a framework may raise anything, and exit
            LOG.exception(
                "%s %s: unexpected error while closing", self.bundle.model, self.bundle.version
            )


_THRESHOLDS = gc.get_threshold()
_WHILE_STARTING = 100_000


def collect_rarely() -> None:
    """Collect garbage rarely during a start, which makes it a fifth faster; ends with a load.

    Imports and models create many objects and hardly any garbage.
    """
    gc.set_threshold(_WHILE_STARTING, *_THRESHOLDS[1:])


def settle_memory() -> None:
    """Exclude all current objects from garbage collection, which delays requests."""
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)


def give_memory_back() -> None:
    """Return the memory of closed bundles to the operating system, if possible."""
    was_settled = gc.get_freeze_count() > 0
    # Frozen objects may be garbage by now.
    gc.unfreeze()
    gc.collect()
    if was_settled:
        gc.freeze()
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@lru_cache(maxsize=1)
def _malloc_trim() -> ctypes._NamedFuncPointer | None:
    # Only glibc has it, and only glibc retains freed memory.
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
