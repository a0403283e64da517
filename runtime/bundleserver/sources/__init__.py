"""Sources of versions: the interface between the manager and a directory or a registry.

A poll returns *all* versions or raises: an outage is an error, not an empty set.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from bundleserver.bundle import Bundle
from bundleserver.bundle.members import Members
from bundleserver.bundle.opening import Enter, open_bundle
from bundleserver.bundle.trust import TRUST_ANY, Trust
from bundleserver.bundle.trust.verification import HERE, Origin
from bundleserver.documents.printable import few, printable
from bundleserver.errors import BundleError, SourceError
from bundleserver.manifest import Manifest
from bundleserver.versions import Version, VersionPolicy, is_version_label
from bundleserver.versions.lifecycle import State
from bundleserver.versions.serving_config import CONFIG_NAME, ServingConfig


@dataclass(frozen=True)
class Candidate:
    """One discovered version of a model.

    Attributes:
        location: its directory or URI, for messages.
        fingerprint: changes whenever the files change; compared for equality only.
        settled: its files are complete, as far as can be seen.
        problem: why it cannot be loaded, as far as can be seen without opening its files.
        links_lead_anywhere: it is ``--model_dir`` itself, whose direct children may be links.
        origin: where its directory comes from, for its signature.
        root: the model's directory, which has its versions; None if there is none.
    """

    model: str
    version: Version
    location: Path
    fingerprint: str
    settled: bool
    problem: str | None = None
    links_lead_anywhere: bool = False
    origin: Origin = HERE
    root: Path | None = None

    def __post_init__(self) -> None:
        if self.problem is not None:
            object.__setattr__(self, "problem", printable(self.problem))

    @property
    def is_usable(self) -> bool:
        """Whether its files are complete, without a visible problem."""
        return self.settled and self.problem is None


OpenBundle = Callable[[Candidate, Enter], Bundle]
"""Opens a candidate and reports each state it enters; the caller closes the bundle."""


@dataclass(frozen=True)
class Listing:
    """The result of a poll for one model.

    Attributes:
        candidates: the versions whose contents were read, newest first.
        config: the parsed ``serving.json``; None when it is missing or invalid.
        config_problem: why ``serving.json`` is invalid.
        config_name: the configuration's name, for messages.
        unseen: versions of which only the name is known, as the demand excludes them.
        reason: why there are no candidates: what is missing, and where.
        warnings: problems to fix, each a sentence.
        incomplete: versions that are there by name, and have no files yet, or not all.
        is_read: False if the directory could not be read now, so nothing is known of its versions.
        is_model: False if it is an empty directory, which may become a model.
    """

    model: str
    candidates: tuple[Candidate, ...] = ()
    config: ServingConfig | None = None
    config_problem: str | None = None
    config_name: str = CONFIG_NAME
    unseen: tuple[Version, ...] = ()
    reason: str = ""
    warnings: tuple[str, ...] = ()
    incomplete: tuple[Version, ...] = ()
    is_read: bool = True
    is_model: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", printable(self.reason))
        object.__setattr__(self, "warnings", few(map(printable, self.warnings)))
        if self.config_problem is not None:
            object.__setattr__(self, "config_problem", printable(self.config_problem))


@dataclass(frozen=True)
class Demand:
    """Which versions of a model to read in a poll, so that thousands of old ones cost nothing.

    Attributes:
        policy: the policy that applies if ``serving.json`` has none.
        versions: versions to read in any case.
        left_out: those that failed or were manually unloaded, for which ``further`` ones are read.
    """

    policy: VersionPolicy
    versions: frozenset[Version] = frozenset()
    left_out: frozenset[Version] = frozenset()

    @property
    def further(self) -> int:
        """How many more versions to read, to replace those that are left out."""
        return len(self.left_out)


DemandOf = Callable[[str], Demand]
"""Returns the demand for the model of that name."""


class LastKnownListings(SourceError):
    """A source has not been reachable since the start; this is its last known state.

    Attributes:
        listings: the last known versions, as far as they can still be fetched.
        as_of: when they were known, in seconds since the epoch.
    """

    def __init__(self, message: str, listings: tuple[Listing, ...], as_of: float) -> None:
        self.listings = listings
        self.as_of = as_of
        super().__init__(message)


class Source(Protocol):
    """Finds versions and makes their files local.

    ``discover`` is called from the watcher's thread, ``fetch`` from several load threads.
    """

    @property
    def place(self) -> str:
        """Its directory or registry, for messages."""

    def discover(self, demand_of: DemandOf | None = None) -> tuple[Listing, ...]:
        """Poll every model; without a demand every version is read.

        Raises:
            LastKnownListings: the source is unavailable; has the last known state.
            SourceError: the source is unavailable.
        """

    def fetch(self, candidate: Candidate) -> tuple[Path, Manifest]:
        """Make a candidate's files local, and return their directory and manifest.

        Raises:
            BundleServerError: it cannot be fetched, or its manifest is invalid.
        """

    def give_up(self, candidate: Candidate) -> None:
        """End the fetch of a candidate, if there is one: its load was given up."""


def open_candidate(
    source: Source,
    candidate: Candidate,
    enter: Enter = lambda state: None,
    *,
    device: str = "cpu",
    predict_proba: bool = False,
    version_mismatch: str = "warn",
    members: Members | None = None,
    probe: str = "enforce",
    calls: Callable[[str, str, Collection[str]], None] = lambda model, version, called: None,
    trust: Trust = TRUST_ANY,
) -> Bundle:
    """Fetch a candidate and open it, as ``opening.open_bundle`` describes.

    ``calls`` is told which other models its model and version calls.

    Raises:
        BundleServerError: why it cannot be served.
    """
    if candidate.problem is not None:
        raise BundleError(candidate.problem)
    enter(State.FETCHING)
    directory, manifest = source.fetch(candidate)
    return open_bundle(
        directory,
        manifest,
        model=candidate.model,
        version=candidate.version.label,
        links_lead_anywhere=candidate.links_lead_anywhere,
        version_mismatch=version_mismatch,
        device=device,
        predict_proba=predict_proba,
        members=members,
        probe=probe,
        enter=enter,
        calls=partial(calls, candidate.model, candidate.version.label),
        trust=trust,
        origin=candidate.origin,
    )


def named_versions(config: ServingConfig | None) -> frozenset[Version]:
    """Return every version in a ``serving.json``, by name or by one of its labels."""
    if config is None:
        return frozenset()
    names = [*config.labels.values(), *config.traffic, *config.shadow]
    if config.default is not None:
        names.append(config.default)
    if config.canary is not None:
        names.append(config.canary.version)
    labels = (config.labels.get(name, name) for name in names)
    return frozenset(Version(label) for label in labels if is_version_label(label))


def policy_of(config: ServingConfig | None, otherwise: VersionPolicy) -> VersionPolicy:
    """Return the policy in a ``serving.json``, else that of the flags."""
    if config is None or config.policy is None:
        return otherwise
    return VersionPolicy.parse(config.policy)
