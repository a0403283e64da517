"""The life of a version: its states in order, and the pure decision what to do next.

Nothing here waits, reads or remembers: the manager shows snapshots and does what comes back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType

from bundleserver.versions import Version, VersionPolicy, select_versions


class State(str, Enum):
    """Where a version stands; the order here is the order of its life."""

    DISCOVERED = "DISCOVERED"
    FETCHING = "FETCHING"
    VERIFYING = "VERIFYING"
    LOADING = "LOADING"
    WARMING = "WARMING"
    READY = "READY"
    DRAINING = "DRAINING"
    UNLOADED = "UNLOADED"
    FAILED = "FAILED"


class SwapPolicy(str, Enum):
    """What goes first when one version takes over from another."""

    AVAILABILITY = "availability"
    """The new version is ready before the old one is unloaded."""

    RESOURCE = "resource"
    """The old version is unloaded before the new one is loaded: for memory that holds only one."""


@dataclass(frozen=True)
class Snapshot:
    """What is known of one version at one moment.

    Attributes:
        state: where it stands; the four states between DISCOVERED and READY are never decided upon.
        listed: the source listed it when last asked.
        loadable: listed, its files at rest and nothing wrong that can be seen without opening them.
        changed: its files differ from those that were last loaded or tried.
        manually_unloaded: and neither manually loaded nor published again since.
        manually_loaded: so wanted whatever the policy says.
        named: ``serving.json`` names it, directly or by a label, so wanted too.
        default: ``serving.json`` names it as the default.
        retry_at: when a failed load may be tried again, on the manager's clock; None is never.
        underway_since: when the load that goes on began, on that clock; None while there is none.
        waits_until: not to be loaded before, as it calls a model that does not answer yet.
    """

    version: Version
    state: State
    listed: bool = True
    loadable: bool = True
    changed: bool = False
    manually_unloaded: bool = False
    manually_loaded: bool = False
    named: bool = False
    default: bool = False
    retry_at: float | None = None
    underway_since: float | None = None
    waits_until: float | None = None

    @property
    def answers(self) -> bool:
        """Whether requests may acquire this version."""
        return self.state is State.READY

    @property
    def has_failed(self) -> bool:
        """Whether the files that are there now were tried and did not load."""
        return self.state is State.FAILED and not self.changed


@dataclass(frozen=True)
class Load:
    """Load this version, anew if it answers already with other files."""

    version: Version


@dataclass(frozen=True)
class Unload:
    """Drain this version, and close it after its last request."""

    version: Version


LONG_LOAD_SECONDS = 30.0
"""For how long a version that is being loaded keeps older ones of its model waiting."""


def next_action(
    snapshots: Sequence[Snapshot],
    policy: VersionPolicy,
    swap: SwapPolicy,
    now: float,
    may_load: bool = True,
) -> Load | Unload | None:
    """Decide the one next thing to do for a model, or None when there is nothing to do now.

    Whatever fails, lists nothing or is not there, a version that answers goes on until one that is
    chosen instead answers; only a manual unload goes without a successor.

    Loads go on beside each other. Newer versions, and those that somebody asked for, need not wait
    for one; older ones do for a while, so that at a start the newest is the first to answer. Where
    memory holds only one version, one is loaded at a time.
    """
    chosen = chosen_versions(snapshots, policy)
    is_alone = swap is SwapPolicy.RESOURCE and any(s.underway_since is not None for s in snapshots)
    load = _next_load(snapshots, policy, swap, chosen, now) if may_load and not is_alone else None
    unload = _next_unload(snapshots, chosen)
    if load is None:
        return unload
    if swap is SwapPolicy.AVAILABILITY:
        return load
    return _make_room(snapshots, chosen, load)


def chosen_versions(snapshots: Sequence[Snapshot], policy: VersionPolicy) -> tuple[Version, ...]:
    """Return what the policy chooses, newest first, of the versions that answer or may yet.

    A version that has failed or was manually unloaded does not count, so ``latest`` is the newest
    version *that loads*.
    """
    possible = [s.version for s in snapshots if _is_possible(s) and s.listed]
    return select_versions(possible, policy)


def wanted_versions(snapshots: Sequence[Snapshot], policy: VersionPolicy) -> frozenset[Version]:
    """Return every version that should answer: chosen, named, or manually loaded."""
    extra = (s.version for s in snapshots if _is_possible(s) and (s.named or s.manually_loaded))
    return frozenset({*chosen_versions(snapshots, policy), *extra})


def default_version(
    snapshots: Sequence[Snapshot], policy: VersionPolicy, current: Version | None
) -> Version | None:
    """Return the version that answers requests which name none; None when none should.

    That is the one ``serving.json`` names; else the newest chosen one that answers; else, while no
    chosen one does, the one that has answered so far.
    """
    named = next((s for s in snapshots if s.default), None)
    if named is not None and named.answers:
        return named.version
    answering = {s.version: s for s in snapshots if s.answers}
    if named is not None and current not in answering and _may_come(named):
        # Nothing has answered yet: wait for the version that was asked for, do not guess another.
        return None
    ready = [v for v in chosen_versions(snapshots, policy) if v in answering]
    if ready:
        return ready[0]
    if current in answering:
        return current
    return max(answering, key=lambda v: (not answering[v].manually_loaded, v), default=None)


def settled_versions(
    sound: Collection[Version],
    policy: VersionPolicy,
    named: Collection[Version] = (),
    default: Version | None = None,
) -> tuple[frozenset[Version], Version | None]:
    """Return what answers, and what by default, once what is wanted of sound versions is loaded."""
    found = [Snapshot(v, State.DISCOVERED, named=v in named, default=v == default) for v in sound]
    wanted = wanted_versions(found, policy)
    ready = [replace(s, state=State.READY) for s in found if s.version in wanted]
    return wanted, default_version(ready, policy, None)


def retry_pause(attempts: int, pauses_seconds: Sequence[float]) -> float | None:
    """Return how long to wait after so many failed attempts; None when it has been enough."""
    return pauses_seconds[attempts - 1] if attempts <= len(pauses_seconds) else None


def _is_possible(snapshot: Snapshot) -> bool:
    return (
        not snapshot.manually_unloaded
        and not snapshot.has_failed
        and (snapshot.loadable or snapshot.answers)
    )


def _may_come(snapshot: Snapshot) -> bool:
    return snapshot.listed and not snapshot.manually_unloaded and not snapshot.has_failed


def _next_load(
    snapshots: Sequence[Snapshot],
    policy: VersionPolicy,
    swap: SwapPolicy,
    chosen: Sequence[Version],
    now: float,
) -> Load | None:
    wanted = wanted_versions(snapshots, policy)
    careful = swap is SwapPolicy.RESOURCE and any(s.answers for s in snapshots)
    ahead = [s.version for s in snapshots if _is_young_load(s, now)]
    is_serving = any(s.answers for s in snapshots)
    due = [
        s
        for s in snapshots
        if s.loadable
        and not s.manually_unloaded
        and not _is_waiting(s, now)
        and (_is_asked(s, is_serving) or all(s.version > version for version in ahead))
        and (
            (s.version in wanted and _lacks_its_files(s))
            or (_is_due(s, now, careful) and _is_hoped_for(s, policy, chosen, wanted))
        )
    ]
    first = max(due, key=lambda s: (s.default, s.named, s.version), default=None)
    return None if first is None else Load(first.version)


def _is_young_load(snapshot: Snapshot, now: float) -> bool:
    since = snapshot.underway_since
    return since is not None and now - since < LONG_LOAD_SECONDS


def _is_waiting(snapshot: Snapshot, now: float) -> bool:
    """Ask whether a version waits for its own load, or for a model that it calls."""
    is_too_early = snapshot.waits_until is not None and now < snapshot.waits_until
    return snapshot.underway_since is not None or is_too_early


def _is_asked(snapshot: Snapshot, is_serving: bool) -> bool:
    """Ask whether somebody named the version; labels alone decide nothing about a start."""
    return snapshot.default or snapshot.manually_loaded or (snapshot.named and is_serving)


def _lacks_its_files(snapshot: Snapshot) -> bool:
    return snapshot.changed or not snapshot.answers


def _is_due(snapshot: Snapshot, now: float, careful: bool) -> bool:
    if careful and (snapshot.answers or not (snapshot.named or snapshot.manually_loaded)):
        # Unloading what answers for another try of what has failed would be an outage per try.
        return False
    return snapshot.retry_at is not None and snapshot.retry_at <= now


def _is_hoped_for(
    snapshot: Snapshot,
    policy: VersionPolicy,
    chosen: Sequence[Version],
    wanted: Collection[Version],
) -> bool:
    """Ask whether a version that failed would be wanted if it loaded."""
    version = snapshot.version
    return (
        snapshot.named
        or snapshot.manually_loaded
        or version in wanted
        or version in select_versions([*chosen, version], policy)
    )


def _next_unload(snapshots: Sequence[Snapshot], chosen: Sequence[Version]) -> Unload | None:
    ordered = [s.version for s in snapshots if s.manually_unloaded and s.answers]
    if ordered:
        return Unload(max(ordered))
    if not any(s.listed for s in snapshots):
        return None
    if not any(s.answers and (s.version in chosen or s.default) for s in snapshots):
        return None
    return _oldest_unwanted(snapshots, chosen)


def _make_room(
    snapshots: Sequence[Snapshot], chosen: Sequence[Version], load: Load
) -> Load | Unload | None:
    """Unload what is in the way first; None while it drains."""
    by_version: Mapping[Version, Snapshot] = MappingProxyType({s.version: s for s in snapshots})
    if by_version[load.version].answers:
        return Unload(load.version)
    in_the_way = _oldest_unwanted(snapshots, chosen)
    if in_the_way is not None:
        return in_the_way
    return None if any(s.state is State.DRAINING for s in snapshots) else load


def _oldest_unwanted(snapshots: Sequence[Snapshot], chosen: Sequence[Version]) -> Unload | None:
    unwanted = [
        s.version
        for s in snapshots
        if s.answers
        and (s.manually_unloaded or not (s.named or s.manually_loaded or s.version in chosen))
    ]
    return Unload(min(unwanted)) if unwanted else None
