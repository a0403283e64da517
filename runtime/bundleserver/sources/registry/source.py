"""The source of a registered model: polls its aliases, fetches its versions, survives outages."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from bundleserver.bundle.opening import verify
from bundleserver.bundle.trust.verification import Origin
from bundleserver.errors import (
    BundleError,
    FrameworkError,
    IntegrityError,
    ManifestError,
    SourceError,
)
from bundleserver.manifest import Manifest
from bundleserver.sources import Candidate, Demand, DemandOf, LastKnownListings, Listing
from bundleserver.sources.registry.bounded import Breaker, ended_by
from bundleserver.sources.registry.cache import Cache, size_of
from bundleserver.sources.registry.cache.index import INDEX_NAME
from bundleserver.sources.registry.client import RegistryClient
from bundleserver.sources.registry.download import Artifacts
from bundleserver.sources.registry.flavours import manifest_of, with_facts
from bundleserver.sources.registry.listing import Choice, list_model, resolve
from bundleserver.sources.registry.state import LastKnown, StoredState
from bundleserver.sources.registry.uri import ModelUri
from bundleserver.sources.registry.values import RegisteredModel, RegisteredVersion, iso_time
from bundleserver.versions import VersionPolicy

LOG = logging.getLogger(__name__)

_TRY_AGAIN_SECONDS = 900.0


class RegistrySource:
    """One model in a registry: ``discover`` is for one thread, ``fetch`` for any.

    While the registry is unavailable, ``discover`` raises; until the first successful poll the
    error has the last known state, as far as the cache has the files.
    """

    def __init__(
        self,
        uri: ModelUri,
        cache: Cache,
        client: RegistryClient,
        *,
        model_name: str | None = None,
        labels: tuple[str, ...] = (),
        traffic: Mapping[str, float] = MappingProxyType({}),
        breaker: Breaker | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Set up the source; the registry is not called before ``discover``.

        Args:
            uri: the model, and its default version.
            cache: the cache of fetched versions.
            client: calls the registry.
            model_name: the name to serve it under; the registry's by default.
            labels: further aliases whose versions are loaded side by side.
            traffic: weights of labels and versions for requests that name none.
            breaker: limits calls to a failing registry.
            clock: seconds since the epoch.
        """
        self._choice = Choice(uri, labels, model_name or uri.name, traffic)
        self._cache = cache
        self._client = client
        self._breaker = breaker or Breaker()
        self._clock = clock
        self._known: LastKnown | None = None
        self._has_answered = False
        self._in_use: frozenset[str] = frozenset()
        self._failed: dict[str, float] = {}
        self._rounds: dict[str, int] = {}
        self._was_out = False
        self._stored = StoredState(cache)
        self._fetching: dict[Candidate, threading.Event] = {}

    @property
    def place(self) -> str:
        """The registry."""
        return f"the registry at '{self._client.place}'"

    def discover(self, demand_of: DemandOf | None = None) -> tuple[Listing, ...]:
        """Poll the model, with every version to serve.

        Raises:
            LastKnownListings: the registry has been unavailable since the start.
            SourceError: the registry is unavailable.
        """
        with self._stored.poll():
            return self._discover(demand_of)

    def _discover(self, demand_of: DemandOf | None) -> tuple[Listing, ...]:
        demand = demand_of(self._choice.served_as) if demand_of else Demand(VersionPolicy(None))
        try:
            model = self._ask()
        except SourceError as error:
            raise self._outage(error, demand) from error
        if model is None:
            place = self._client.place
            reason = f"the registry at '{place}' has no model '{self._choice.uri.name}'"
            return (Listing(self._choice.served_as, reason=reason),)
        self._update(model)
        listing = self._list(demand, self._candidate)
        listed = (candidate.version for candidate in listing.candidates)
        self._in_use = frozenset(version.label for version in (*demand.versions, *listed))
        return (listing,)

    def fetch(self, candidate: Candidate) -> tuple[Path, Manifest]:
        """Download a version, or find it in the cache, with every file verified.

        Raises:
            SourceError: the registry, the cache or the disk failed.
            IntegrityError: an artifact's path leads out, or a file differs from its listing.
            BundleError, ManifestError: it cannot be opened.
        """
        version = self._find(candidate)
        try:
            with self._fetching_of(candidate):
                found = self._cache.find(version) or self._fetch(version)
        except SourceError:
            self._failed.setdefault(version.number, self._clock())
            raise
        self._failed.pop(version.number, None)
        directory, facts = found
        manifest = self._verified(directory, candidate)
        return directory, with_facts(manifest, {**facts, **self._facts(version)})

    def give_up(self, candidate: Candidate) -> None:
        """End the fetch of a candidate that nobody waits for any more."""
        if (given_up := self._fetching.get(candidate)) is not None:
            given_up.set()

    @contextmanager
    def _fetching_of(self, candidate: Candidate) -> Iterator[None]:
        given_up = self._fetching[candidate] = threading.Event()

        def check() -> None:
            if given_up.is_set():
                raise SourceError("its load was given up")

        try:
            with ended_by(check):
                yield
        finally:
            del self._fetching[candidate]

    def _verified(self, directory: Path, candidate: Candidate) -> Manifest:
        """Return the manifest of a version whose files are those that it lists.

        The cache's own digests say only that a file is as it was downloaded; a version that is not
        as its manifest says is dropped, so that the next retry fetches it again.
        """
        try:
            manifest = manifest_of(directory, candidate.model)
            verify(directory, manifest)
        except FrameworkError:
            raise  # another image could open it
        except (IntegrityError, ManifestError, BundleError):
            LOG.warning("removing '%s' from the cache; it is fetched again", directory)
            self._cache.remove(directory)
            raise
        return manifest

    def _ask(self) -> RegisteredModel | None:
        self._breaker.check()
        try:
            model = self._client.model(self._choice.uri.name)
        except SourceError as error:
            self._breaker.note_failure(error)
            raise
        self._breaker.note_success()
        return model

    def _update(self, model: RegisteredModel) -> None:
        before = self._known or self._stored.recall() or LastKnown(model, 0.0)
        now = self._clock()
        labels = resolve(self._choice, model, self._client.place).labels
        self._known = before.followed_by(model, now, labels)
        self._renew_failed(now)
        self._has_answered, self._was_out = True, False
        self._stored.remember(self._known)

    def _renew_failed(self, now: float) -> None:
        """Let the manager retry versions that could not be fetched, after an outage or some time.

        The manager gives up on versions that fail repeatedly, which must not count in an outage.
        """
        for number, since in list(self._failed.items()):
            if self._was_out or now - since >= _TRY_AGAIN_SECONDS:
                self._rounds[number] = self._rounds.get(number, 0) + 1
                self._failed.pop(number, None)

    def _outage(self, error: SourceError, demand: Demand) -> SourceError:
        self._was_out = True
        if self._has_answered:
            return error
        self._known = self._known or self._stored.recall()
        if self._known is None:
            return SourceError(f"{error}; '{self._choice.uri.name}' is not in the cache")
        cached = {(entry.number, entry.fingerprint) for entry in self._stored.entries()}

        def candidate_of(version: RegisteredVersion) -> Candidate:
            is_there = (version.number, version.fingerprint) in cached
            lost = None if is_there else f"not in the cache, and {error}"
            return replace(self._candidate(version), problem=lost)

        listing = self._list(demand, candidate_of)
        since = iso_time(self._known.as_of)
        text = f"{error}; serving from the cache as of {since}"
        return LastKnownListings(text, (listing,), self._known.as_of)

    def _list(
        self, demand: Demand, candidate_of: Callable[[RegisteredVersion], Candidate]
    ) -> Listing:
        if self._known is None:
            raise SourceError("the registry has not been polled yet")
        return list_model(self._choice, self._known, demand, self._client.place, candidate_of)

    def _candidate(self, version: RegisteredVersion) -> Candidate:
        rounds = self._rounds.get(version.number, 0)
        has_failed = version.status == "FAILED_REGISTRATION"
        why = f"its registration failed: {version.status_message or 'unknown reason'}"
        return Candidate(
            self._choice.served_as,
            version.version,
            Path(f"models:/{self._choice.uri.name}#{version.number}"),
            # The suffix allows retries of a version that failed in an outage.
            version.fingerprint + (f"+{rounds}" if rounds else ""),
            settled=version.status != "PENDING_REGISTRATION",
            problem=why if has_failed else None,
            origin=Origin(manifest_of, self._choice.uri.name, frozenset({INDEX_NAME})),
        )

    def _find(self, candidate: Candidate) -> RegisteredVersion:
        version = self._known.model.find(candidate.version.label) if self._known else None
        if version is None:
            raise SourceError(f"version {candidate.version} is no longer in the registry")
        return version

    def _fetch(self, version: RegisteredVersion) -> tuple[Path, Mapping[str, object]]:
        self._breaker.check()
        artifacts = Artifacts(self._client, self._choice.uri.name, version.number)

        def fill(directory: Path) -> Mapping[str, object]:
            files = artifacts.list()
            total = sum(file.size or 0 for file in files)
            self._cache.make_room(version.number, total, self._others(version))
            facts = self._client.run(version)
            artifacts.fetch(files, directory)
            # Not every store lists the size of its files.
            self._cache.make_room(version.number, size_of(directory), self._others(version))
            return facts

        found = self._cache.add(version, fill)
        self._cache.collect({*self._in_use, version.number})
        return found

    def _others(self, version: RegisteredVersion) -> set[str]:
        return {*self._in_use} - {version.number}

    def _facts(self, version: RegisteredVersion) -> dict[str, object]:
        model = self._known.model if self._known else None
        about: dict[str, object] = {"name": self._choice.uri.name, "uri": str(self._choice.uri)}
        if model is not None and model.description:
            about["model_description"] = model.description
        if model is not None and model.tags:
            about["model_tags"] = dict(model.tags)
        return {**about, **version.facts()}
