"""What serving needs of the manager."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from bundleserver.bundle import Bundle
    from bundleserver.manager import ModelStatus, TrafficStatus


class ServingManager(Protocol):
    """The models of a process, and their versions. Called from any thread."""

    def models(self) -> tuple[str, ...]:
        """Name every model that is known, ready or not."""

    def knows(self, model: str) -> bool:
        """Ask whether there is a model of that name, ready or not."""

    def why_no_models(self) -> str:
        """Say why no model is known, while none is."""

    def status(self, model: str) -> ModelStatus:
        """Say how one model and its versions stand; raises ModelNotFound."""

    def is_server_ready(self) -> bool:
        """Ask whether this process answers what it was asked to serve."""

    def check_ready(self, model: str, version: str | None = None) -> None:
        """Raise ModelNotFound, VersionNotFound or NotReady unless it answers now."""

    def load(self, model: str, version: str | None = None, *, timeout_seconds: float) -> None:
        """Block until it is READY, or raise the reason why not."""

    def unload(self, model: str, version: str | None = None, *, timeout_seconds: float) -> None:
        """Block until it is unloaded, or raise the reason why not."""

    def acquire(self, model: str, version: str | None = None) -> AbstractContextManager[Bundle]:
        """Lend a READY version; raises ModelNotFound, VersionNotFound or NotReady."""

    def is_ready(self, model: str, version: str | None = None) -> bool:
        """Ask whether a model's default version, or the one named, answers now."""

    def is_split(self, model: str) -> bool:
        """Ask whether ``traffic`` has more to say than the default; raises ModelNotFound."""

    def traffic(self, model: str) -> TrafficStatus:
        """Say what decides who answers a request that names no version; raises ModelNotFound."""

    def close(self) -> None:
        """Wait for the requests that hold a version, and close every one."""
