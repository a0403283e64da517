"""Large bodies take turns on the event loop."""

import asyncio
import threading
from collections import Counter

import pytest

from bundleserver.errors import InvalidInput
from bundleserver.serving.codecs.json_pieces import LARGE_BYTES
from bundleserver.serving.rest.heavy_work import SMALL_BYTES, TURN_BYTES, HeavyWork


def turns_of(sizes):
    """Tell in which turn of the loop work of these sizes was done, and in which threads."""

    async def ask():
        loop, work, turn = asyncio.get_running_loop(), HeavyWork(), 0

        def count():
            nonlocal turn
            turn += 1
            loop.call_soon(count)

        async def one(size):
            return await work.run(size, lambda: (turn, threading.current_thread().name))

        # Counted before what the work itself puts off until the next turn.
        loop.call_soon(count)
        await asyncio.sleep(0)
        answers = await asyncio.gather(*map(one, sizes))
        first = min(turn for turn, _ in answers)
        return [turn - first for turn, _ in answers], {thread for _, thread in answers}

    return asyncio.run(ask())


def test_small_bodies_wait_for_nothing():
    """However many have come at once."""
    turns, _ = turns_of([SMALL_BYTES] * 100)

    assert {0} == set(turns)


def test_a_turn_does_no_more_than_its_share():
    """As much at once as goes into a turn, and then one in each."""
    size = TURN_BYTES // 3

    turns, _ = turns_of([size] * 10)

    assert [0, 0, 0] == turns[:3]
    assert {1} == set(Counter(turns[3:]).values())
    assert 7 == len(set(turns[3:]))


def test_nobody_overtakes_those_who_wait():
    """What comes later waits behind them, although a new turn has room for it."""

    async def ask():
        work, done, size = HeavyWork(), [], TURN_BYTES // 2

        async def one(number):
            await work.run(size, lambda: done.append(number))

        waiting = [asyncio.create_task(one(number)) for number in range(5)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(done) < 4, "nobody waits any more"
        await asyncio.gather(*waiting, one(5))
        return done

    assert [0, 1, 2, 3, 4, 5] == asyncio.run(ask())


def test_a_large_body_leaves_the_loop_to_others_first():
    """What is larger than a turn's share is begun in a later one, each in its own."""
    turns, threads = turns_of([TURN_BYTES + 1] * 4 + [SMALL_BYTES])

    assert 4 == len(set(turns[:4]))
    assert min(turns[:4]) > turns[4] == 0
    assert {threading.current_thread().name} == threads


def test_the_largest_are_read_in_a_thread():
    """One after the other, since each may take many times its size."""
    running, seen = [], []

    def read():
        running.append(threading.current_thread().name)
        seen.append(list(running))
        running.pop()

    async def ask():
        work = HeavyWork()
        await asyncio.gather(*(work.run(LARGE_BYTES + 1, read) for _ in range(50)))

    asyncio.run(ask())
    assert [1] * 50 == [len(names) for names in seen]
    assert {"large-body"} == {name.partition("_")[0] for names in seen for name in names}


@pytest.mark.parametrize("size", [1, SMALL_BYTES + 1, TURN_BYTES + 1, LARGE_BYTES + 1])
def test_what_is_refused_is_raised(size):
    """Wherever it was decoded."""

    def refuse():
        raise InvalidInput("no")

    with pytest.raises(InvalidInput, match="no"):
        asyncio.run(HeavyWork().run(size, refuse))
