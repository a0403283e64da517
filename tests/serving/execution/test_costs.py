"""What calls have cost decides where the next one runs."""

from __future__ import annotations

import time

import numpy as np
import pytest

from bundleserver.serving.execution.costs import (
    FIRST_PAUSE_SECONDS,
    MEASURED_FIRST,
    SLOW_CALLS,
    SLOW_SECONDS,
    SMALL_SECONDS,
    SURPRISE_SECONDS,
    Size,
    VersionCosts,
    size_of,
)
from bundleserver.serving.requests import PredictRequest
from bundleserver.tensors import NamedTensor

SIZE = Size("tensors", 8)
CHEAP = SMALL_SECONDS / 10
DEAR = 2 * SMALL_SECONDS


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def measured(seconds=CHEAP, times=MEASURED_FIRST, size=SIZE, clock=time.monotonic):
    """Make costs that have seen some calls of one size."""
    costs = VersionCosts(clock)
    for _ in range(times):
        costs.note(size, seconds)
    return costs


@pytest.mark.parametrize("times", range(MEASURED_FIRST + 2))
def test_nothing_is_small_before_it_is_measured(times):
    """Only after some calls were measured is a size known to be small."""
    assert (times >= MEASURED_FIRST) == measured(times=times).is_small(SIZE)


def test_each_size_is_measured_for_itself():
    """A small batch says nothing of a large one, and tensors nothing of rows."""
    costs = measured()

    assert costs.is_small(Size("tensors", 15))
    assert not costs.is_small(Size("tensors", 16))
    assert not costs.is_small(Size("rows", 8))


def test_what_usually_costs_much_is_not_small():
    """One call that the machine held up changes nothing; many that cost much do."""
    costs = measured(times=8)

    costs.note(SIZE, DEAR)
    after_one = costs.is_small(SIZE)
    for _ in range(4):
        costs.note(SIZE, DEAR)

    assert after_one
    assert not costs.is_small(SIZE)


def at_once(costs, seconds):
    """Note one call on the event loop by the thread's own clock."""
    costs.note_at_once(SIZE, seconds, time.thread_time)


@pytest.mark.parametrize(
    "surprises", [[SURPRISE_SECONDS * 2], [SLOW_SECONDS * 2] * SLOW_CALLS], ids=["large", "several"]
)
def test_slow_calls_send_a_version_back_to_the_threads_for_a_while(surprises):
    """One very slow call or several slow ones end it for a while, and each time for longer."""
    clock = Clock()
    costs = measured(times=8, clock=clock)
    paused = []
    for pause in (FIRST_PAUSE_SECONDS, 2 * FIRST_PAUSE_SECONDS):
        for seconds in surprises:
            at_once(costs, seconds)
        for _ in range(8):
            costs.note(SIZE, CHEAP)
        clock.now += 0.9 * pause
        paused.append(costs.is_small(SIZE))
        clock.now += 0.2 * pause
        paused.append(costs.is_small(SIZE))

    assert [False, True, False, True] == paused


def test_a_call_that_lasts_long_is_held_against_nobody_but_makes_the_next_ones_suspect():
    """The clock on the wall cannot tell a dear call from one that another process held up."""
    costs = measured(times=8)
    before = costs.clock

    costs.note_at_once(SIZE, 1.0, before)

    assert (time.perf_counter, time.thread_time) == (before, costs.clock)
    assert costs.is_small(SIZE)


@pytest.mark.parametrize(
    ("cost_of_eight_times", "expected"), [(1.0, False), (2.0, False), (7.5, True), (20.0, True)]
)
def test_calls_scale_where_more_values_cost_as_much_more(cost_of_eight_times, expected):
    """Joining calls pays where most of their cost does not depend on their size."""
    costs = measured(CHEAP)
    for _ in range(MEASURED_FIRST):
        costs.note(Size("tensors", 64), CHEAP * cost_of_eight_times)

    assert expected == costs.scales(SIZE)
    assert expected == costs.scales(Size("tensors", 64))


def test_what_was_not_measured_does_not_scale():
    """Without a second size there is nothing to compare."""
    assert not measured().scales(SIZE)
    assert not measured().scales(Size("tensors", 10**6))


@pytest.mark.parametrize(
    ("request_of", "expected"),
    [
        ({"tensors": (NamedTensor("a", np.zeros((2, 3))),)}, Size("tensors", 6)),
        ({"rows": [[1, 2], [3, 4]]}, Size("rows", 4)),
        ({"rows": [1, 2, 3]}, Size("rows", 3)),
        ({"rows": [{"a": 1, "b": [1, 2, 3]}, {"a": 1, "b": 2}]}, Size("objects", 6)),
        ({"rows": [{"a": 1, "b": 2}] * 65}, Size("table", 130)),
        ({"rows": []}, Size("rows", 0)),
    ],
)
def test_a_size_is_the_number_of_values(request_of, expected):
    """Values are counted, and lists inside of objects too."""
    assert expected == size_of(PredictRequest("m", **request_of))


def test_many_objects_are_never_small():
    """Their sizes are not looked at, so that none of them may surprise the event loop."""
    size = Size("table", 130)

    assert not measured(size=size).is_small(size)
