"""Bodies that look like long arrays of numbers, or like small ones, cost what they weigh."""

import asyncio
import gzip
import json
import threading
import time

import numpy as np
import pytest

from bundleserver.errors import BundleServerError, InvalidInput, RequestTimedOut
from bundleserver.serving.codecs import json_body, v1
from bundleserver.serving.execution.limits import Limits
from bundleserver.serving.execution.small_first import LARGE_BYTES, SmallFirst
from bundleserver.serving.requests import PredictRequest
from bundleserver.serving.rest.compression import Decompression
from bundleserver.tensors import NamedTensor, TensorSpec, array_from_rows
from bundleserver.tensors.budget import Budget
from bundleserver.tensors.columns import column_problems

MANY = 3 * 2**20
SECONDS = 20.0
"""Linear work takes less than one."""


def decoded(inside, most=2_500_000):
    """Decode a V1 body with this inside its instances."""
    body = b'{"instances":[' + inside + b"]}"
    return json_body.decode(body, lambda document: v1.decode_request(document, "m", None), most)


@pytest.mark.parametrize("depth", [2, 17, 31])
@pytest.mark.parametrize(
    "unit", [b"]", b"] ", b"]\n]", b"]" * 14 + b"7", b"],", b"[]", b"5,", b" ", b"-", b"9"]
)
def test_odd_brackets_take_linear_time(depth, unit):
    """What cannot be cut between rows is refused about as fast as it is read."""
    began = time.monotonic()

    with pytest.raises(BundleServerError):
        decoded(b"[" * depth + b"1" + unit * (MANY // len(unit)))

    assert SECONDS > time.monotonic() - began


@pytest.mark.parametrize(
    "shape", [(1, 300_000, 1), (300_000, 1, 1), (1, 3, 100_000), (2, 50_000, 3, 1), (9000, 17, 2)]
)
@pytest.mark.parametrize("space", [b"", b" ", b"\n  "])
def test_rows_are_the_same_however_they_are_nested(shape, space):
    """Long arrays of any shape are decoded to their numbers, with any space between brackets."""
    values = np.arange(np.prod(shape)).reshape(shape)
    text = json.dumps(values.tolist()).replace(" ", "").encode()
    text = text.replace(b"]", space + b"]" + space).replace(b"[", b"[" + space)

    request = decoded(text.strip()[1:-1])

    assert np.array_equal(values, np.array(request.rows))
    assert values.tolist() == list(request.rows)


@pytest.mark.parametrize("odd", [b"[[1,2],[3]]", b"[[1,2],3]", b"[1,2]", b"[[1],[2],[3]]", b"[]"])
def test_one_odd_row_among_many_is_seen(odd):
    """Rows that are nested in another way are not flattened into the others."""
    request = decoded(b"[[1,2],[3,4]]," * 2000 + odd)

    assert json.loads(odd) == list(request.rows)[-1]
    assert [[1, 2], [3, 4]] == next(iter(request.rows))


def test_the_steps_of_what_is_no_object_are_not_counted():
    """A forecaster's rows of numbers are looked at no further than the first one."""
    request = decoded(b"[1]," * 400_000 + b"[1]")
    asked = []
    request.rows._numbers._pieces = lambda depth: (asked.append(1) or b"[[1]]" for _ in range(99))

    assert 0 == Limits().steps_of(request)
    assert [1] == asked


@pytest.mark.parametrize(
    ("name", "values", "steps"),
    [("horizon", [7], 7), ("horizon", [[3] * 5], 1), ("ds", ["a"] * 6, 6), ("other", [1], 1)],
)
def test_the_steps_of_tensors_are_counted_without_lists(name, values, steps):
    """One horizon counts, and so many dates."""
    request = PredictRequest("m", tensors=(NamedTensor(name, np.array(values)),))

    assert steps == Limits().steps_of(request)


def test_one_long_string_does_not_widen_the_others():
    """Strings take the room of their own characters."""
    rows = [["b" * 300_000, 1]] + [["c", 2]] * 50_000

    assert (50_001, 2) == array_from_rows(rows, TensorSpec("x"), "'m'").shape
    with pytest.raises(InvalidInput, match="different lengths"):
        array_from_rows([*rows, ["d"]], TensorSpec("x"), "'m'")


def test_many_names_are_compared_in_linear_time():
    """Columns are many, repeated and misspelt without a comparison of each with each."""
    began = time.monotonic()
    names = [f"k{number}" for number in range(100_000)]
    document = {"dataframe_split": {"columns": [*names, "k5"], "data": []}}

    with pytest.raises(InvalidInput, match="'k5' twice"):
        v1.decode_request(document, "m", None)
    said, _ = column_problems(names, ("a", "b"), ("a", "b"), strict=True)

    assert len(said) < 1000
    assert SECONDS > time.monotonic() - began


def test_late_work_never_starts():
    """What waits for a thread past its request's time is refused then, and never runs."""
    gate, ran = threading.Event(), []

    async def ask():
        work = SmallFirst(2, "test")
        busy = [
            asyncio.ensure_future(work.run(LARGE_BYTES + 1, gate.wait, Budget())) for _ in range(2)
        ]
        await asyncio.sleep(0)
        late = Budget(0, time.monotonic() + 0.2)
        with pytest.raises(RequestTimedOut, match=r"within 0\.2 s"):
            await work.run(LARGE_BYTES + 1, lambda: ran.append("late"), late)
        # A thread is kept for small work.
        await work.run(1, lambda: ran.append("small"), Budget())
        gate.set()
        await asyncio.gather(*busy)

    asyncio.run(asyncio.wait_for(ask(), SECONDS))

    assert ["small"] == ran


def test_small_compressed_bodies_pass_large_ones():
    """What inflates to little is there before what came first and inflates to much."""
    bomb, small, order = gzip.compress(bytes(60 * 2**20), 9), gzip.compress(b"{}"), []

    async def one(work, body):
        content = await work.run(body, "gzip", 64 * 2**20, Budget())
        order.append(len(content))

    async def ask():
        work = Decompression()
        await asyncio.gather(*(one(work, body) for body in [bomb] * 8 + [small]))

    asyncio.run(asyncio.wait_for(ask(), 60.0))

    assert 2 in order[:4]
