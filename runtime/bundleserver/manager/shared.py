"""What request threads and the watcher's thread share, under one lock."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from bundleserver.errors import ModelNotFound, NotReady
from bundleserver.manager.configuration import Note
from bundleserver.manager.gate import Gate
from bundleserver.manager.leases import Loaded
from bundleserver.manager.models import ModelRecord
from bundleserver.manager.orders import Order
from bundleserver.manager.traffic_memo import TrafficMemo
from bundleserver.versions.lifecycle import State

LOG = logging.getLogger("bundleserver.manager")


@dataclass
class Shared:
    """The manager's state; its lock is held for assignments only, never during I/O.

    Attributes:
        lock: the one lock.
        changed: the news that something under the lock has changed; holding it is holding the lock.
        work: set when the watcher's thread should look before its next poll.
        gate: lets an open version answer, where other processes serve the same.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    changed: threading.Condition = field(init=False)
    work: threading.Event = field(default_factory=threading.Event)
    models: dict[str, ModelRecord] = field(default_factory=dict)
    orders: list[Order] = field(default_factory=list)
    failures: Counter[tuple[str, State]] = field(default_factory=Counter)
    traffic: TrafficMemo = field(default_factory=TrafficMemo)
    gate: Gate = field(default_factory=Gate)
    is_closing: bool = False
    last_poll_at: float | None = None
    last_poll_error: str | None = None

    def __post_init__(self) -> None:
        self.changed = threading.Condition(self.lock)

    @property
    def stale_since(self) -> float | None:
        """When the source was last read, while it cannot be read now; None while it can."""
        return None if self.last_poll_error is None else self.last_poll_at

    def find(self, model: str) -> ModelRecord:
        """Return the record of a model; called under the lock.

        Raises:
            ModelNotFound: there is none.
            NotReady: there is none yet, and the source cannot be read.
        """
        record = self.models.get(model)
        if record is not None:
            return record
        if self.last_poll_error is not None and not self.models:
            raise NotReady(f"model '{model}'", self.last_poll_error)
        raise ModelNotFound(model, sorted(self.models))

    def held(self) -> int:
        """Count the requests that hold a version that drains; called under the lock."""
        return sum(
            loaded.in_flight
            for model in self.models.values()
            for record in model.versions.values()
            for loaded in record.draining
        )

    def note_drained(self) -> None:
        """Wake whoever waits for the last lease of a version; called without the lock."""
        with self.changed:
            self.changed.notify_all()
        self.work.set()

    def take_notes(self) -> list[Note]:
        """Return what models have to say in the log; called under the lock."""
        return [note for model in self.models.values() for note in model.take_notes()]


def claim_drained(models: Sequence[ModelRecord]) -> list[tuple[ModelRecord, Loaded]]:
    """Return the bundles that nobody holds any more, to be closed by the caller; under the lock."""
    return [
        (model, loaded)
        for model in models
        for record in model.versions.values()
        for loaded in record.draining
        if loaded.claim_to_close()
    ]


def log_notes(notes: Sequence[Note]) -> None:
    """Write what has come together under the lock; called without it."""
    for level, line in notes:
        LOG.log(level, "%s", line)


def shutting_down(model: str) -> NotReady:
    """Say that nothing is lent or loaded any more."""
    return NotReady(f"model '{model}'", "the server is shutting down", 1)
