"""How far two answers differ."""

from __future__ import annotations

import numpy as np
import pytest

from bundleserver.versions.comparison import OutputDifference, compare, compare_output


def texts(*values):
    """Make a tensor of texts."""
    return np.array(values, dtype=object)


@pytest.mark.parametrize(
    ("answered", "other", "values", "equal", "mean", "largest"),
    [
        (np.array([1, -1, 1, 1]), np.array([1, 1, 1, 1]), 4, 3, 0.5, 2.0),
        (np.array([True, False]), np.array([True, True]), 2, 1, 0.5, 1.0),
        (np.array([1.0, 2.0]), np.array([1.005, 3.0]), 2, 1, 0.5025, 1.0),
        (np.array([np.nan, 1.0]), np.array([np.nan, np.nan]), 2, 1, 0.0, 0.0),
        (np.array([np.inf, np.inf]), np.array([np.inf, -np.inf]), 2, 1, 0.0, 0.0),
        (np.array([2**63], dtype=np.uint64), np.array([-1]), 1, 0, 2.0**63 + 1, 2.0**63 + 1),
        (texts("high", "low"), texts("high", "high"), 2, 1, None, None),
        (texts("1"), np.array([1]), 1, 0, None, None),
        (np.zeros((0,)), np.zeros((0,)), 0, 0, None, None),
    ],
)
def test_an_output_is_compared_value_by_value(answered, other, values, equal, mean, largest):
    """Labels are equal or not, numbers differ by so much, and NaN equals NaN."""
    found = compare_output(answered, other)

    assert (values, equal) == (found.values, found.equal)
    assert mean == (None if found.mean is None else pytest.approx(found.mean))
    assert largest == found.maximum


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        ({"label": np.array([1, 1, 1])}, "output 'label' has different shapes: [2] and [3]"),
        ({}, "output 'label' is missing in one of the two responses"),
        (
            {"label": np.array([1, 1]), "score": np.array([0.5, 0.5])},
            "output 'score' is missing in one of the two responses",
        ),
    ],
)
def test_answers_of_another_form_agree_in_nothing(other, problem):
    """What cannot be compared is said, and counts as not equal."""
    found = compare({"label": np.array([1, 1])}, other, rowwise=True)

    assert problem == found.problem
    assert 0 == found.agreement[1]
    assert found.agreement[0] > 0


@pytest.mark.parametrize(
    ("rowwise", "agreement"), [(True, (2, 2)), (False, (2, 0))], ids=["classifier", "forecast"]
)
def test_labels_decide_unless_they_are_dates(rowwise, agreement):
    """A score of another model may differ; a forecast's dates do not make its means equal."""
    answered = {"label": np.array([1, 1]), "mean": np.array([1.0, 1.0])}
    other = {"label": np.array([1, 1]), "mean": np.array([2.0, 2.0])}

    assert agreement == compare(answered, other, rowwise).agreement


def test_numbers_decide_where_there_are_no_labels():
    """Two regressions agree where they are within one percent."""
    answered, other = np.array([100.0, 100.0, 0.0]), np.array([100.9, 101.1, 0.0])

    assert (3, 2) == compare({"y": answered}, {"y": other}, rowwise=True).agreement


def test_differences_add_up():
    """Two requests' differences are those of all their values."""
    first = compare_output(np.array([1.0]), np.array([2.0]))
    second = compare_output(np.array([1.0, 1.0]), np.array([1.0, 4.0]))

    both = first.plus(second)

    assert (3, 1, 4.0, 3.0) == (both.values, both.equal, both.absolute, both.maximum)
    assert both == OutputDifference().plus(both)
