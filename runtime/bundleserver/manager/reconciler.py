"""The reconciliation loop: poll, decide, start loads, close bundles."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from bundleserver.errors import BundleServerError, SourceError
from bundleserver.manager.admission import VersionKey
from bundleserver.manager.first_load import note_readiness
from bundleserver.manager.leases import give_memory_back
from bundleserver.manager.loading import Loader
from bundleserver.manager.loading.attempts import Attempt
from bundleserver.manager.loading.circles import retry_without_circle
from bundleserver.manager.loading.demands import demand_of, demands_more
from bundleserver.manager.loading.polls import PollSpan
from bundleserver.manager.models import ModelRecord
from bundleserver.manager.orders import Order
from bundleserver.manager.shared import LOG, Shared
from bundleserver.sources import Demand, LastKnownListings, Listing, Source
from bundleserver.versions import Version
from bundleserver.versions.lifecycle import Load, Unload


class Reconciler:
    """Carries out the lifecycle's decisions. Called from the watcher's thread only."""

    def __init__(
        self,
        shared: Shared,
        source: Source,
        new_model: Callable[[str], ModelRecord],
        loader: Loader,
        clock: Callable[[], float],
    ) -> None:
        self._shared = shared
        self._source = source
        self._new_model = new_model
        self._loader = loader
        self._clock = clock
        self._demanded: dict[str, Demand] = {}
        self._listed: Sequence[Listing] = ()

    def reconcile(self, poll: bool = True) -> None:
        """Poll, then act until nothing is left to do.

        The source is polled again for a new order, which may refer to a new version, and if a
        decision or a failure demands versions that the last poll did not read.
        """
        for candidate in self._loader.give_up_late():
            self._source.give_up(candidate)
        is_busy = True
        while is_busy and not self._shared.is_closing:
            orders = self._new_orders()
            if poll or orders:
                self._poll()
                self._apply(orders)
            retry_without_circle(self._shared)
            acted = [self._advance(model) for model in list(self._shared.models.values())]
            poll = not any(acted) and self._demands_more()
            if not poll:
                self._finish_orders()
            is_busy = poll or any(acted)

    def _demands_more(self) -> bool:
        with self._shared.changed:
            return any(
                demands_more(model, self._shared.admission, self._demanded.get(name))
                for name, model in self._shared.models.items()
            )

    def _demand_of(self, name: str) -> Demand:
        with self._shared.changed:
            model = self._shared.models.get(name) or self._new_model(name)
            demand = self._demanded[name] = demand_of(model, self._shared.admission)
        return demand

    def _poll(self) -> None:
        """Poll the source; in an outage open versions keep serving."""
        self._demanded, polled = {}, PollSpan()
        try:
            listings = self._source.discover(self._demand_of)
        except SourceError as error:
            polled.end_failed(error, is_new=str(error) != self._shared.last_poll_error)
            self._note_outage(error)
            return
        self._listed = polled.end(listings, self._listed)
        if self._shared.last_poll_error is not None:
            LOG.info("the model source can be read again")
        if self._shared.last_poll_at is None and not listings:
            LOG.info("there is no model in %s yet; waiting for one", self._source.place)
        with self._shared.change():
            self._shared.last_poll_error, self._shared.last_poll_at = None, time.time()
            self._update(listings)

    def _note_outage(self, error: SourceError) -> None:
        """Keep open versions serving; at a start in an outage use the source's last known state."""
        if str(error) != self._shared.last_poll_error:
            LOG.warning("%s; keeping the versions that are loaded", error)
        with self._shared.change():
            self._shared.last_poll_error = str(error)
            if isinstance(error, LastKnownListings):
                self._shared.last_poll_at = error.as_of
                self._update(error.listings)
            for model in self._shared.models.values():
                model.reason = str(error)

    def _update(self, listings: Sequence[Listing]) -> None:
        models, shared = self._shared.models, self._shared
        note_readiness(shared)
        shared.awaited = {it.model: it.reason for it in listings if not it.is_model}
        listings = [it for it in listings if it.is_model]
        for listing in listings:
            shared.untried.discard(listing.model)
            if listing.model not in models:
                models[listing.model] = self._new_model(listing.model)
            models[listing.model].update(listing)
        for name in {*models} - {listing.model for listing in listings}:
            model = models[name]
            model.update(Listing(name, reason=f"model '{name}' no longer exists"))
            if not model.versions and not model.is_asked:
                del models[name]
                shared.traffic.forget(name)
                shared.expected.discard(name)
                if model.untried:
                    shared.untried.add(name)

    def _advance(self, model: ModelRecord) -> bool:
        """Close drained bundles and take the next action; returns whether there was one."""
        if self.close_drained([model]):
            give_memory_back()
        claimed: Attempt | None = None
        with self._shared.changed:
            may_load = self._loader.has_room()
            is_closing = self._shared.is_closing
            action = None if is_closing else model.next_action(self._clock(), may_load)
            if isinstance(action, Unload):
                model.withdraw(action.version)
            elif isinstance(action, Load):
                claimed = self._claim(model, action.version)
        if action is None:
            return False
        self._shared.announce()
        if claimed is not None:
            self._loader.start(claimed)
        return True

    def _claim(self, model: ModelRecord, version: Version) -> Attempt | None:
        """Reactivate a version or claim its load, and return the load. Under the lock."""
        record = model.versions[version]
        candidate = record.candidate
        if candidate is not None:
            key = VersionKey(model.name, version.label, candidate.fingerprint)
            if self._shared.admission.may_serve(key) and model.reactivate(version):
                return None
        return self._loader.claim(model, record)

    def close_drained(self, models: Sequence[ModelRecord]) -> bool:
        """Close drained bundles; returns whether there were any. Called from any thread."""
        with self._shared.changed:
            claimed = [
                (model, loaded)
                for model in models
                for record in model.versions.values()
                for loaded in record.draining
                if loaded.claim_to_close()
            ]
        if not claimed:
            return False
        for model, loaded in claimed:
            loaded.close()
            LOG.info("%s %s: unloaded", model.name, loaded.version)
        with self._shared.change():
            for model, loaded in claimed:
                model.drop(loaded)
        return True

    def _new_orders(self) -> list[Order]:
        """Return the orders that are to be applied after the next poll."""
        with self._shared.changed:
            return [order for order in self._shared.orders if not order.is_applied]

    def _apply(self, orders: Sequence[Order]) -> None:
        with self._shared.change():
            for order in orders:
                try:
                    model = self._shared.find(order.model)
                    order.apply(model)
                    model.settle()
                except BundleServerError as error:
                    order.finish(error)

    def _finish_orders(self) -> None:
        with self._shared.changed:
            for order in self._shared.orders:
                try:
                    if order.is_applied and order.is_fulfilled(
                        self._shared.find(order.model), self._clock()
                    ):
                        order.finish()
                except BundleServerError as error:
                    order.finish(error)
            self._shared.orders = [o for o in self._shared.orders if not o.done.is_set()]
