"""The manager's interface to serving."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from bundleserver.bundle import Bundle
    from bundleserver.manager import ModelStatus, TrafficStatus


class ServingManager(Protocol):
    """The models of a process, and their versions. Called from any thread."""

    def models(self) -> tuple[str, ...]:
        """Return the name of every model, ready or not."""

    def knows(self, model: str) -> bool:
        """Ask whether there is a model of that name, ready or not."""

    def why_no_models(self) -> str:
        """Return why there is no model, if there is none."""

    def status(self, model: str) -> ModelStatus:
        """Return the state of one model and its versions; raises ModelNotFound."""

    def is_server_ready(self) -> bool:
        """Ask whether everything that this process serves is ready."""

    def check_ready(self, model: str, version: str | None = None) -> None:
        """Raise ModelNotFound, VersionNotFound or NotReady unless it is ready."""

    def load(self, model: str, version: str | None = None, *, timeout_seconds: float) -> None:
        """Block until it is READY; raises why it is not."""

    def unload(self, model: str, version: str | None = None, *, timeout_seconds: float) -> None:
        """Block until it is unloaded; raises why it is not."""

    def acquire(self, model: str, version: str | None = None) -> AbstractContextManager[Bundle]:
        """Acquire a READY version; raises ModelNotFound, VersionNotFound or NotReady."""

    def is_ready(self, model: str, version: str | None = None) -> bool:
        """Ask whether a model's default version, or the one named, is ready."""

    def is_split(self, model: str) -> bool:
        """Ask whether there is a split, canary or shadow; raises ModelNotFound."""

    def traffic(self, model: str) -> TrafficStatus:
        """Return what selects the version of a request that names none; raises ModelNotFound."""

    def close(self) -> None:
        """Wait for the leases of all versions, and close them."""
