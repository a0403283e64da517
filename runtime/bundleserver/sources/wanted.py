"""Which of a model's versions a poll reads, so that thousands of old ones cost nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bundleserver.sources import Candidate, Demand, named_versions, policy_of
from bundleserver.sources.ordering import OrderedVersions
from bundleserver.sources.own_files import OwnFiles
from bundleserver.versions import Version, VersionPolicy
from bundleserver.versions.serving_config import ServingConfig


@dataclass(frozen=True)
class Wanted:
    """The newest versions, as many as are enough, and those that something names.

    Attributes:
        newest: how many sound ones of the newest are read; None is all.
        named: versions that are read in any case.
    """

    newest: int | None
    named: frozenset[Version]

    @classmethod
    def of(
        cls,
        demand: Demand | None,
        config: ServingConfig | None,
        directories: OrderedVersions,
        own: OwnFiles | None,
    ) -> Wanted:
        """Return what a demand and a ``serving.json`` want of the versions that there are."""
        demand = demand or Demand(VersionPolicy(None))
        # Both policies: that of serving.json may not be in effect yet.
        policies = (demand.policy, policy_of(config, demand.policy))
        specific = {version for policy in policies for version in policy.specific}
        named = {*demand.versions, *specific, *named_versions(config)}
        named = {version for version in named if version.label in directories.known}
        if own is not None:
            # The version before all others: it is always shown, and is one directory more.
            named.add(own.version)
        most = _most(policies)
        return cls(None if most is None else most + demand.further, frozenset(named))

    def read_from(
        self, newest_first: Sequence[Version], read: Callable[[Version], Candidate | None]
    ) -> tuple[tuple[Candidate, ...], tuple[Version, ...]]:
        """Return the candidates that were read, and the versions that were not."""
        candidates: list[Candidate] = []
        unseen: list[Version] = []
        named = {*self.named}
        sound = 0
        for at, version in enumerate(newest_first):
            is_enough = self.newest is not None and sound >= self.newest
            if is_enough and not named:
                unseen += newest_first[at:]
                break
            if is_enough and version not in named:
                unseen.append(version)
                continue
            named.discard(version)
            if candidate := read(version):
                candidates.append(candidate)
                sound += candidate.is_usable
        return tuple(candidates), tuple(unseen)


def _most(policies: Iterable[VersionPolicy]) -> int | None:
    """Return the maximum number of newest versions that the policies select; None is all."""
    counts = [0 if policy.specific else policy.count for policy in policies]
    return None if None in counts else max(count or 0 for count in counts)
