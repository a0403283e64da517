from __future__ import annotations

from dataclasses import replace

import pytest

from bundleserver.versions import Version, VersionPolicy
from bundleserver.versions.lifecycle import (
    Load,
    Snapshot,
    State,
    SwapPolicy,
    Unload,
    chosen_versions,
    default_version,
    next_action,
    retry_pause,
    wanted_versions,
)

AVAILABILITY = SwapPolicy.AVAILABILITY
RESOURCE = SwapPolicy.RESOURCE
NOW = 100.0


def v(number: int) -> Version:
    """Return the version ``v<number>``."""
    return Version.parse(f"v{number}")


def new(number: int, **facts: object) -> Snapshot:
    """Describe a version that was found and not touched."""
    return replace(Snapshot(v(number), State.DISCOVERED), **facts)


def ready(number: int, **facts: object) -> Snapshot:
    """Describe a version that answers."""
    return replace(Snapshot(v(number), State.READY), **facts)


def failed(number: int, **facts: object) -> Snapshot:
    """Describe a version that did not load."""
    return replace(Snapshot(v(number), State.FAILED), **facts)


def draining(number: int, **facts: object) -> Snapshot:
    """Describe a version that waits for its last requests."""
    return replace(Snapshot(v(number), State.DRAINING), **facts)


def gone(number: int, **facts: object) -> Snapshot:
    """Describe a version that answers and that the source lists no more."""
    return ready(number, listed=False, loadable=False, **facts)


BOTH = [
    ("nothing there", "latest", [], None),
    ("a fresh start loads the newest", "latest", [new(1), new(2)], Load(v(2))),
    ("nothing to do", "latest", [new(1), ready(2)], None),
    ("the newest that loads", "latest", [new(1), failed(2)], Load(v(1))),
    ("and the next older", "latest", [new(1), failed(2), failed(3)], Load(v(1))),
    ("failed versions count for nothing", "latest:2", [new(1), failed(2), ready(3)], Load(v(1))),
    ("all, newest first", "all", [new(1), new(2), new(3)], Load(v(3))),
    ("all, one by one", "all", [new(1), new(2), ready(3)], Load(v(2))),
    ("specific", "specific:v1", [new(1), new(2)], Load(v(1))),
    ("specific has no substitute", "specific:v2", [new(1), failed(2)], None),
    ("specific is not there", "specific:v9", [new(1)], None),
    ("unsettled does not exist yet", "latest", [new(1), new(2, loadable=False)], Load(v(1))),
    ("unsettled takes nobody's place", "latest", [ready(1), new(2, loadable=False)], None),
    ("files that changed are loaded again", "latest", [failed(2, changed=True)], Load(v(2))),
    ("but not while they change", "latest", [failed(2, changed=True, loadable=False)], None),
    ("a failed one is retried", "latest", [failed(2, retry_at=NOW)], Load(v(2))),
    ("when it is time", "latest", [failed(2, retry_at=NOW + 1)], None),
    ("and not for ever", "latest", [failed(2, retry_at=None)], None),
    ("an old failure is not retried", "latest", [failed(1, retry_at=NOW), ready(2)], None),
    ("a version that answers survives an empty listing", "latest", [gone(1)], None),
    ("several do", "latest:2", [gone(1), gone(2)], None),
    (
        "even beside a default",
        "all",
        [gone(1, named=True, default=True), gone(2)],
        None,
    ),
    ("a failed successor unloads nothing", "latest", [ready(1), failed(2)], None),
    ("nor does a policy that finds nothing", "specific:v9", [ready(1)], None),
    (
        "nor a manual load beside a failure",
        "specific:v9",
        [ready(1), ready(2, manually_loaded=True)],
        None,
    ),
    ("an unwanted one goes", "latest", [ready(1), ready(2)], Unload(v(1))),
    ("the oldest first", "latest", [ready(1), ready(2), ready(3)], Unload(v(1))),
    ("deleted ones go when another answers", "latest", [ready(1), gone(2)], Unload(v(2))),
    ("a manual unload is not loaded", "latest", [new(1, manually_unloaded=True)], None),
    (
        "a manual unload leaves its place",
        "latest",
        [new(1), new(2, manually_unloaded=True)],
        Load(v(1)),
    ),
    (
        "a manual unload is not retried",
        "latest",
        [failed(2, manually_unloaded=True, retry_at=0.0)],
        None,
    ),
    (
        "a manual unload needs no successor",
        "latest",
        [ready(1, manually_unloaded=True)],
        Unload(v(1)),
    ),
    ("a manual load is loaded too", "latest", [new(1, manually_loaded=True), ready(2)], Load(v(1))),
    ("a manual load stays", "latest", [ready(1, manually_loaded=True), ready(2)], None),
    (
        "a manual load is retried",
        "latest",
        [failed(1, manually_loaded=True, retry_at=NOW), ready(2)],
        Load(v(1)),
    ),
    ("named is loaded too", "latest", [new(1, named=True), ready(2)], Load(v(1))),
    ("named stays", "latest", [ready(1, named=True), ready(2)], None),
    ("named stays when it is deleted", "latest", [gone(1, named=True), ready(2)], None),
    ("named comes first", "all", [new(1, named=True), new(2), new(3)], Load(v(1))),
    (
        "the default comes before the named",
        "all",
        [new(1, named=True, default=True), new(2, named=True)],
        Load(v(1)),
    ),
    (
        "a default that answers lets the rest go",
        "specific:v9",
        [ready(1, named=True, default=True), ready(2)],
        Unload(v(2)),
    ),
]


@pytest.mark.parametrize("swap", [AVAILABILITY, RESOURCE])
@pytest.mark.parametrize(
    ("policy", "snapshots", "action"), [row[1:] for row in BOTH], ids=[row[0] for row in BOTH]
)
def test_next_action_under_both_swap_policies(policy, snapshots, action, swap):
    """What is loaded and unloaded does not depend on the order of a swap."""
    found = next_action(snapshots, VersionPolicy.parse(policy), swap, NOW)

    assert action == found


SWAPS = [
    ("successor", "latest", [ready(1), new(2)], Load(v(2)), Unload(v(1))),
    ("in place", "latest", [ready(1, changed=True)], Load(v(1)), Unload(v(1))),
    ("rollback", "specific:v1", [new(1), ready(2)], Load(v(1)), Unload(v(2))),
    ("two of three", "latest:2", [ready(1), ready(2), new(3)], Load(v(3)), Unload(v(1))),
    (
        "a manual unload",
        "latest",
        [new(1), ready(2, manually_unloaded=True)],
        Load(v(1)),
        Unload(v(2)),
    ),
    ("while the old one drains", "latest", [draining(1), new(2)], Load(v(2)), None),
    ("a draining one is wanted again", "latest", [draining(1)], Load(v(1)), None),
    ("room is there", "latest:2", [ready(1), new(2)], Load(v(2)), Load(v(2))),
    ("a retry", "latest", [ready(1), failed(2, retry_at=NOW)], Load(v(2)), None),
    ("a retry in place", "latest", [ready(1, retry_at=NOW)], Load(v(1)), None),
    ("named stays", "latest", [ready(1, named=True), new(2)], Load(v(2)), Load(v(2))),
]


@pytest.mark.parametrize(
    ("policy", "snapshots", "available", "frugal"),
    [row[1:] for row in SWAPS],
    ids=[row[0] for row in SWAPS],
)
def test_next_action_of_a_swap(policy, snapshots, available, frugal):
    """Availability loads first and unloads then; resource unloads, waits and loads."""
    wanted = VersionPolicy.parse(policy)

    assert available == next_action(snapshots, wanted, AVAILABILITY, NOW)
    assert frugal == next_action(snapshots, wanted, RESOURCE, NOW)


@pytest.mark.parametrize(
    ("policy", "snapshots", "chosen", "wanted"),
    [
        ("latest", [new(1), new(2)], [2], [2]),
        ("latest", [new(1), failed(2)], [1], [1]),
        ("latest", [new(1, named=True), new(2, manually_loaded=True), ready(3)], [3], [1, 2, 3]),
        ("latest", [failed(1, named=True), ready(3)], [3], [3]),
        ("latest", [gone(1), gone(2, named=True)], [], [2]),
        ("all", [new(1), new(2, manually_unloaded=True), failed(3), ready(4)], [4, 1], [4, 1]),
        ("specific:v1,v9", [new(1), new(2)], [1], [1]),
    ],
)
def test_wanted_versions_are_chosen_named_or_loaded_manually(policy, snapshots, chosen, wanted):
    """The policy chooses among what may answer; names and manual loads add to it."""
    parsed = VersionPolicy.parse(policy)

    assert tuple(map(v, chosen)) == chosen_versions(snapshots, parsed)
    assert set(map(v, wanted)) == wanted_versions(snapshots, parsed)


@pytest.mark.parametrize(
    ("policy", "snapshots", "current", "default"),
    [
        ("latest", [], None, None),
        ("latest", [new(1)], None, None),
        ("latest:2", [ready(1), ready(2)], None, 2),
        ("latest", [ready(1), new(2)], 1, 1),
        ("latest", [ready(1), ready(2)], 1, 2),
        ("latest", [ready(1), failed(2)], 1, 1),
        ("latest", [ready(1, manually_loaded=True), ready(2)], 2, 2),
        ("specific:v1", [ready(1), ready(5, manually_loaded=True)], 1, 1),
        ("specific:v2", [ready(1), new(2), ready(5, manually_loaded=True)], None, 1),
        ("latest", [gone(1)], 1, 1),
        ("latest:2", [ready(1, default=True), ready(2)], 2, 1),
        ("latest:2", [new(1, default=True), ready(2)], None, None),
        ("latest:2", [new(1, default=True), ready(2)], 2, 2),
        ("latest:2", [failed(1, default=True), ready(2)], None, 2),
        ("latest:2", [new(1, default=True, manually_unloaded=True), ready(2)], None, 2),
        ("latest", [ready(1, manually_unloaded=True), new(2)], 1, 1),
    ],
)
def test_default_version(policy, snapshots, current, default):
    """The named one that answers, else the newest chosen one, else the one that has answered."""
    found = default_version(
        snapshots, VersionPolicy.parse(policy), None if current is None else v(current)
    )

    assert (None if default is None else v(default)) == found


def test_retry_pause_grows_and_ends():
    """A failed version is tried again after each pause in turn, and then no more."""
    pauses = [retry_pause(attempts, (5.0, 15.0)) for attempts in (1, 2, 3)]

    assert [5.0, 15.0, None] == pauses


@pytest.mark.parametrize("swap", [AVAILABILITY, RESOURCE])
@pytest.mark.parametrize("policy", ["latest", "latest:2", "all", "specific:v2"])
def test_next_action_comes_to_rest(policy, swap):
    """Doing what is said, with version 3 broken, ends, and something answers at the end."""
    states = {1: State.READY, 2: State.DISCOVERED, 3: State.DISCOVERED}
    for _ in range(20):
        shots = [Snapshot(v(n), state) for n, state in states.items()]
        action = next_action(shots, VersionPolicy.parse(policy), swap, NOW)
        if action is None:
            break
        number = int(action.version.label[1:])
        if isinstance(action, Unload):
            states[number] = State.UNLOADED
        else:
            states[number] = State.FAILED if number == 3 else State.READY

    assert action is None
    assert State.READY in (states[1], states[2])
