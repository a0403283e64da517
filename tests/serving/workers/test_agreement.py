"""Agreement: what all workers have open, and who counts."""

from __future__ import annotations

from bundleserver.serving.workers.agreement import Agreement

V1, V2 = ("fraud", "v1", "a"), ("fraud", "v2", "b")


def opened(*keys):
    """Make what a worker has open."""
    return frozenset(keys)


def test_nothing_is_agreed_among_nobody():
    """Without workers nothing answers."""
    assert frozenset() == Agreement().agreed


def test_what_all_have_is_agreed():
    """A version is agreed once every worker that counts has it open."""
    agreement = Agreement()
    agreement.report(1, opened(), {})
    agreement.report(2, opened(), {})
    agreement.report(1, opened(V1), {})
    before = agreement.agreed
    agreement.report(2, opened(V1, V2), {})

    assert frozenset() == before
    assert {V1} == agreement.agreed


def test_other_files_are_another_version():
    """Two workers that have one version with different files agree on nothing."""
    agreement = Agreement()
    for number in (1, 2):
        agreement.report(number, opened(), {})
    agreement.report(1, opened(("fraud", "v1", "a")), {})
    agreement.report(2, opened(("fraud", "v1", "b")), {})

    assert frozenset() == agreement.agreed


def test_a_worker_that_begins_takes_nothing_away():
    """One that has not caught up does not count, and nothing of the others is withdrawn for it."""
    agreement = Agreement()
    agreement.report(1, opened(V1), {})
    agreement.report(2, opened(), {})
    before = agreement.joined, agreement.agreed
    agreement.report(2, opened(V1), {})

    assert ({1}, {V1}) == before
    assert {1, 2} == agreement.joined


def test_a_worker_that_ends_keeps_nobody_waiting():
    """What only the lost worker lacked is agreed as soon as it is gone."""
    agreement = Agreement()
    for number in (1, 2):
        agreement.report(number, opened(), {})
    agreement.report(1, opened(V1), {})
    agreement.leave(2)

    assert ({1}, {V1}) == (agreement.joined, agreement.agreed)


def test_failures_are_those_of_the_others_that_count():
    """A worker hears what fails elsewhere, and neither its own failures nor those of beginners."""
    agreement = Agreement()
    agreement.report(1, opened(V1), {V2: "it is broken"})
    agreement.report(2, opened(V1), {})
    agreement.report(3, opened(), {V1: "no memory"})

    assert {} == agreement.failed_elsewhere(1)
    assert {V2: "it is broken"} == agreement.failed_elsewhere(2)
