"""Trials: whose turn it is to load a version, and what a lost process is held against."""

from __future__ import annotations

import pytest

from bundleserver.manager.admission import VersionKey
from bundleserver.serving.workers.trials import PAUSES_SECONDS, Trials
from tests.fakes import Clock

OLD, NEW, OTHER = (VersionKey("tide", label, label) for label in ("v1", "v2", "v3"))


@pytest.fixture
def clock():
    """Make a clock that goes when it is told to."""
    return Clock()


@pytest.fixture
def trials(clock):
    """Make trials of a server that has answered with a version."""
    made = Trials(clock)
    assert [] == made.grant({OLD})
    return made


def want(trials, *loads):
    """Let processes want loads, and return those that begin."""
    for number, key in loads:
        trials.want(number, key)
    return set(trials.grant({OLD}))


def test_before_anything_answers_all_load_at_once(clock):
    """At a start there is nothing to lose, and nobody waits."""
    trials = Trials(clock)
    trials.want(1, NEW)
    trials.want(2, NEW)

    assert {(1, NEW), (2, NEW)} == set(trials.grant(frozenset()))


def test_a_new_version_is_loaded_by_one_and_then_by_the_others(trials):
    """The second process begins once the first has survived it; what is agreed never waits."""
    begun = want(trials, (1, NEW), (2, NEW), (2, OLD))
    trials.end(1, NEW)

    assert {(1, NEW), (2, OLD)} == begun
    assert [(2, NEW)] == trials.grant({OLD})


def test_all_new_versions_are_loaded_by_the_same_process(trials):
    """Two bad versions at once do not end two processes."""
    begun = want(trials, (1, NEW)) | want(trials, (2, OTHER)) | want(trials, (1, OTHER))

    assert {(1, NEW), (1, OTHER)} == begun


def test_a_load_that_hangs_lets_the_others_begin(trials):
    """What was given up is reported as failed, and its thread keeps nobody waiting."""
    want(trials, (1, NEW), (2, NEW))
    trials.note_known(1, [NEW])

    assert {(2, NEW), (2, OTHER)} == want(trials, (2, OTHER))


def test_a_version_that_ended_its_process_is_barred_for_a_while(trials, clock):
    """Its backoff grows, and in the end its files must change."""
    seen = []
    for pause in (*PAUSES_SECONDS, None):
        assert {(1, NEW)} == want(trials, (1, NEW))
        assert {NEW} == trials.leave(1, {OLD}, "broke it", is_sure=True)
        seen.append(trials.barred[NEW])
        trials.join(1)
        assert set() == want(trials, (1, NEW))
        clock.now += pause or 10**9

    assert seen[0] == ("FAILED: its load broke it; it is not loaded again before 60 s have passed")
    assert seen[-1].endswith("it is not loaded again before its files change")
    assert [NEW] == [*trials.barred]


def test_versions_that_were_loaded_together_are_then_loaded_alone(trials):
    """The innocent one answers, and only the other is barred."""
    want(trials, (1, NEW), (1, OTHER))
    trials.leave(1, {OLD}, "broke it", is_sure=True)
    assert (set(), {}) == (want(trials, (2, NEW), (2, OTHER)), trials.barred)
    trials.join(1)
    first = trials.grant({OLD})
    trials.end(*first[0])
    second = trials.grant({OLD})
    trials.leave(2, {OLD}, "broke it", is_sure=True)

    assert [(2, NEW)] == first
    assert [(2, OTHER)] == second
    assert [OTHER] == [*trials.barred]


def test_a_process_that_anybody_may_have_killed_is_no_proof(trials):
    """After one SIGKILL a version is loaded again, alone; after two it is barred."""
    barred = []
    for _ in range(2):
        assert {(1, NEW)} == want(trials, (1, NEW))
        trials.leave(1, {OLD}, "ended", is_sure=False)
        trials.join(1)
        barred.append([*trials.barred])

    assert [[], [NEW]] == barred


def test_processes_that_anybody_may_have_killed_bar_nothing_for_ever(trials, clock):
    """Whoever kills every process again and again has stopped no version for good."""
    for _ in range(30):
        assert {(1, NEW)} == want(trials, (1, NEW))
        trials.leave(1, {OLD}, "ended", is_sure=False)
        trials.join(1)
        clock.now += PAUSES_SECONDS[-1]

    assert {} == trials.barred


def test_what_has_served_waits_a_moment_whoever_kills_its_processes(trials, clock):
    """Also when no process is left that has it; else too little memory would end them for ever."""
    barred = []
    for _ in range(30):
        trials.want(1, OLD)
        assert [(1, OLD)] == trials.grant(frozenset())
        assert {OLD} == trials.leave(1, frozenset(), "ended", is_sure=False)
        barred.append(len(trials.barred))
        clock.now += PAUSES_SECONDS[0]

    assert [0] + [1] * 29 == barred
    assert {} == trials.barred
    trials.want(1, OLD)
    trials.grant(frozenset())
    assert {OLD} == trials.leave(1, frozenset(), "broke it", is_sure=True)


def test_a_process_that_stops_in_order_is_held_against_nothing(trials):
    """What it was loading is another one's turn at once, and so is what is agreed."""
    want(trials, (1, NEW), (2, NEW))
    ended = trials.leave(1, {OLD}, "")

    assert (frozenset(), {}) == (ended, trials.barred)
    assert [(2, NEW)] == trials.grant({OLD})


def test_what_is_agreed_is_never_to_blame(trials):
    """A replacement that dies while it loads what others answer with bars nothing."""
    want(trials, (2, OLD))

    assert frozenset() == trials.leave(2, {OLD}, "ended", is_sure=True)


def test_new_versions_do_not_wait_for_a_replacement_for_ever(trials, clock):
    """A lost process that does not come back holds up other versions for a minute at most."""
    want(trials, (1, NEW))
    trials.leave(1, {OLD}, "broke it", is_sure=True)
    waiting = want(trials, (2, OTHER))
    clock.now += 60

    assert set() == waiting
    assert [(2, OTHER)] == trials.grant({OLD})


@pytest.mark.parametrize("is_sure", [False, True])
def test_before_anything_was_served_three_tries_with_short_pauses_suffice(is_sure, clock):
    """Processes that end together are one try; then only other files are loaded."""
    trials = Trials(clock, first_pauses_seconds=(2.0, 6.0))
    for number in (1, 2):
        trials.want(number, NEW)
    trials.grant(frozenset())
    found = []
    for pause in (2.0, 6.0, 1000.0):
        for number in (1, 2):
            trials.leave(number, frozenset(), "ended the process", is_sure=is_sure)
        for number in (1, 2):
            trials.join(number)
        clock.now += pause - 0.5
        before = NEW in trials.barred
        clock.now += 0.5
        trials.want(1, NEW)
        found.append((before, trials.grant(frozenset())))

    assert [(True, [(1, NEW)]), (True, [(1, NEW)]), (True, [])] == found
    assert {NEW} == trials.barred_for_good


def test_what_ends_a_process_after_something_served_has_the_long_pauses(clock):
    """Also of a server that would have ended if its first load had failed."""
    trials = Trials(clock, first_pauses_seconds=(2.0, 6.0))
    trials.grant({OLD})
    trials.want(1, NEW)
    trials.grant({OLD})
    trials.leave(1, {OLD}, "ended the process", is_sure=True)
    clock.now += PAUSES_SECONDS[0] - 1

    assert NEW in trials.barred
