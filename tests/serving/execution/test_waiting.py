"""Work ends with its time and with its client."""

import asyncio
import time
from concurrent.futures import Future

import pytest

from bundleserver.errors import AnswerTooLarge, RequestCancelled, RequestTimedOut
from bundleserver.serving.execution.limits import Limits
from bundleserver.serving.execution.waiting import outcome_of_work
from bundleserver.tensors.budget import Budget


def test_queued_work_past_its_deadline_is_cancelled():
    """A call that has not started when its time is over never starts."""
    future, budget = Future(), Budget(0, time.monotonic() + 0.05)

    with pytest.raises(RequestTimedOut):
        asyncio.run(outcome_of_work(future, budget))

    assert future.cancelled()
    with pytest.raises(RequestCancelled):
        budget.check()


@pytest.mark.parametrize("seconds", [None, 3600])
def test_work_of_a_cancelled_request_stops_at_its_next_check(seconds):
    """What runs goes on to its next check; whoever waits for it does so no more."""
    future, budget = Future(), Budget(0, seconds and time.monotonic() + seconds)
    future.set_running_or_notify_cancel()

    async def leave():
        waiting = asyncio.ensure_future(outcome_of_work(future, budget))
        await asyncio.sleep(0)
        waiting.cancel()
        await waiting

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(leave())
    with pytest.raises(RequestCancelled):
        budget.check()
    future.set_result(1)


def test_a_deadline_of_its_own_only_shortens_the_timeout():
    """The flag's timeout is the longest, and 0 is none."""
    now = time.monotonic()

    assert Limits(0, 1.0).budget(now + 50).left_seconds() <= 1
    assert Limits(0, 50.0).budget(now + 1).left_seconds() <= 1
    assert Limits(0, 0).budget().left_seconds() is None


def test_what_nobody_knew_before_is_counted_as_it_comes():
    """Outputs count over all calls of a request; 0 is no limit."""
    import numpy as np

    budget = Budget(10)
    budget.spend({"a": np.zeros((2, 5))})
    with pytest.raises(AnswerTooLarge, match=r"at least 11 values; expected at most 10"):
        budget.spend({"b": np.zeros(1)})
    Budget(0).spend({"a": np.zeros(1000)})
