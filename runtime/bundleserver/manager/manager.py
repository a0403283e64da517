"""The manager: lends open versions to requests, and keeps open what should be."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from bundleserver.errors import ModelNotFound, NotReady, VersionNotFound
from bundleserver.manager.leases import Lease, Loaded, give_memory_back
from bundleserver.manager.loading import Loader
from bundleserver.manager.models import ModelRecord
from bundleserver.manager.orders import Order
from bundleserver.manager.reconciler import Reconciler
from bundleserver.manager.shared import LOG, Shared, claim_drained, log_notes, shutting_down
from bundleserver.manager.status import (
    ModelStatus,
    TrafficStatus,
    model_status,
    why_no_default,
    why_not,
)
from bundleserver.manager.together import Together
from bundleserver.sources import OpenBundle, Source, open_candidate
from bundleserver.versions import VersionPolicy
from bundleserver.versions.lifecycle import State, SwapPolicy

RETRY_PAUSES_SECONDS = (5.0, 15.0, 60.0, 300.0, 900.0)


class Manager:
    """Every model of a source: which versions are open, and who holds them.

    Request threads borrow, ask and order; the watcher's thread alone calls ``reconcile``, which
    decides, starts loads and closes.

    Attributes:
        knows: asks whether there is a model of that name, ready or not.
    """

    def __init__(
        self,
        source: Source,
        *,
        model_name: str | None = None,
        policy: VersionPolicy | None = None,
        traffic: Mapping[str, float] | None = None,
        swap: SwapPolicy = SwapPolicy.AVAILABILITY,
        device: str = "cpu",
        version_mismatch: str = "warn",
        strict_readiness: bool = False,
        retry_pauses_seconds: Sequence[float] = RETRY_PAUSES_SECONDS,
        load_threads: int = 0,
        open_bundle: OpenBundle | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Say what to serve; nothing is looked at before the first ``reconcile``.

        Args:
            source: where versions come from.
            model_name: the one model that was asked for; None serves what is found.
            policy: the versions wanted where no ``serving.json`` says so; None is the newest.
            traffic: how requests are split where no ``serving.json`` says who answers.
            swap: what goes first in a swap.
            device: where torch models run.
            version_mismatch: ``warn`` or ``refuse`` where libraries differ from the bundle's.
            strict_readiness: with several models, be ready only when all answer.
            retry_pauses_seconds: when, and so how often, a version that failed is tried again.
            load_threads: how many versions are loaded at a time, beside everything else; with 0
                ``reconcile`` loads them itself, one after the other, and returns when all are done.
            open_bundle: opens a candidate; None is the real way up.
            clock: seconds that only grow.
        """
        self._source = source
        self._asked = model_name
        self._policy = policy or VersionPolicy()
        self._traffic = traffic or {}
        self._swap = swap
        self._strict = strict_readiness
        self._clock = clock
        self._shared = Shared()
        self.knows: Callable[[str], bool] = self._shared.models.__contains__
        self.together = Together(self._shared)
        opener = open_bundle or partial(
            open_candidate,
            source,
            device=device,
            version_mismatch=version_mismatch,
            members=self.acquire,
        )
        self._loader = Loader(self._shared, opener, retry_pauses_seconds, clock, load_threads)
        self._reconciler = Reconciler(self._shared, source, self._new_model, self._loader, clock)
        if model_name is not None:
            self._shared.models[model_name] = self._new_model(model_name)

    def models(self) -> tuple[str, ...]:
        """Name every model that is known, ready or not."""
        with self._shared.changed:
            return tuple(sorted(self._shared.models))

    def why_no_models(self) -> str:
        """Say why no model is known, while none is."""
        return self._shared.last_poll_error or f"there is no model in {self._source.place} yet"

    def acquire(self, model: str, version: str | None = None) -> Lease:
        """Lend a version, by its name or a label, or the default one, to a ``with`` statement.

        It stays open until the end of the block.

        Raises:
            ModelNotFound, VersionNotFound, NotReady: why there is none to lend.
        """
        with self._shared.lock:
            loaded = self._lendable(model, version)
            loaded.in_flight += 1
        return Lease(loaded, self._take_back)

    def check_ready(self, model: str, version: str | None = None) -> None:
        """Raise what ``acquire`` would raise, and lend nothing."""
        with self._shared.changed:
            self._lendable(model, version)

    def is_ready(self, model: str, version: str | None = None) -> bool:
        """Ask whether a version, or the default one, answers now; an unknown one does not."""
        try:
            self.check_ready(model, version)
        except (ModelNotFound, VersionNotFound, NotReady):
            return False
        return True

    def is_server_ready(self) -> bool:
        """Ask whether what this process was asked to serve answers.

        With several models each must answer or have failed, and one must answer; under strict
        readiness all must.
        """
        with self._shared.changed:
            models = list(self._shared.models.values())
            answers = [model.default is not None for model in models]
            if self._shared.is_closing or not any(answers):
                return False
            if self._asked is not None or self._strict:
                return all(answers)
            return not any(model.is_pending() for model in models)

    def status(self, model: str) -> ModelStatus:
        """Return how a model and its versions stand.

        Raises:
            ModelNotFound: there is no such model.
        """
        with self._shared.changed:
            status = model_status(self._shared.find(model))
            return replace(status, stale_since=self._shared.stale_since)

    def is_split(self, model: str) -> bool:
        """Ask whether anything but the default version answers, or gets copies of, its requests.

        Raises:
            ModelNotFound: there is no such model.
        """
        # One look at what the watcher's thread replaces as a whole: it needs no lock.
        record = self._shared.models.get(model)
        return self.traffic(model).config.is_split if record is None else record.is_split

    def traffic(self, model: str) -> TrafficStatus:
        """Return what decides which version answers a request that names none.

        Raises:
            ModelNotFound: there is no such model.
        """
        with self._shared.changed:
            return self._shared.traffic.of(self._shared.find(model))

    def failures(self) -> Mapping[tuple[str, State], int]:
        """Return how often bringing up a model's versions has failed, by the state they were in."""
        with self._shared.changed:
            return dict(self._shared.failures)

    @property
    def last_poll_at(self) -> float | None:
        """When the source was last read with success, in seconds since the epoch."""
        return self._shared.last_poll_at

    @property
    def last_poll_error(self) -> str | None:
        """Why the source cannot be read now, or None."""
        return self._shared.last_poll_error

    def load(self, model: str, version: str | None = None, timeout_seconds: float = 600.0) -> None:
        """Load a model or one version by hand, and wait until it answers.

        A version that the policy does not want stays until it is unloaded by hand.

        Raises:
            ModelNotFound, VersionNotFound, NotReady: why it does not answer.
        """
        self._place(Order(model, version, loads=True), timeout_seconds)

    def unload(
        self, model: str, version: str | None = None, timeout_seconds: float = 600.0
    ) -> None:
        """Unload a model or one version by hand, and wait until nobody holds it and it is closed.

        It stays so until it is loaded by hand or published again.

        Raises:
            ModelNotFound, VersionNotFound: there is no such thing.
            NotReady: requests hold it for longer than that.
        """
        self._place(Order(model, version, loads=False), timeout_seconds)

    def reconcile(self) -> None:
        """Look at what is there and do or start all that follows; for the watcher's thread only.

        Raises:
            Exception: a source or framework broke its promise; what is open goes on.
        """
        self._reconciler.reconcile()

    def wait_for_work(self, timeout_seconds: float) -> None:
        """Wait until there is an order, a load has ended, or a drained bundle can be closed."""
        self._shared.work.wait(timeout_seconds)
        self._shared.work.clear()

    def wait_for_loads(self, timeout_seconds: float) -> bool:
        """Wait until no version is being loaded; returns whether that was in time."""
        return self._loader.wait(timeout_seconds)

    def wake(self) -> None:
        """Let ``wait_for_work`` return."""
        self._shared.work.set()

    def is_settling(self) -> bool:
        """Ask whether somebody waits for files that seem to be still written."""
        with self._shared.changed:
            ordered = {order.model for order in self._shared.orders}
            return any(
                model.is_settling() and (model.default is None or name in ordered)
                for name, model in self._shared.models.items()
            )

    def close(self, timeout_seconds: float = 10.0) -> None:
        """Lend no more, wait for the requests that hold a version, and close every one.

        A bundle that is still held when the time is over stays open: its request goes on.
        """
        with self._shared.changed:
            self._shared.is_closing = True
            self._shared.changed.notify_all()
            for order in self._shared.orders:
                order.finish(shutting_down(order.model))
            for model in self._shared.models.values():
                for version in model.open_versions():
                    model.withdraw(version)
            self._shared.changed.wait_for(lambda: not self._shared.held(), timeout_seconds)
            claimed = claim_drained(list(self._shared.models.values()))
            held = self._shared.held()
            notes = self._shared.take_notes()
        log_notes(notes)
        for model, loaded in claimed:
            loaded.close()
            LOG.info("%s %s: unloaded", model.name, loaded.version)
        if held:
            LOG.warning("%s requests still hold a version after %s s", held, timeout_seconds)
        claimed.clear()
        give_memory_back()

    def _new_model(self, name: str) -> ModelRecord:
        model = ModelRecord(name, self._policy, self._swap, name == self._asked, self._traffic)
        self.together.teach(model)
        return model

    def _lendable(self, model: str, version: str | None) -> Loaded:
        if self._shared.is_closing:
            raise shutting_down(model)
        record = self._shared.models.get(model) or self._shared.find(model)
        wanted = record.default if version is None else record.resolve(version)
        if wanted is None:
            raise why_no_default(record, self._clock())
        found = record.versions.get(wanted)
        if found is None or found.loaded is None:
            raise why_not(record, wanted, self._clock())
        return found.loaded

    def _take_back(self, loaded: Loaded) -> None:
        with self._shared.lock:
            loaded.in_flight -= 1
            is_drained = loaded.is_withdrawn and loaded.in_flight == 0
            if is_drained:
                self._shared.changed.notify_all()
        if is_drained:
            self.wake()

    def _place(self, order: Order, timeout_seconds: float) -> None:
        with self._shared.changed:
            if self._shared.is_closing:
                raise shutting_down(order.model)
            self._shared.orders.append(order)
        self.wake()
        if not order.done.wait(timeout_seconds):
            self._give_up(order, timeout_seconds)
        if order.error is not None:
            raise order.error

    def _give_up(self, order: Order, timeout_seconds: float) -> None:
        with self._shared.changed:
            if order.done.is_set():
                return
            self._shared.orders.remove(order)
            stands = order.stands(self._shared.models.get(order.model))
        verb = "load" if order.loads else "unload"
        reason = f"{stands}; the {verb} goes on, but not within {timeout_seconds:g} s"
        order.finish(NotReady(f"model '{order.model}'", reason))
