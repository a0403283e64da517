"""Where versions come from: what a source tells the manager, and what it is asked.

A source states the *whole* set of what is there, or raises: an outage is an error, no empty set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bundleserver.errors import SourceError
from bundleserver.versions import Version, VersionPolicy, is_version_label
from bundleserver.versions.serving_config import CONFIG_NAME, ServingConfig

if TYPE_CHECKING:
    from bundleserver.manifest import Manifest


@dataclass(frozen=True)
class Candidate:
    """One discovered version of a model.

    Attributes:
        location: where it is, as messages name it.
        fingerprint: changes whenever the files change; compared for equality only.
        settled: nobody seems to be writing it any more.
        problem: why it cannot be loaded, as far as can be seen without opening its files.
        links_lead_anywhere: it lies at the top of ``--model_dir``, whose own links are trusted.
    """

    model: str
    version: Version
    location: Path
    fingerprint: str
    settled: bool
    problem: str | None = None
    links_lead_anywhere: bool = False


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
