"""The loop that brings what is open to what should be: poll, decide, load, close."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from bundleserver.errors import BundleServerError, ModelNotFound, NotReady, SourceError
from bundleserver.lifecycle import Load, State, Unload
from bundleserver.manager.leases import Loaded, give_memory_back
from bundleserver.manager.models import ModelRecord
from bundleserver.manager.opening import OpenBundle
from bundleserver.manager.orders import Order
from bundleserver.manager.records import VersionRecord
from bundleserver.manager.shared import LOG, Shared, claim_drained, log_notes
from bundleserver.sources import Candidate, Demand, LastKnownListings, Listing, Source
from bundleserver.versions import Version


class Reconciler:
    """Does what the lifecycle decides. Called from the watcher's thread only."""

    def __init__(
        self,
        shared: Shared,
        source: Source,
        new_model: Callable[[str], ModelRecord],
        open_bundle: OpenBundle,
        pauses_seconds: Sequence[float],
        clock: Callable[[], float],
    ) -> None:
        self._shared = shared
        self._source = source
        self._new_model = new_model
        self._open = open_bundle
        self._pauses_seconds = pauses_seconds
        self._clock = clock

    def reconcile(self) -> None:
        """Poll and act until there is nothing to do now; one action per model between two polls."""
        progressing = True
        while progressing and not self._shared.is_closing:
            demands, orders = self._demands(), self._new_orders()
            self._poll()
            self._apply(orders)
            acted = [self._advance(model) for model in list(self._shared.models.values())]
            self._finish_orders()
            progressing = any(acted) or self._demands() != demands

    def _demands(self) -> dict[str, Demand]:
        with self._shared.changed:
            return {name: model.demand() for name, model in self._shared.models.items()}

    def _demand_of(self, name: str) -> Demand:
        with self._shared.changed:
            model = self._shared.models.get(name)
            return (model or self._new_model(name)).demand()

    def _poll(self) -> None:
        """Ask the source what is there; what is open goes on when it cannot say."""
        try:
            listings = self._source.discover(self._demand_of)
        except SourceError as error:
            self._note_outage(error)
            return
        with self._shared.changed:
            had_error, self._shared.last_poll_error = self._shared.last_poll_error, None
            self._shared.last_poll_at = time.time()
            self._take_in(listings)
            notes = self._shared.take_notes()
            self._shared.changed.notify_all()
        if had_error is not None:
            LOG.info("the models can be listed again")
        log_notes(notes)

    def _note_outage(self, error: SourceError) -> None:
        """Let what is open go on; at a start in an outage, take what the source last knew."""
        with self._shared.changed:
            is_new = str(error) != self._shared.last_poll_error
            self._shared.last_poll_error = str(error)
            if isinstance(error, LastKnownListings):
                self._shared.last_poll_at = error.as_of
                self._take_in(error.listings)
            for model in self._shared.models.values():
                model.reason = str(error)
            notes = self._shared.take_notes()
            self._shared.changed.notify_all()
        if is_new:
            LOG.warning("%s; what is open goes on being served", error)
        log_notes(notes)

    def _take_in(self, listings: Sequence[Listing]) -> None:
        models = self._shared.models
        for listing in listings:
            if listing.model not in models:
                models[listing.model] = self._new_model(listing.model)
            models[listing.model].take_in(listing)
        for name in {*models} - {listing.model for listing in listings}:
            model = models[name]
            model.take_in(Listing(name, reason=f"there is no model '{name}' any more"))
            if not model.versions and not model.is_asked:
                del models[name]

    def _advance(self, model: ModelRecord) -> bool:
        """Close what nobody holds and do what is next; returns whether anything was."""
        if self._close_drained(model):
            give_memory_back()
        with self._shared.changed:
            action = None if self._shared.is_closing else model.next_action(self._clock())
            if isinstance(action, Unload):
                model.withdraw(action.version)
                self._shared.changed.notify_all()
            notes = self._shared.take_notes()
        log_notes(notes)
        if isinstance(action, Load) and not self._bring_up(model, action.version):
            give_memory_back()
        return action is not None

    def _close_drained(self, model: ModelRecord) -> bool:
        """Close the bundles that nobody holds any more; returns whether there were any."""
        with self._shared.changed:
            claimed = claim_drained([model])
        for _, loaded in claimed:
            loaded.close()
        with self._shared.changed:
            for record in model.versions.values():
                for loaded in [loaded for _, loaded in claimed if loaded in record.draining]:
                    record.drop(loaded)
            self._shared.changed.notify_all()
        for _, loaded in claimed:
            LOG.info("%s %s: unloaded", model.name, loaded.version)
        return bool(claimed)

    def _bring_up(self, model: ModelRecord, version: Version) -> bool:
        """Take a version from DISCOVERED to READY, or to FAILED; returns whether it is up."""
        record = model.versions[version]
        candidate = record.candidate
        if candidate is None or self._lend_again(model, record):
            return True
        started = self._clock()
        at = State.DISCOVERED

        def enter(state: State) -> None:
            nonlocal at
            at = state
            with self._shared.changed:
                record.enter(state)
                self._shared.changed.notify_all()
            LOG.info("%s %s: %s", model.name, version, state.value.lower())

        try:
            loaded = self._open_candidate(candidate, enter, started)
        except BundleServerError as error:
            self._fail(model, record, candidate, at, error)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # a framework may raise anything
            LOG.exception("%s %s: unexpected error while %s", model.name, version, at.value.lower())
            self._fail(model, record, candidate, at, error)
        else:
            self._install(model, version, loaded)
            return True
        return False

    def _lend_again(self, model: ModelRecord, record: VersionRecord) -> bool:
        with self._shared.changed:
            is_open = record.lend_again()
            if is_open:
                model.settle()
            notes = self._shared.take_notes()
        if is_open:
            LOG.info("%s %s: ready again, it was still open", model.name, record.version)
        log_notes(notes)
        return is_open

    def _open_candidate(
        self, candidate: Candidate, enter: Callable[[State], None], started: float
    ) -> Loaded:
        bundle = self._open(candidate, enter)
        try:
            seconds = self._clock() - started
            return Loaded(bundle, candidate.version, candidate.fingerprint, seconds, time.time())
        except BaseException:
            bundle.close()
            raise

    def _fail(
        self,
        model: ModelRecord,
        record: VersionRecord,
        candidate: Candidate,
        at: State,
        error: BaseException,
    ) -> None:
        is_ours = isinstance(error, BundleServerError)
        why = str(error) if is_ours else f"{type(error).__name__}: {error}"
        with self._shared.changed:
            if isinstance(error, (NotReady, ModelNotFound)):
                # It waits for another model of this process, however long that takes.
                record.attempts = 0
            now = self._clock()
            record.fail(candidate.fingerprint, at, why, now, self._pauses_seconds)
            self._shared.failures[model.name, at] += 1
            model.settle()
            model.note_failure(record)
            notes = self._shared.take_notes()
            self._shared.changed.notify_all()
        log_notes(notes)

    def _install(self, model: ModelRecord, version: Version, loaded: Loaded) -> None:
        with self._shared.changed:
            is_late = self._shared.is_closing
            if not is_late:
                model.install(version, loaded)
            notes = self._shared.take_notes()
            self._shared.changed.notify_all()
        log_notes(notes)
        if is_late:
            loaded.close()

    def _new_orders(self) -> list[Order]:
        """Return the orders that the next poll is for; they may be about what it finds."""
        with self._shared.changed:
            return [order for order in self._shared.orders if not order.is_applied]

    def _apply(self, orders: Sequence[Order]) -> None:
        with self._shared.changed:
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
