"""How a server ends: the signals, and the manager as a server that may be stopping shows it."""

from __future__ import annotations

import signal
from types import FrameType
from typing import TYPE_CHECKING

from bundleserver.errors import NotReady
from bundleserver.serving.models import ServingManager

if TYPE_CHECKING:
    from bundleserver.manager import ModelStatus


SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
"""What ends a server."""


def end_at_signals() -> None:
    """Let a signal end the process with 0 until the server takes it up; for the main thread.

    Nothing is in flight yet, so this is the clean end that a signal means later.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(0)

    for number in SIGNALS:
        signal.signal(number, end)


class StoppableManager:
    """A manager whose readiness ends as soon as ``stopping`` is set; it lends as before.

    The requests in flight are answered to the end. What each of them asks goes straight to the
    manager: ``knows``, ``is_split``, ``traffic``, ``acquire``.
    """

    def __init__(self, manager: ServingManager) -> None:
        self.stopping = False
        self._manager = manager
        self.knows = manager.knows
        self.is_split = manager.is_split
        self.traffic = manager.traffic
        self.acquire = manager.acquire

    def models(self) -> tuple[str, ...]:
        """Name every model that is known, ready or not."""
        return self._manager.models()

    def why_no_models(self) -> str:
        """Say why no model is known, while none is."""
        return self._manager.why_no_models()

    def status(self, model: str) -> ModelStatus:
        """Say how one model and its versions stand."""
        return self._manager.status(model)

    def is_server_ready(self) -> bool:
        """Ask whether this process goes on answering what it was asked to serve."""
        return not self.stopping and self._manager.is_server_ready()

    def is_ready(self, model: str, version: str | None = None) -> bool:
        """Ask whether a model goes on answering."""
        return not self.stopping and self._manager.is_ready(model, version)

    def check_ready(self, model: str, version: str | None = None) -> None:
        """Raise ModelNotFound, VersionNotFound or NotReady unless the model goes on answering."""
        if self.stopping:
            raise NotReady(f"model '{model}'", "the server is stopping")
        self._manager.check_ready(model, version)

    def load(self, model: str, version: str | None = None, *, timeout_seconds: float) -> None:
        """Block until a model or version is READY, or raise the reason why not."""
        self._manager.load(model, version, timeout_seconds=timeout_seconds)

    def unload(self, model: str, version: str | None = None, *, timeout_seconds: float) -> None:
        """Block until a model or version is unloaded, or raise the reason why not."""
        self._manager.unload(model, version, timeout_seconds=timeout_seconds)

    def close(self) -> None:
        """Wait for the requests that hold a version, and close every one."""
        self._manager.close()
