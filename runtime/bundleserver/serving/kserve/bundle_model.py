"""A directory of versions as one model of any ``kserve.ModelServer``."""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path
from typing import NoReturn

# First of all: it reads the command line, which our own server hides from it (``sdk``).
import kserve  # noqa: F401

from bundleserver.manager import Manager
from bundleserver.manager.watcher import Watcher
from bundleserver.serving.cpus import limit_library_threads
from bundleserver.serving.execution.answering import ServedModels
from bundleserver.serving.execution.thread_pool import ThreadPool
from bundleserver.serving.kserve.model import ManagedModel
from bundleserver.serving.metrics.requests import RequestMetrics
from bundleserver.sources.directory import DirectorySource
from bundleserver.versions import VersionPolicy

_LOAD_THREADS = 4


class BundleModel(ManagedModel):
    """The versions in a directory as a ``kserve.Model``, to use as it is or as a base class.

    The default version answers, chosen as ``bundleserver serve`` chooses it; new versions are
    loaded while it serves. Subclasses may override ``preprocess`` and ``postprocess``.
    """

    def __init__(
        self,
        name: str,
        model_dir: str | Path,
        *,
        version_policy: str = "latest",
        poll_interval_seconds: float = 5.0,
        device: str = "cpu",
    ) -> None:
        """Say what to serve; nothing is read before ``start``.

        Args:
            name: the model's name in requests.
            model_dir: a directory of versions or one bundle; it may be empty, or not there yet.
            version_policy: ``latest``, ``latest:N``, ``all`` or ``specific:v1,v3``, where no
                ``serving.json`` says otherwise.
            poll_interval_seconds: how often the directory is read again.
            device: where torch models run: ``cpu``, ``cuda`` or ``auto``.

        Raises:
            ValueError: ``version_policy`` is none of these.
        """
        manager = Manager(
            DirectorySource(Path(model_dir), name),
            model_name=name,
            policy=VersionPolicy.parse(version_policy),
            device=device,
            load_threads=_LOAD_THREADS,
        )
        pool, metrics = _shared()
        super().__init__(name, manager, served=ServedModels(manager, pool, metrics))
        self._watcher = Watcher(manager, poll_interval_seconds)

    def start(self) -> None:
        """Begin to load and reload versions, in threads; ``kserve.ModelServer`` calls this once."""
        self._watcher.start()

    def stop(self) -> None:
        """Begin to close every version once its requests are answered; there is no way back.

        kserve 0.21 calls this on the event loop, which those requests need, so it does not wait;
        the process does, before it ends.
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
    """Return the threads and the metrics of all models in this process, as ``serve`` has them."""
    pool = ThreadPool()
    # Before a model is opened: a library that comes with it reads the number when it is imported.
    limit_library_threads(pool.library_threads)
    return pool, RequestMetrics()
