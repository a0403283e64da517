"""Where calls run follows from what was measured once, at load."""

from __future__ import annotations

import time

import numpy as np
import pytest

from bundleserver.bundle.placement import (
    INLINE_SECONDS,
    MANY_ROWS,
    MOST_INLINE_ROWS,
    CallCost,
    Placement,
    measure,
)
from bundleserver.tensors import TensorSpec
from bundleserver.tensors.call_traits import UNKNOWN, CallTraits
from bundleserver.tensors.signature import Signature

BOTH = CallTraits(predictable=True, batchable=True)
TABLE = Signature((TensorSpec("x", None, (-1, 3)),))


def cost(one_row, per_row):
    """Make the cost of calls that grow by the row."""
    return CallCost(one_row, one_row + per_row * (MANY_ROWS - 1))


@pytest.mark.parametrize(
    ("known", "rows"),
    [
        (cost(INLINE_SECONDS / 2, 0.0), MOST_INLINE_ROWS),
        (cost(INLINE_SECONDS * 2, 0.0), 0),
        (cost(INLINE_SECONDS / 2, INLINE_SECONDS / 200), 101),
        (cost(INLINE_SECONDS / 2, INLINE_SECONDS), 1),
        (CallCost(INLINE_SECONDS / 2, INLINE_SECONDS / 4), MOST_INLINE_ROWS),
        (None, 0),
    ],
)
def test_calls_run_inline_up_to_as_many_rows_as_stay_cheap(known, rows):
    """A cost grows by the row from the cost of one; what was not measured never runs inline."""
    assert pytest.approx(rows, abs=1) == Placement(BOTH, known).inline_rows


@pytest.mark.parametrize("traits", [UNKNOWN, CallTraits(batchable=True)])
def test_only_predictable_calls_run_inline(traits):
    """However cheap a call was when it was measured, the next one may be dear."""
    assert 0 == Placement(traits, cost(1e-6, 0.0)).inline_rows


@pytest.mark.parametrize(
    ("known", "rows", "gains"),
    [
        (cost(1e-3, 1e-6), 1, True),
        (cost(1e-3, 1e-6), 200, True),
        (cost(1e-3, 1e-6), 300, False),
        (cost(1e-3, 1e-3), 1, False),
        (None, 500, True),
    ],
)
def test_batching_gains_where_a_calls_fixed_cost_outweighs_its_rows(known, rows, gains):
    """Where twice the rows cost twice as much, calls side by side are as good."""
    assert gains == Placement(BOTH, known).gains_from_batching(rows)


def test_a_version_is_measured_with_one_row_and_with_many():
    """Numbers are made up for the signature; the first call of a size is not counted."""
    asked = []

    def predict(inputs, parameters):
        values = inputs["x"].values
        asked.append(values.shape)
        assert np.isfinite(values).all()
        end = time.thread_time() + 1e-6 * len(values)
        while time.thread_time() < end:
            pass
        return {}

    placement = measure(predict, TABLE, BOTH)

    assert {(1, 3), (MANY_ROWS, 3)} == set(asked)
    assert min(asked.count((rows, 3)) for rows in (1, MANY_ROWS)) > 1
    assert 1 <= placement.inline_rows < MOST_INLINE_ROWS


@pytest.mark.parametrize(
    "signature",
    [
        Signature(),
        Signature((TensorSpec("x"),)),
        Signature((TensorSpec("x", "BYTES", (-1, 2)),)),
        Signature((TensorSpec("x", None, (-1, -1)),)),
        Signature((TensorSpec("horizon", "INT64", (1,)),)),
    ],
)
def test_what_no_numbers_can_be_made_for_is_not_called(signature):
    """Without a known width there is nothing to ask, and calls do not run inline."""

    def predict(inputs, parameters):
        raise AssertionError("this was not to be called")

    assert 0 == measure(predict, signature, BOTH).inline_rows


def test_a_model_that_minds_made_up_numbers_is_loaded_all_the_same():
    """Measuring decides where calls run and nothing else."""

    def predict(inputs, parameters):
        raise ValueError("only positive numbers")

    assert "batched" == measure(predict, TABLE, BOTH).runs
