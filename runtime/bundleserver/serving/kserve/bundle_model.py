"""A directory of versions as one model of any ``kserve.ModelServer``."""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path
from typing import NoReturn

# First of all: it parses the command line, which our own server hides from it (``sdk``).
import kserve  # noqa: F401

from bundleserver.manager import Manager
from bundleserver.manager.watcher import Watcher
from bundleserver.serving.cpus import limit_library_threads
from bundleserver.serving.execution.answering import ServedModels
from bundleserver.serving.execution.limits import (
    MAX_ANSWER_VALUES,
    REQUEST_TIMEOUT_SECONDS,
    Limits,
)
from bundleserver.serving.execution.thread_pool import ThreadPool
from bundleserver.serving.kserve.model import ManagedModel
from bundleserver.serving.metrics.requests import RequestMetrics
from bundleserver.sources.directory import DirectorySource
from bundleserver.versions import VersionPolicy

_LOAD_THREADS = 4


class BundleModel(ManagedModel):
    """The versions in a directory as a ``kserve.Model``, for use directly or as a base class.

    The default version answers, selected as in ``bundleserver serve``; new versions are loaded
    while it serves. Subclasses may override ``preprocess`` and ``postprocess``.
    """

    def __init__(
        self,
        name: str,
        model_dir: str | Path,
        *,
        version_policy: str = "latest",
        poll_interval_seconds: float = 5.0,
        device: str = "cpu",
        max_answer_values: int = MAX_ANSWER_VALUES,
        request_timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> None:
        """Configure the model; nothing is loaded before ``start``.

        Args:
            name: the model's name in requests.
            model_dir: a directory of versions or one bundle; it may be empty or missing.
            version_policy: ``latest``, ``latest:N``, ``all`` or ``specific:v1,v3``, unless
                ``serving.json`` has one.
            poll_interval_seconds: how often the directory is polled.
            device: where torch models run: ``cpu``, ``cuda`` or ``auto``.
            max_answer_values: values of all outputs of one request, as the flag of ``serve``.
            request_timeout_seconds: how long a request may take, as the flag of ``serve``.

        Raises:
            ValueError: ``version_policy`` is not valid.
        """
        manager = Manager(
            DirectorySource(Path(model_dir), name),
            model_name=name,
            policy=VersionPolicy.parse(version_policy),
            device=device,
            load_threads=_LOAD_THREADS,
        )
        pool, metrics = _shared()
        limits = Limits(max_answer_values, request_timeout_seconds)
        super().__init__(name, manager, served=ServedModels(manager, pool, metrics, limits=limits))
        self._watcher = Watcher(manager, poll_interval_seconds)

    def start(self) -> None:
        """Start to load and reload versions, in threads; ``kserve.ModelServer`` calls this once."""
        self._watcher.start()

    def stop(self) -> None:
        """Start to drain and close every version; it cannot be started again.

        kserve 0.21 calls this on the event loop, which requests in flight need, so it does not
        wait; the process does, before it exits.
        """
        self.ready = False
        threading.Thread(target=self._close, name=f"close {self.name}").start()

    def __reduce__(self) -> NoReturn:
        # kserve 0.21 pickles its models for the worker processes that it starts.
        raise TypeError(
            f"model '{self.name}' cannot be sent to another process; run kserve.ModelServer with "
            "workers=1, or use: bundleserver serve --workers N"
        )

    def _close(self) -> None:
        self._manager.close()
        self._watcher.stop()


@cache
def _shared() -> tuple[ThreadPool, RequestMetrics]:
    """Return the thread pool and the metrics of all models in this process."""
    pool = ThreadPool()
    # Before a model is loaded: libraries use the limit when they are imported.
    limit_library_threads(pool.library_threads)
    return pool, RequestMetrics()
