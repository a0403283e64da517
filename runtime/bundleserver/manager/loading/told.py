"""What is being loaded while nothing has been ready, told to whoever reports a process's end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bundleserver.documents.printable import few, printable
from bundleserver.manager.admission import VersionKey

Tell = Callable[[str], None]

_MOST_LOADS = 5


class ToldLoads:
    """Tells before each load what will have ended the process, if one does. For any thread."""

    def __init__(self, tell: Tell | None) -> None:
        """Set whom to tell; None is nobody."""
        self._tell = tell
        self._lock = threading.Lock()
        self._loading: list[VersionKey] = []

    @contextmanager
    def during(self, key: VersionKey) -> Iterator[None]:
        """Tell of a load in the block, and of its end after it."""
        with self._lock:
            self._loading.append(key)
            self._say()
        try:
            yield
        finally:
            with self._lock:
                self._loading.remove(key)
                self._say()

    def stop(self) -> None:
        """Tell of no load any more, as something is ready."""
        with self._lock:
            self._loading, loading = [], self._loading
            self._say()
            self._loading, self._tell = loading, None

    def _say(self) -> None:
        if self._tell is None:
            return
        loading = (
            f"model '{printable(it.model)}' version '{printable(it.version)}'"
            for it in self._loading
        )
        named = " and ".join(few(loading, _MOST_LOADS))
        self._tell(
            f"the process ended while it loaded {named}; its files crash a library or end the "
            "process, or need more memory than the container may have"
            if named
            else ""
        )
