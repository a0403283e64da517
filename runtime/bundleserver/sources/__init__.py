"""Where versions come from: what a source tells the manager, and what it is asked.

A source states the *whole* set of what is there, or raises: an outage is an error, no empty set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bundleserver.bundle import Bundle
from bundleserver.bundle.members import Members
from bundleserver.bundle.opening import Enter, open_bundle
from bundleserver.errors import BundleError, SourceError
from bundleserver.manifest import Manifest
from bundleserver.versions import Version, VersionPolicy, is_version_label
from bundleserver.versions.lifecycle import State
from bundleserver.versions.serving_config import CONFIG_NAME, ServingConfig


@dataclass(frozen=True)
class Candidate:
    """One discovered version of a model.

    Attributes:
        location: where it is, as messages name it.
        fingerprint: changes whenever the files change; compared for equality only.
        settled: nobody seems to be writing it any more.
        problem: why it cannot be loaded, as far as can be seen without opening its files.
        links_lead_anywhere: it is ``--model_dir`` itself, whose direct children may be links.
    """

    model: str
    version: Version
    location: Path
    fingerprint: str
    settled: bool
    problem: str | None = None
    links_lead_anywhere: bool = False


OpenBundle = Callable[[Candidate, Enter], Bundle]
"""Opens a candidate and says which state it enters; whoever calls it closes the bundle."""


@dataclass(frozen=True)
class Listing:
    """Everything a source knows of one model now.

    Attributes:
        candidates: the versions whose contents were looked at, newest first.
        config: what ``serving.json`` says; None when there is none, or none that can be read.
        config_problem: why ``serving.json`` cannot be read.
        config_name: how messages name what the configuration stands in.
        unseen: versions known by name only, because the demand does not reach them.
        reason: why there are no candidates: what is waited for, and where it would be.
        warnings: what somebody should mend, each a sentence.
    """

    model: str
    candidates: tuple[Candidate, ...] = ()
    config: ServingConfig | None = None
    config_problem: str | None = None
    config_name: str = CONFIG_NAME
    unseen: tuple[Version, ...] = ()
    reason: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Demand:
    """Which of a model's versions are worth a look, so that thousands of old ones cost nothing.

    Attributes:
        policy: the policy in force where ``serving.json`` has none.
        further: how many versions beyond the policy's, in place of those that failed or are held.
        versions: versions to look at in any case.
    """

    policy: VersionPolicy
    further: int = 0
    versions: frozenset[Version] = frozenset()


DemandOf = Callable[[str], Demand]
"""Says what is demanded of the model of that name."""


class LastKnownListings(SourceError):
    """A source cannot be read, and has not been since the start; this is what it last said.

    Attributes:
        listings: what was known then, as far as it can still be fetched.
        as_of: when that was, in seconds since the epoch.
    """

    def __init__(self, message: str, listings: tuple[Listing, ...], as_of: float) -> None:
        self.listings = listings
        self.as_of = as_of
        super().__init__(message)


class Source(Protocol):
    """Finds versions and makes their files local.

    ``discover`` is called by the watcher's thread, ``fetch`` by those that load, several at a time.
    """

    @property
    def place(self) -> str:
        """Where it looks, as messages name it."""

    def discover(self, demand_of: DemandOf | None = None) -> tuple[Listing, ...]:
        """Return what is known of every model; without a demand every version is looked at.

        Raises:
            LastKnownListings: it cannot be told now what is there, only what was.
            SourceError: it cannot be told now what is there.
        """

    def fetch(self, candidate: Candidate) -> tuple[Path, Manifest]:
        """Make a candidate's files local, and return where they are and what they are.

        Raises:
            BundleServerError: it cannot be had, or its manifest is wrong.
        """


def open_candidate(
    source: Source,
    candidate: Candidate,
    enter: Enter = lambda state: None,
    *,
    device: str = "cpu",
    version_mismatch: str = "warn",
    members: Members | None = None,
) -> Bundle:
    """Fetch a candidate and open it, as ``opening.open_bundle`` says.

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
        members=members,
        enter=enter,
    )


def named_versions(config: ServingConfig | None) -> frozenset[Version]:
    """Return every version that a ``serving.json`` names, directly or by a label of its own."""
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
    """Return the policy that a ``serving.json`` sets, else the flags' one."""
    if config is None or config.policy is None:
        return otherwise
    return VersionPolicy.parse(config.policy)
