"""The memory of a queued request: never estimated by much too little."""

from __future__ import annotations

import sys

import numpy as np
import orjson
import pytest

from bundleserver.serving.codecs.json_body import decode_object
from bundleserver.serving.payload_log.entries import (
    LARGE_TEXT_BYTES,
    array_bytes,
    request_bytes,
    response_bytes,
)
from bundleserver.serving.requests import PredictRequest, PredictResponse
from tests.serving.payload_log.entries import tensors

LONG = "x" * 1_000_000


def held(value: object) -> int:
    """Return what Python's objects hold."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    # Small numbers and keys are shared.
    return sys.getsizeof(value) + sum(map(held, inner))


@pytest.mark.parametrize(
    "rows",
    [
        [[0.5, 1.5]],
        [0.5] * 5000,
        [[float(i) for i in range(20)]] * 500,
        [[[float(i)] * 8 for i in range(10)]] * 300,
        [{"a": LONG, "b": 1}],
        [["a", LONG]] * 3,
        [["a"], [LONG]],
        [{"text": "a" * 40}] * 1500,
        [[[LONG]]],
    ],
    ids=lambda rows: str(rows)[:20],
)
def test_rows_count_for_what_they_hold(rows):
    """Numbers, texts and nested rows, few and many."""
    rows = decode_object(orjson.dumps({"instances": rows}))["instances"]

    assert request_bytes(PredictRequest("m", rows=rows)) > 0.4 * held(rows)


@pytest.mark.parametrize("rows", [[["a"]] * 2001, [{"a": None}] * 2001], ids=["text", "null"])
def test_many_texts_count_for_a_quarter_of_the_queue(rows):
    """To measure each would take the event loop's time."""
    assert request_bytes(PredictRequest("m", rows=rows)) >= LARGE_TEXT_BYTES


def test_arrays_count_for_all_that_they_are_a_part_of():
    """A view keeps the whole batch in memory; texts are objects of their own."""
    batch = np.zeros((1000, 10))

    assert batch.nbytes == array_bytes(batch[:1])
    assert array_bytes(np.array([LONG], dtype=object)) > len(LONG)
    assert array_bytes(np.full(2001, "a", dtype=object)) >= LARGE_TEXT_BYTES


def test_responses_count_too():
    """By their arrays, and by the values of a forecaster's instances."""
    arrays = {t.name: t.values for t in tensors(y=[0.0] * 100)}
    answers = [{"mean": [0.0] * 100}]

    assert 800 == response_bytes(PredictResponse("m", "1", arrays))
    assert 100 * 24 <= response_bytes(PredictResponse("m", "1", answers=answers))
