"""The manager: leases of versions for requests, and the versions that are loaded."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from bundleserver.bundle.trust import TRUST_ANY, Trust
from bundleserver.errors import ModelNotFound, NotReady, VersionNotFound
from bundleserver.manager.admission import Admission
from bundleserver.manager.first_load import FirstLoad, is_ready
from bundleserver.manager.leases import Loaded, give_memory_back
from bundleserver.manager.loading import Loader
from bundleserver.manager.loading.circles import note_calls
from bundleserver.manager.manual import ManualOrders
from bundleserver.manager.models import ModelRecord
from bundleserver.manager.orders import Order
from bundleserver.manager.reconciler import Reconciler
from bundleserver.manager.shared import LOG, Shared, shutting_down
from bundleserver.manager.status import (
    ModelStatus,
    TrafficStatus,
    model_status,
)
from bundleserver.manager.status.words import why_no_default, why_not
from bundleserver.sources import OpenBundle, Source, open_candidate
from bundleserver.versions import VersionPolicy
from bundleserver.versions.lifecycle import State, SwapPolicy

RETRY_PAUSES_SECONDS = (5.0, 15.0, 60.0, 300.0, 900.0)


class Manager:
    """The models of a source, their open versions and leases.

    Any thread may call it, except for ``reconcile``, which only the watcher's thread calls; that
    decides, starts loads and closes bundles.

    Attributes:
        knows: asks whether a model of that name is known, ready or not.
        manual_orders, outcomes, reconsider: for an admission; see ``Shared``.
        first_load: see ``FirstLoad``.
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
        predict_proba: bool = False,
        version_mismatch: str = "warn",
        probe: str = "enforce",
        breaking_signature: str = "warn",
        trust: Trust = TRUST_ANY,
        strict_readiness: bool = False,
        retry_pauses_seconds: Sequence[float] = RETRY_PAUSES_SECONDS,
        load_threads: int = 0,
        load_timeout_seconds: float = 0.0,
        open_bundle: OpenBundle | None = None,
        admission: Admission | None = None,
        manual_orders: Mapping[str, Mapping[str, object]] | None = None,
        tell_loads: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set what to serve; nothing is read before the first ``reconcile``.

        Args:
            source: the source of versions.
            model_name: the one model to serve; None serves every model that is found.
            policy: the version policy if ``serving.json`` has none; None is ``latest``.
            traffic: the traffic split if ``serving.json`` has no default, traffic or canary.
            swap: whether a new version is loaded before the old one is unloaded, or after.
            device: the device of torch models.
            predict_proba: whether models that have probabilities answer with them.
            version_mismatch: ``warn`` or ``refuse`` if libraries differ from the bundle's.
            probe: ``enforce``, ``warn`` or ``off``: whether what cannot answer may be READY.
            breaking_signature: ``warn`` or ``refuse`` if clients of what serves would break.
            trust: what a version may be and do.
            strict_readiness: with several models, be ready only when all are.
            retry_pauses_seconds: the backoff of a version that failed, as long as it is retried.
            load_threads: how many versions are loaded at a time; with 0 ``reconcile`` loads them.
            load_timeout_seconds: how long a load in a thread of its own may take; 0 is no limit.
            open_bundle: opens a candidate; None is the real opener.
            admission: decides whether an open version may answer; None admits each.
            manual_orders: initial manual loads and unloads.
            tell_loads: told what is being loaded, in words, until something is ready.
            clock: monotonic seconds.
        """
        self._source, self._asked = source, model_name
        self._policy, self._swap = policy or VersionPolicy(), swap
        self._traffic, self._manual_orders = traffic or {}, manual_orders or {}
        self._clock = clock
        refuses = breaking_signature == "refuse"
        shared = self._shared = Shared(admission=admission or Admission(), refuses_breaks=refuses)
        shared.is_asked, shared.is_strict = model_name is not None, strict_readiness
        if others_serve := shared.admission.served:
            shared.has_been_ready, shared.expected = True, {*others_serve}
        self.first_load = FirstLoad(shared)
        self.knows: Callable[[str], bool] = shared.models.__contains__
        self.manual_orders, self.outcomes = shared.manual_orders, shared.outcomes
        self.reconsider = shared.reconsider
        opener = open_bundle or partial(
            open_candidate,
            source,
            device=device,
            predict_proba=predict_proba,
            version_mismatch=version_mismatch,
            probe=probe,
            members=self.acquire,
            calls=partial(note_calls, shared),
            trust=trust,
        )
        how = (retry_pauses_seconds, clock, load_threads, load_timeout_seconds, tell_loads)
        self._loader = Loader(shared, opener, *how)
        self._reconciler = Reconciler(shared, source, self._new_model, self._loader, clock)
        if model_name is not None:
            shared.models[model_name] = self._new_model(model_name)

    def models(self) -> tuple[str, ...]:
        """Return the names of all known models, ready or not."""
        with self._shared.changed:
            return tuple(sorted(self._shared.models))

    def why_no_models(self) -> str:
        """Return why no model is known."""
        return self._shared.last_poll_error or f"there is no model in {self._source.place} yet"

    def acquire(self, model: str, version: str | None = None) -> Loaded:
        """Acquire a lease of a version, by its name or a label, or of the default version.

        Use it in a ``with`` statement: the version stays open until the end of the block.

        Raises:
            ModelNotFound, VersionNotFound, NotReady: no lease can be acquired.
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
        """Raise what ``acquire`` would raise, without a lease."""
        with self._shared.changed:
            self._find_ready(model, version)

    def is_ready(self, model: str, version: str | None = None) -> bool:
        """Ask whether a version, or the default one, is ready; an unknown one is not."""
        try:
            self.check_ready(model, version)
        except (ModelNotFound, VersionNotFound, NotReady):
            return False
        return True

    def is_server_ready(self) -> bool:
        """Ask whether the process is ready; see ``first_load``."""
        with self._shared.changed:
            return is_ready(self._shared)

    def status(self, model: str) -> ModelStatus:
        """Return the status of a model and its versions.

        Raises:
            ModelNotFound: there is no such model.
        """
        with self._shared.changed:
            why = self._shared.last_poll_error or ""
            return model_status(self._shared.find(model), self._shared.stale_since, why)

    def is_split(self, model: str) -> bool:
        """Ask whether versions other than the default one get requests or mirrored requests.

        Raises:
            ModelNotFound: there is no such model.
        """
        # The watcher's thread replaces it as a whole: reading it needs no lock.
        record = self._shared.models.get(model)
        return self.traffic(model).config.is_split if record is None else record.is_split

    def traffic(self, model: str) -> TrafficStatus:
        """Return how requests that name no version are routed.

        Raises:
            ModelNotFound: there is no such model.
        """
        with self._shared.changed:
            return self._shared.traffic.of(self._shared.find(model))

    def failures(self) -> Mapping[tuple[str, State], int]:
        """Count failed loads by model and state."""
        with self._shared.changed:
            return dict(self._shared.failures)

    @property
    def last_poll_at(self) -> float | None:
        """The time of the last successful poll, in seconds since the epoch."""
        return self._shared.last_poll_at

    @property
    def last_poll_error(self) -> str | None:
        """Why the last poll failed, or None."""
        return self._shared.last_poll_error

    def load(self, model: str, version: str | None = None, timeout_seconds: float = 600.0) -> None:
        """Load a model or one version manually, and wait until it is ready.

        A version that the policy does not select stays loaded until it is manually unloaded.

        Raises:
            ModelNotFound, VersionNotFound, NotReady: why it is not ready.
        """
        self._shared.carry_out(Order(model, version, loads=True), timeout_seconds)

    def unload(
        self, model: str, version: str | None = None, timeout_seconds: float = 600.0
    ) -> None:
        """Unload a model or one version manually, and wait until it has drained and is closed.

        It stays unloaded until it is loaded manually or published again.

        Raises:
            ModelNotFound, VersionNotFound: it is unknown.
            NotReady: its requests exceed the timeout.
        """
        self._shared.carry_out(Order(model, version, loads=False), timeout_seconds)

    def reconcile(self, poll: bool = True) -> None:
        """Poll the source, and load and unload versions; for the watcher's thread only.

        Args:
            poll: poll in any case; else only for an order, and for versions demanded since.

        Raises:
            Exception: an unexpected error of a source or framework; open versions keep serving.
        """
        self._reconciler.reconcile(poll)

    def wait_for_work(self, timeout_seconds: float) -> bool:
        """Wait for an order, the end or deadline of a load, a drain; returns False on timeout."""
        left = self._loader.seconds_left()
        is_work = self._shared.work.wait(min(timeout_seconds, left))
        self._shared.work.clear()
        return is_work or left < timeout_seconds

    def wait_for_loads(self, timeout_seconds: float) -> bool:
        """Wait until no version is being loaded; returns False on timeout, and if a load hangs."""
        return self._loader.wait(timeout_seconds)

    def wake(self) -> None:
        """Make ``wait_for_work`` return."""
        self._shared.work.set()

    def is_settling(self) -> bool:
        """Ask whether a model or an order waits for files that are still being written."""
        with self._shared.changed:
            ordered = {order.model for order in self._shared.orders}
            return any(
                model.is_settling() and (model.default is None or name in ordered)
                for name, model in self._shared.models.items()
            )

    def close(self, timeout_seconds: float = 10.0) -> None:
        """Drain and close every version; one whose requests exceed the timeout stays open."""
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
        how = (self._policy, self._swap, admission, manual, is_asked, self._traffic)
        return ModelRecord(name, *how)

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
