"""The progress of every canary in memory, and its file, which a volume that hangs may keep.

Memory is the truth while serving. Each model's file is read once and then only written, by a thread
of that model's: nobody waits for it, neither another model nor the server's end.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bundleserver.serving.traffic.canary_state import Progress, read_progress, write_progress

LOG = logging.getLogger(__name__)

_Task = Callable[[], None]


class ModelThreads:
    """Runs each model's tasks in order, in a thread that lives as long as there are any.

    Where no thread can be started, tasks wait until the next ``run`` or ``retry``.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: dict[str, deque[_Task]] = {}
        self._working: set[str] = set()

    def run(self, model: str, task: _Task) -> None:
        """Run a task after those of the same model; never waits."""
        with self._lock:
            self._tasks.setdefault(model, deque()).append(task)
            try:
                self._begin(model)
            except (RuntimeError, MemoryError) as error:
                LOG.warning("%s: the progress of its canary waits for a thread: %s", model, error)

    def retry(self, model: str) -> None:
        """Run what waits for a thread."""
        # Without the lock, since nearly always nothing waits.
        if model in self._tasks and model not in self._working:
            with self._lock, contextlib.suppress(RuntimeError, MemoryError):
                self._begin(model)

    def _begin(self, model: str) -> None:
        if model in self._tasks and model not in self._working:
            work = threading.Thread(target=self._work, args=(model,), name="canary", daemon=True)
            work.start()
            self._working.add(model)

    def _work(self, model: str) -> None:
        while True:
            with self._lock:
                tasks = self._tasks[model]
                if not tasks:
                    del self._tasks[model]
                    self._working.discard(model)
                    return
                task = tasks.popleft()
            try:
                task()
            except Exception:
                LOG.exception("%s: the progress of its canary is not kept", model)


class ProgressStore:
    """What is known of each model's canaries. No call waits for a file."""

    def __init__(self, tell_demoted: Callable[[str, str, Progress], None]) -> None:
        """``tell_demoted`` hears of versions that another replica has demoted."""
        self._tell_demoted = tell_demoted
        self._lock = threading.Lock()
        self._threads = ModelThreads()
        # None while its file is read.
        self._known: dict[str, dict[str, Progress] | None] = {}
        self._unsaved: dict[str, dict[str, Progress]] = {}

    def find(self, model: str, root: Path | None, version: str, files: str) -> Progress | None:
        """Return a version's progress, also from before a restart, if its files are the same.

        None while that is not known yet.
        """
        with self._lock:
            if model not in self._known:
                self._known[model] = None if root else {}
                if root is not None:
                    self._threads.run(model, partial(self._read, model, root))
            known = self._known[model]
            if known is None:
                return None
            found = known.get(version)
            return found if found is not None and found.files == files else Progress(files)

    def retry(self, model: str) -> None:
        """Read or write what had to wait since no thread could be started."""
        self._threads.retry(model)

    def keep(self, model: str, root: Path | None, version: str, progress: Progress) -> None:
        """Keep a version's progress, so that a restart continues it."""
        with self._lock:
            self._remember(model, version, progress)
            if root is None:
                return
            # However long the volume hangs, one task with the newest waits for it.
            is_planned = model in self._unsaved
            self._unsaved.setdefault(model, {})[version] = progress
        if not is_planned:
            self._threads.run(model, partial(self._write, model, root))

    def _remember(self, model: str, version: str, progress: Progress) -> None:
        self._known[model] = {**(self._known.get(model) or {}), version: progress}

    def _read(self, model: str, root: Path) -> None:
        found: dict[str, Progress] = {}
        try:
            found = read_progress(root)
        finally:
            with self._lock:
                self._known[model] = found

    def _write(self, model: str, root: Path) -> None:
        with self._lock:
            unsaved = self._unsaved.pop(model)
        for version, progress in unsaved.items():
            found = write_progress(root, version, progress)
            if found == progress:
                continue
            with self._lock:
                newest = (self._known.get(model) or {}).get(version)
                if newest is None or newest.files == found.files:
                    self._remember(model, version, found)
            LOG.warning("%s %s: demoted by another replica: %s", model, version, found.reason)
            self._tell_demoted(model, version, found)
