"""What request threads and the watcher's thread share, under one lock."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from bundleserver.errors import ModelNotFound, NotReady
from bundleserver.manager.admission import Admission, Outcomes
from bundleserver.manager.models import ModelRecord
from bundleserver.manager.orders import Order
from bundleserver.manager.status import TrafficMemo, outcomes
from bundleserver.versions.lifecycle import State

LOG = logging.getLogger("bundleserver.manager")


@dataclass
class Shared:
    """The manager's state; its lock is held for assignments only, never during I/O.

    Attributes:
        changed: the condition of the lock, notified of every change.
        refuses_breaks: a version that breaks clients of the one that serves is FAILED.
        work: set when there is work for the watcher's thread before its next poll.
        has_served: a version of some model has been ready.
        has_been_ready: the process has been.
        expected: the models that it had then; one that comes later does not make it unready.
        awaited: what empty directories wait for that may become models, by their names.
        untried: models that went away before each of their versions was tried.
        is_asked: the process was started for one model.
        is_strict: with several models, it is ready only when all are.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    changed: threading.Condition = field(init=False)
    work: threading.Event = field(default_factory=threading.Event)
    models: dict[str, ModelRecord] = field(default_factory=dict)
    orders: list[Order] = field(default_factory=list)
    failures: Counter[tuple[str, State]] = field(default_factory=Counter)
    traffic: TrafficMemo = field(default_factory=TrafficMemo)
    admission: Admission = field(default_factory=Admission)
    refuses_breaks: bool = False
    is_closing: bool = False
    has_served: bool = False
    has_been_ready: bool = False
    expected: set[str] = field(default_factory=set)
    awaited: Mapping[str, str] = field(default_factory=dict)
    untried: set[str] = field(default_factory=set)
    is_asked: bool = False
    is_strict: bool = False
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

    def in_flight(self) -> int:
        """Count the in-flight requests of draining versions; called under the lock."""
        return sum(
            loaded.in_flight
            for model in self.models.values()
            for record in model.versions.values()
            for loaded in record.draining
        )

    def note_drained(self) -> None:
        """Notify those that wait for a version's last lease; called without the lock."""
        self.announce()
        self.work.set()

    def manual_orders(self) -> Mapping[str, Mapping[str, object]]:
        """Return the manual loads and unloads that are in effect by model, ready for JSON."""
        with self.changed:
            found = {name: model.manual.to_json() for name, model in self.models.items()}
        return {name: orders for name, orders in found.items() if orders}

    def outcomes(self, known: Outcomes | None = None, timeout_seconds: float = 0.0) -> Outcomes:
        """Return the outcomes of loads; wait for them to differ from ``known``, or the timeout."""
        with self.changed:
            self.changed.wait_for(lambda: outcomes(self.models) != known, timeout_seconds)
            return outcomes(self.models)

    def reconsider(self) -> None:
        """Ask the admission again, and load versions that it no longer refuses."""
        with self.change():
            for model in self.models.values():
                model.reconsider()
        self.work.set()

    def carry_out(self, order: Order, timeout_seconds: float) -> None:
        """Pass an order to the watcher's thread, and wait until it is fulfilled.

        Raises:
            BundleServerError: why it was not fulfilled.
        """
        with self.changed:
            if self.is_closing:
                raise shutting_down(order.model)
            self.orders.append(order)
        self.work.set()
        if not order.done.wait(timeout_seconds):
            self._give_up(order, timeout_seconds)
        if order.error is not None:
            raise order.error

    def _give_up(self, order: Order, timeout_seconds: float) -> None:
        with self.changed:
            if order.done.is_set():
                return
            self.orders.remove(order)
            progress = order.progress(self.models.get(order.model))
        verb = "load" if order.loads else "unload"
        reason = (
            f"{progress}; the {verb} has not finished after {timeout_seconds:g} s and continues"
        )
        order.finish(NotReady(f"model '{order.model}'", reason))

    def close(self, timeout_seconds: float) -> list[ModelRecord]:
        """Refuse new leases and loads, and drain every version; returns every model."""
        with self.change():
            self.is_closing = True
            self.changed.notify_all()
            for order in self.orders:
                order.finish(shutting_down(order.model))
            for model in self.models.values():
                model.last_served.end()
                for version in model.open_versions():
                    model.withdraw(version)
            self.changed.wait_for(lambda: not self.in_flight(), timeout_seconds)
            return list(self.models.values())

    def announce(self) -> None:
        """Notify those that wait for a change, and write the lines for the log."""
        with self.change():
            pass

    @contextmanager
    def change(self) -> Iterator[None]:
        """Hold the lock; then notify those that wait for a change, and write the log."""
        with self.changed:
            yield
            notes = [note for model in self.models.values() for note in model.take_notes()]
            self.changed.notify_all()
        for level, line in notes:
            LOG.log(level, "%s", line)


def shutting_down(model: str) -> NotReady:
    """Return the error for requests during shutdown."""
    return NotReady(f"model '{model}'", "the server is shutting down", 1)
