"""The lifecycle of a version: its states in order, and the pure decision on the next action."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from bundleserver.versions import Version, VersionPolicy, select_versions


class State(str, Enum):
    """A version's state, in the order of its lifecycle."""

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
    """Which version is loaded or unloaded first when one replaces another."""

    AVAILABILITY = "availability"
    """The new version is ready before the old one is unloaded."""

    RESOURCE = "resource"
    """The old version is unloaded before the new one is loaded: for memory that holds only one."""


@dataclass(frozen=True)
class Snapshot:
    """One version at one moment.

    Attributes:
        state: its state; the four states between DISCOVERED and READY need no decision.
        listed: the last poll listed it.
        loadable: it is listed, and its files are complete and have no visible problem.
        changed: its files differ from those that were last loaded or tried.
        manually_unloaded: and neither manually loaded nor published again since.
        manually_loaded: so it is wanted whatever the policy selects.
        named: ``serving.json`` names it, directly or by a label, so it is wanted too.
        default: ``serving.json`` names it as the default.
        retry_at: the time of the next retry after a failure, on the manager's clock; None is never.
        underway_since: when its load began, on that clock; None without a load.
        waits_until: the earliest time of its load, as it calls a model that is not ready.
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
        """Whether its current files failed to load."""
        return self.state is State.FAILED and not self.changed


@dataclass(frozen=True)
class Load:
    """Load this version, or reload it with its changed files."""

    version: Version


@dataclass(frozen=True)
class Unload:
    """Drain this version, then close it."""

    version: Version


LONG_LOAD_SECONDS = 30.0
"""How long the load of a version delays loads of older ones of its model."""


def next_action(
    snapshots: Sequence[Snapshot],
    policy: VersionPolicy,
    swap: SwapPolicy,
    now: float,
    may_load: bool = True,
) -> Load | Unload | None:
    """Return the next action for a model; None if there is nothing to do now.

    Whatever fails or is missing, a version that answers keeps serving until its successor answers;
    only a manual unload needs no successor.

    Loads run concurrently. Newer versions, and those that were requested, do not wait for a load;
    older ones do for a while, so that at a start the newest is the first to answer. With the swap
    policy ``resource`` one version is loaded at a time.
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
    """Return what the policy selects, newest first, of the versions that are or may become ready.

    A version that has failed or was manually unloaded does not count, so ``latest`` is the newest
    version *that loads*.
    """
    possible = [s.version for s in snapshots if _is_possible(s) and s.listed]
    return select_versions(possible, policy)


def wanted_versions(snapshots: Sequence[Snapshot], policy: VersionPolicy) -> frozenset[Version]:
    """Return every version that should be loaded: chosen, named, or manually loaded."""
    extra = (s.version for s in snapshots if _is_possible(s) and (s.named or s.manually_loaded))
    return frozenset({*chosen_versions(snapshots, policy), *extra})


def default_version(
    snapshots: Sequence[Snapshot], policy: VersionPolicy, current: Version | None
) -> Version | None:
    """Return the version for requests that name none; None if there should be none.

    That is the default in ``serving.json``; else the newest chosen version that answers; else the
    current default.
    """
    named = next((s for s in snapshots if s.default), None)
    if named is not None and named.answers:
        return named.version
    answering = {s.version: s for s in snapshots if s.answers}
    if named is not None and current not in answering and _may_come(named):
        # Nothing has answered yet: wait for the configured default instead of using another.
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
    """Return what is loaded of sound versions, and the default, once nothing is left to do."""
    found = [Snapshot(v, State.DISCOVERED, named=v in named, default=v == default) for v in sound]
    wanted = wanted_versions(found, policy)
    ready = [replace(s, state=State.READY) for s in found if s.version in wanted]
    return wanted, default_version(ready, policy, None)


def retry_pause(attempts: int, pauses_seconds: Sequence[float]) -> float | None:
    """Return the pause after so many failed attempts; None if there are no more retries."""
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
            (s.version in wanted and (s.changed or not s.answers))
            or (_is_due(s, now, careful) and _is_hoped_for(s, policy, chosen, wanted))
        )
    ]
    first = max(due, key=lambda s: (s.default, s.named, s.version), default=None)
    return None if first is None else Load(first.version)


def _is_young_load(snapshot: Snapshot, now: float) -> bool:
    since = snapshot.underway_since
    return since is not None and now - since < LONG_LOAD_SECONDS


def _is_waiting(snapshot: Snapshot, now: float) -> bool:
    """Ask whether a version is being loaded, or waits for a model that it calls."""
    is_too_early = snapshot.waits_until is not None and now < snapshot.waits_until
    return snapshot.underway_since is not None or is_too_early


def _is_asked(snapshot: Snapshot, is_serving: bool) -> bool:
    """Ask whether the version was requested; at a start labels alone do not count."""
    return snapshot.default or snapshot.manually_loaded or (snapshot.named and is_serving)


def _is_due(snapshot: Snapshot, now: float, careful: bool) -> bool:
    if careful and (snapshot.answers or not (snapshot.named or snapshot.manually_loaded)):
        # Unloading a version that answers for each retry of a failed one would cause outages.
        return False
    return snapshot.retry_at is not None and snapshot.retry_at <= now


def _is_hoped_for(
    snapshot: Snapshot,
    policy: VersionPolicy,
    chosen: Sequence[Version],
    wanted: Collection[Version],
) -> bool:
    is_named = snapshot.named or snapshot.manually_loaded or snapshot.version in wanted
    return is_named or snapshot.version in select_versions([*chosen, snapshot.version], policy)


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
    """Unload an unwanted version before the load; None while one drains."""
    if any(s.version == load.version and s.answers for s in snapshots):
        return Unload(load.version)
    if (unload := _oldest_unwanted(snapshots, chosen)) is not None:
        return unload
    return None if any(s.state is State.DRAINING for s in snapshots) else load


def _oldest_unwanted(snapshots: Sequence[Snapshot], chosen: Sequence[Version]) -> Unload | None:
    unwanted = [
        s.version
        for s in snapshots
        if s.answers
        and (s.manually_unloaded or not (s.named or s.manually_loaded or s.version in chosen))
    ]
    return Unload(min(unwanted)) if unwanted else None
