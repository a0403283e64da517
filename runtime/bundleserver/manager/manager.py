"""The manager: gives requests leases of versions, and keeps loaded what should be."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from bundleserver.errors import ModelNotFound, NotReady, VersionNotFound
from bundleserver.manager.admission import Admission, AdmitAll
from bundleserver.manager.leases import Loaded, give_memory_back
from bundleserver.manager.loading import Loader
from bundleserver.manager.manual import ManualOrders
from bundleserver.manager.models import ModelRecord
from bundleserver.manager.orders import Order
from bundleserver.manager.reconciler import Reconciler
from bundleserver.manager.shared import LOG, Shared, shutting_down
from bundleserver.manager.status import (
    ModelStatus,
    TrafficStatus,
    model_status,
    why_no_default,
    why_not,
)
from bundleserver.sources import OpenBundle, Source, open_candidate
from bundleserver.versions import VersionPolicy
from bundleserver.versions.lifecycle import State, SwapPolicy

RETRY_PAUSES_SECONDS = (5.0, 15.0, 60.0, 300.0, 900.0)


class Manager:
    """Every model of a source: which versions are open, and their leases.

    Request threads acquire, ask and order; the watcher's thread alone calls ``reconcile``, which
    decides, starts loads and closes.

    Attributes:
        knows: asks whether there is a model of that name, ready or not.
        manual_orders, outcomes, reconsider: for an admission; see ``Shared``.
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
        admission: Admission | None = None,
        manual_orders: Mapping[str, Mapping[str, object]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Say what to serve; nothing is read before the first ``reconcile``.

        Args:
            source: where versions come from.
            model_name: the one model that was asked for; None serves what is found.
            policy: the version policy where ``serving.json`` has none; None is the newest version.
            traffic: the traffic split where ``serving.json`` does not say who answers.
            swap: what goes first in a swap.
            device: where torch models run.
            version_mismatch: ``warn`` or ``refuse`` where libraries differ from the bundle's.
            strict_readiness: with several models, be ready only when all answer.
            retry_pauses_seconds: the backoff of a version that failed; its length is the number of
                retries.
            load_threads: how many versions are loaded at a time, beside everything else; with 0
                ``reconcile`` loads them itself, one after the other, and returns when all are done.
            open_bundle: opens a candidate; None is the real opener.
            admission: decides what may answer once it is open; None admits everything at once.
            manual_orders: manual loads and unloads to begin with, as ``manual_orders`` tells them.
            clock: monotonic seconds.
        """
        self._source = source
        self._asked = model_name
        self._policy = policy or VersionPolicy()
        self._traffic = traffic or {}
        self._swap = swap
        self._strict = strict_readiness
        self._clock = clock
        self._manual_orders = manual_orders or {}
        self._shared = Shared(admission=admission or AdmitAll())
        self.knows: Callable[[str], bool] = self._shared.models.__contains__
        self.manual_orders = self._shared.manual_orders
        self.outcomes = self._shared.outcomes
        self.reconsider = self._shared.reconsider
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

    def acquire(self, model: str, version: str | None = None) -> Loaded:
        """Acquire a lease of a version, by its name or a label, or of the default one.

        The lease is for a ``with`` statement: its version stays open until the end of the block.

        Raises:
            ModelNotFound, VersionNotFound, NotReady: why there is none.
        """
        shared = self._shared
        with shared.lock:
            record = shared.models.get(model)
            loaded = None if record is None or version is not None else record.serving
            if loaded is None or loaded.is_withdrawn:
                loaded = self._find_ready(model, version)
            loaded.in_flight += 1
        return loaded

    def check_ready(self, model: str, version: str | None = None) -> None:
        """Raise what ``acquire`` would raise, and acquire nothing."""
        with self._shared.changed:
            self._find_ready(model, version)

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
        """Ask whether other versions than the default one get its requests, or mirrored ones.

        Raises:
            ModelNotFound: there is no such model.
        """
        # The watcher's thread replaces it as a whole: reading it needs no lock.
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
        """Load a model or one version manually, and wait until it answers.

        A version that the policy does not want stays until it is manually unloaded.

        Raises:
            ModelNotFound, VersionNotFound, NotReady: why it does not answer.
        """
        self._shared.carry_out(Order(model, version, loads=True), timeout_seconds)

    def unload(
        self, model: str, version: str | None = None, timeout_seconds: float = 600.0
    ) -> None:
        """Unload a model or one version manually, and wait until it has drained and is closed.

        It stays so until it is loaded manually or published again.

        Raises:
            ModelNotFound, VersionNotFound: there is no such thing.
            NotReady: its requests take longer than that.
        """
        self._shared.carry_out(Order(model, version, loads=False), timeout_seconds)

    def reconcile(self, poll: bool = True) -> None:
        """Poll the source and do or start all that follows; for the watcher's thread only.

        Args:
            poll: poll in any case; else only for an order, and for versions demanded since.

        Raises:
            Exception: a source or framework broke its promise; what is open goes on.
        """
        self._reconciler.reconcile(poll)

    def wait_for_work(self, timeout_seconds: float) -> bool:
        """Wait until there is an order, a load has ended, or a drained bundle can be closed.

        Returns:
            Whether there was any of it in time.
        """
        is_work = self._shared.work.wait(timeout_seconds)
        self._shared.work.clear()
        return is_work

    def wait_for_loads(self, timeout_seconds: float) -> bool:
        """Wait until no version is being loaded; returns whether that was in time."""
        return self._loader.wait(timeout_seconds)

    def wake(self) -> None:
        """Let ``wait_for_work`` return."""
        self._shared.work.set()

    def is_settling(self) -> bool:
        """Ask whether somebody waits for files that seem to be still written to."""
        with self._shared.changed:
            ordered = {order.model for order in self._shared.orders}
            return any(
                model.is_settling() and (model.default is None or name in ordered)
                for name, model in self._shared.models.items()
            )

    def close(self, timeout_seconds: float = 10.0) -> None:
        """Drain every version, and close those whose requests end in time.

        A bundle that still has requests then stays open for them.
        """
        models = self._shared.close(timeout_seconds)
        self._reconciler.close_drained(models)
        with self._shared.changed:
            in_flight = self._shared.in_flight()
        if in_flight:
            LOG.warning("%s requests are still in flight after %s s", in_flight, timeout_seconds)
        give_memory_back()

    def _new_model(self, name: str) -> ModelRecord:
        manual = ManualOrders.from_json(self._manual_orders.get(name, {}))
        is_asked, admission = name == self._asked, self._shared.admission
        return ModelRecord(
            name, self._policy, self._swap, admission, manual, is_asked, self._traffic
        )

    def _find_ready(self, model: str, version: str | None) -> Loaded:
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
