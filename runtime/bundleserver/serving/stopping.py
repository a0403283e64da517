"""Stopping a server: signals, readiness while it stops, and its termination message."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import stat
import threading
from pathlib import Path
from types import FrameType

from bundleserver.documents.printable import printable
from bundleserver.errors import NotReady
from bundleserver.serving.models import ServingManager

LOG = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
"""The signals that stop a server."""


def end_at_signals() -> None:
    """Let a signal exit the process with 0 until the server handles it; for the main thread.

    Nothing is in flight yet, so this is a clean exit.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(0)

    for number in SIGNALS:
        signal.signal(number, end)


def end_now(code: int, why: str) -> None:
    """Exit the process without waiting for its threads."""
    LOG.warning("%s", why)
    logging.shutdown()
    os._exit(code)


TERMINATION_LOG = Path("/dev/termination-log")
"""Where Kubernetes has it, unless a container's ``terminationMessagePath`` says otherwise."""

_MOST_BYTES = 4096
"""Kubernetes shows no more of it, and of a longer file only the end."""


def write_termination_message(why: str, place: Path = TERMINATION_LOG) -> None:
    """Write why the process ends, on one line, to the file that Kubernetes shows it from.

    The kubelet makes that file; where there is none, none is created.
    """
    data = _shortened(printable(" ".join(why.split()), _MOST_BYTES))
    # It is a help to read, and must never be what ends the process.
    with contextlib.suppress(OSError, ValueError):
        descriptor = os.open(place, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, data)
        finally:
            os.close(descriptor)


class TerminationMessage:
    """The termination message of one process, before its end. Called from any thread.

    Until anything is ready it is what is being loaded, as a load may end the process; then why the
    process ends, as soon as that is decided: a drain may be cut short.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._is_noted = self._is_over = False

    def note_loads(self, what: str) -> None:
        """Write what is being loaded; an empty string takes that away again."""
        with self._lock:
            if not self._is_over and (what or self._is_noted):
                self._is_noted = bool(what)
                write_termination_message(what, self._place)

    def end(self, why: str = "") -> None:
        """Write why the process ends, for good; an empty string is an orderly end."""
        with self._lock:
            if not self._is_over and (why or self._is_noted):
                write_termination_message(why, self._place)
            self._is_over = True


def ignore_signals() -> None:
    """Let no signal change how a process ends that does so by itself; for the main thread."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _shortened(text: str) -> bytes:
    data, end = text.encode("utf-8", "backslashreplace"), "…".encode()
    if len(data) <= _MOST_BYTES:
        return data
    return data[: _MOST_BYTES - len(end)].decode("utf-8", "ignore").encode() + end


class StoppableManager:
    """A manager that is not ready while ``stopping`` is set; requests acquire as before."""

    def __init__(self, manager: ServingManager) -> None:
        self.stopping = False
        self._manager = manager
        self.models = manager.models
        self.knows = manager.knows
        self.why_no_models = manager.why_no_models
        self.status = manager.status
        self.is_split = manager.is_split
        self.traffic = manager.traffic
        self.acquire = manager.acquire
        self.close = manager.close

    def is_server_ready(self) -> bool:
        """Ask whether this process is ready and not stopping."""
        return not self.stopping and self._manager.is_server_ready()

    def is_ready(self, model: str, version: str | None = None) -> bool:
        """Ask whether a model is ready and the server not stopping."""
        return not self.stopping and self._manager.is_ready(model, version)

    def check_ready(self, model: str, version: str | None = None) -> None:
        """Raise ModelNotFound, VersionNotFound or NotReady unless ``is_ready``."""
        if self.stopping:
            raise NotReady(f"model '{model}'", "the server is stopping")
        self._manager.check_ready(model, version)

    def load(self, model: str, version: str | None = None, *, timeout_seconds: float) -> None:
        """Block until a model or version is READY; raises why it is not."""
        self._manager.load(model, version, timeout_seconds=timeout_seconds)

    def unload(self, model: str, version: str | None = None, *, timeout_seconds: float) -> None:
        """Block until a model or version is unloaded; raises why it is not."""
        self._manager.unload(model, version, timeout_seconds=timeout_seconds)
