from __future__ import annotations

import numpy as np
import pytest

from bundleserver.errors import InvalidInput
from bundleserver.operations import voting
from bundleserver.tensors import NamedTensor


def votes(*members: list[float], dtype: type = np.int64) -> list[NamedTensor]:
    """Name the members a, b and so on."""
    return [
        NamedTensor(name, np.array(values, dtype))
        for name, values in zip("abcdefghij", members, strict=False)
    ]


def test_combine_gives_the_share_of_equal_weights():
    """Equal weights count heads: the score is the exact share, the label compares it."""
    label, score = voting.combine(votes([1, 1, 0], [1, 0, 0], [0, 0, 0]), [1, 1, 1])

    assert [2 / 3, 1 / 3, 0.0] == score.tolist()
    assert [1, 0, 0] == label.tolist()
    assert (np.int64, np.float64) == (label.dtype, score.dtype)


@pytest.mark.parametrize(
    ("weights", "row", "expected"),
    [
        ([0.3, 0.2, 0.5], [1, 1, 0], 1),
        ([0.1, 0.2, 0.7], [1, 1, 0], 0),
        ([0.1] * 10, [1] * 5 + [0] * 5, 1),
        ([0.1, 0.2, 0.3], [0, 0, 1], 1),
        ([1.1, 2.2, 3.3], [1, 1, 0], 1),
        ([3, 1], [0, 1], 0),
        ([0.5, 0.5000001], [1, 0], 0),
    ],
)
def test_combine_reaches_the_threshold_as_on_paper(weights, row, expected):
    """Weights that add up to half on paper make an anomaly at 0.5, whatever floats make of it."""
    label, _ = voting.combine(votes(*([vote] for vote in row)), weights, 0.5)

    assert [expected] == label.tolist()


@pytest.mark.parametrize("weights", [[0.3, 0.2, 0.5], [0.1] * 3, [1e-300, 1e300, 7], [1, 2, 3]])
def test_combine_scores_agreement_exactly(weights):
    """When all agree the score is exactly 1 or 0, so that a threshold of 1 can be met."""
    label, score = voting.combine(votes([1, 0], [1, 0], [1, 0]), weights, 1.0)

    assert [1.0, 0.0] == score.tolist()
    assert [1, 0] == label.tolist()


def test_combine_reads_and_writes_the_sklearn_encoding():
    """With votes 'sklearn' -1 is an anomaly in the votes and in the label."""
    label, score = voting.combine(
        votes([-1, 1], [-1, 1], [1, 1]), [1, 1, 1], 0.5, voting.ENCODINGS["sklearn"]
    )

    assert [-1, 1] == label.tolist()
    assert [2 / 3, 0.0] == score.tolist()


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int8, np.uint8, np.bool_])
def test_combine_takes_any_number_that_is_a_vote(dtype):
    """A vote may come as any numeric datatype as long as it is exactly one of the two values."""
    label, _ = voting.combine(votes([1, 0], [1, 0], dtype=dtype), [1, 1])

    assert [1, 0] == label.tolist()


@pytest.mark.parametrize(
    ("values", "encoding", "shown"),
    [
        ([0, 2], "anomaly", "the vote 2 in row 1; expected 1 for an anomaly or 0 for normal"),
        ([-1, 1], "anomaly", "the vote -1 in row 0"),
        ([1, 0], "sklearn", "the vote 0 in row 1; expected -1 for an anomaly or 1 for normal"),
        ([0.0, 0.5], "anomaly", "the vote 0.5 in row 1"),
        ([1.0, float("nan")], "anomaly", "the vote nan in row 1"),
    ],
)
def test_combine_refuses_any_third_value(values, encoding, shown):
    """A value that is neither vote is the caller's error, which names the input, value and row."""
    tensor = NamedTensor("arima", np.array(values))

    with pytest.raises(InvalidInput) as caught:
        voting.combine([tensor], [1], 0.5, voting.ENCODINGS[encoding])

    assert f"input 'arima' has {shown}" in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 1)), "input 'a' has shape [2, 1]; expected votes [-1]"),
        (np.array(1), "input 'a' has shape []; expected votes [-1]"),
        (np.array(["1"], object), "input 'a' has datatype BYTES; expected INT64"),
    ],
)
def test_combine_refuses_what_is_no_column_of_votes(values, message):
    """Another rank or text is refused, naming the input and what came."""
    with pytest.raises(InvalidInput) as caught:
        voting.combine([NamedTensor("a", values)], [1])

    assert message == str(caught.value)


def test_combine_refuses_unequal_lengths():
    """Members that voted on different numbers of rows are refused with all lengths."""
    with pytest.raises(InvalidInput) as caught:
        voting.combine(votes([1, 0], [1]), [1, 1])

    assert "votes differ in length: 'a' 2, 'b' 1; expected one vote per row" == str(caught.value)


def test_combine_of_no_rows_is_no_rows():
    """No rows in, no rows out."""
    label, score = voting.combine(votes([], []), [1, 2])

    assert ((0,), (0,)) == (label.shape, score.shape)
