from __future__ import annotations

import numpy as np
import pytest

from bundleserver.bundle.plan import make_plan
from bundleserver.documents.strict_json import json_path
from bundleserver.errors import BundleError, InvalidInput
from bundleserver.manifest import Manifest, Step
from bundleserver.operations import OPERATIONS
from bundleserver.tensors import NamedTensor


def run(name: str, arrays: list[object], **params: object):
    """Run an operation on tensors named t0, t1 and so on."""
    tensors = [
        NamedTensor(f"t{index}", array if isinstance(array, np.ndarray) else np.array(array))
        for index, array in enumerate(arrays)
    ]
    operation = OPERATIONS[name]
    return operation.run(tensors, operation.read(("steps", 0), params, len(tensors), 1))


def test_operations_are_the_closed_set_of_the_contract():
    """The set is what the contract lists and nothing more, and nobody can add to it."""
    assert {"reconstruction_error", "threshold", "vote", "mean", "concat"} == set(OPERATIONS)
    with pytest.raises(TypeError):
        OPERATIONS["mine"] = OPERATIONS["mean"]  # type: ignore[index]


def test_reconstruction_error_is_the_mean_of_squares_per_row():
    """Each row's error is the mean of its squared differences, FP64."""
    (error,) = run("reconstruction_error", [[[1.0, 2.0], [3.0, 4.0]], [[1.0, 4.0], [0.0, 0.0]]])

    assert [2.0, 12.5] == error.tolist()
    assert np.float64 == error.dtype


def test_reconstruction_error_covers_all_axes_of_a_sequence():
    """Over sequences the mean runs over steps and features together."""
    x = np.arange(24, dtype=np.float64).reshape(2, 3, 4)
    y = x + np.array([1.0, 2.0]).reshape(2, 1, 1)

    assert [1.0, 4.0] == run("reconstruction_error", [x, y])[0].tolist()


def test_reconstruction_error_computes_in_double_precision():
    """FP64 against FP32 is compared in FP64, and unsigned integers do not wrap."""
    x = np.array([[0.1, 0.2]])
    y = x.astype(np.float32)
    (expected,) = ((x - y.astype(np.float64)) ** 2).mean(axis=1)

    assert [expected] == run("reconstruction_error", [x, y])[0].tolist()
    wrapped = [np.array([[1]], np.uint8), np.array([[3]], np.uint8)]
    assert [4.0] == run("reconstruction_error", wrapped)[0].tolist()


def test_reconstruction_error_of_no_rows_is_no_errors():
    """No rows in, no errors out."""
    (error,) = run("reconstruction_error", [np.zeros((0, 3)), np.zeros((0, 3))])

    assert (0,) == error.shape


def test_reconstruction_error_passes_nan_on():
    """A NaN in a row makes that row's error NaN and leaves the others alone."""
    (error,) = run("reconstruction_error", [[[np.nan], [1.0]], [[0.0], [0.0]]])

    assert np.isnan(error[0])
    assert 1.0 == error[1]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            [np.zeros((4, 3)), np.zeros((4, 1, 3))],
            "inputs 't0' [4, 3], 't1' [4, 1, 3] differ in shape; expected one shape",
        ),
        (
            [np.zeros((4, 3)), np.zeros((1, 3))],
            "inputs 't0' [4, 3], 't1' [1, 3] differ in shape; expected one shape",
        ),
        ([[["a"]], [[1.0]]], "input 't0' has datatype BYTES; expected numbers"),
        (
            [np.zeros((2, 0)), np.zeros((2, 0))],
            "input 't0' has shape [2, 0]; a reconstruction error expects rows with values, [n, …]",
        ),
        (
            [1.0, 2.0],
            "input 't0' has shape []; a reconstruction error expects rows with values, [n, …]",
        ),
    ],
)
def test_reconstruction_error_refuses_what_does_not_fit(arrays, message):
    """Shapes that differ are never broadcast; the message names the tensors and their shapes."""
    with pytest.raises(InvalidInput) as caught:
        run("reconstruction_error", arrays)

    assert message == str(caught.value)


@pytest.mark.parametrize(
    ("labels", "expected", "dtype"),
    [
        (None, [1, 1, -1, 1], np.int64),
        ([0, 1], [0, 0, 1, 0], np.int64),
        (["ok", "anomaly"], ["ok", "ok", "anomaly", "ok"], np.object_),
        ([0, 0.5], [0.0, 0.0, 0.5, 0.0], np.float64),
        ([False, True], [False, False, True, False], np.bool_),
    ],
)
def test_threshold_labels_what_is_strictly_above(labels, expected, dtype):
    """The second label stands where the value is strictly above; NaN and equality are not above."""
    params = {} if labels is None else {"labels": labels}
    (label,) = run("threshold", [[0.1, 0.12, 0.13, np.nan]], above=0.12, **params)

    assert expected == label.tolist()
    assert dtype == label.dtype


@pytest.mark.parametrize("values", [np.zeros((2, 3, 4)), np.zeros(0), np.array(7.0)])
def test_threshold_keeps_the_shape(values):
    """Any shape comes back as it is, a scalar and an empty one too."""
    (label,) = run("threshold", [values], above=1, labels=["a", "b"])

    assert isinstance(label, np.ndarray)
    assert values.shape == label.shape


def test_threshold_refuses_text():
    """Text has no order here."""
    with pytest.raises(InvalidInput, match=r"^input 't0' has datatype BYTES; expected numbers$"):
        run("threshold", [["a"]], above=1)


def test_vote_combines_with_weights_and_threshold():
    """Weighted votes give label and score as the ensemble does."""
    label, score = run("vote", [[1, 0], [0, 0], [1, 1]], weights=[0.3, 0.5, 0.2], threshold=0.5)

    assert [1, 0] == label.tolist()
    assert [0.5, 0.2] == score.tolist()


def test_vote_without_params_is_the_majority():
    """Without params every member counts the same, half is enough, 1 is the anomaly."""
    label, score = run("vote", [[1, 0, 0], [0, 0, 1]])

    assert [1, 0, 1] == label.tolist()
    assert [0.5, 0.0, 0.5] == score.tolist()


def test_vote_speaks_the_encoding_that_it_is_told():
    """With votes 'sklearn' votes and label are -1 for an anomaly."""
    label, _ = run("vote", [[-1, 1], [-1, 1]], votes="sklearn")

    assert [-1, 1] == label.tolist()


def test_vote_refuses_rows_of_unequal_length():
    """Members with different numbers of rows are refused."""
    with pytest.raises(InvalidInput, match="votes differ in length: 't0' 2, 't1' 1"):
        run("vote", [[1, 0], [1]])


def test_mean_averages_elementwise():
    """Without weights the mean is the plain one, FP64, of the inputs' shape."""
    (mean,) = run("mean", [np.array([[1, 2]], np.int32), np.array([[2.0, 4.0]], np.float32)])

    assert [[1.5, 3.0]] == mean.tolist()
    assert np.float64 == mean.dtype


def test_mean_weighs():
    """With weights it is the weighted mean, whatever the weights add up to."""
    (mean,) = run("mean", [[1.0, 0.0], [5.0, 8.0]], weights=[3, 1])

    assert [2.0, 2.0] == mean.tolist()


@pytest.mark.parametrize("arrays", [[[1.0, 2.0], [1.0]], [[[1.0]], [1.0]]])
def test_mean_refuses_unequal_shapes(arrays):
    """Nothing is broadcast."""
    with pytest.raises(InvalidInput, match="differ in shape; expected one shape"):
        run("mean", arrays)


def test_concat_joins_columns():
    """The default axis puts the columns side by side."""
    (joined,) = run("concat", [[[1.0], [2.0]], [[3.0, 4.0], [5.0, 6.0]]])

    assert [[1.0, 3.0, 4.0], [2.0, 5.0, 6.0]] == joined.tolist()


@pytest.mark.parametrize("axis", [0, -1])
def test_concat_joins_along_the_axis_that_is_named(axis):
    """Any axis the tensors have will do, counted from the end too."""
    (joined,) = run("concat", [[1, 2], [3]], axis=axis)

    assert [1, 2, 3] == joined.tolist()
    assert np.int64 == joined.dtype


@pytest.mark.parametrize(
    ("arrays", "dtype"),
    [
        ([np.array([[1]]), np.array([[0.5]])], np.float64),
        ([np.array([[1]], np.int8), np.array([[1]], np.int32)], np.int32),
        ([np.array([[0.5]], np.float32), np.array([[0.1]])], np.float64),
        ([np.array([[True]]), np.array([[3]])], np.int64),
        ([np.array([["a"]], object), np.array([["b"]], object)], np.object_),
    ],
)
def test_concat_finds_the_datatype_that_holds_all(arrays, dtype):
    """Numbers of several datatypes meet in the one that holds them."""
    (joined,) = run("concat", arrays)

    assert dtype == joined.dtype
    assert [array[0, 0] for array in arrays] == joined[0].tolist()


@pytest.mark.parametrize(
    ("arrays", "params", "message"),
    [
        (
            [[1.0], [2.0]],
            {},
            "inputs 't0' [1], 't1' [1] cannot be concatenated: axis 1 is out of range",
        ),
        (
            [[[1.0]], [[1.0], [2.0]]],
            {},
            "inputs 't0' [1, 1], 't1' [2, 1] cannot be concatenated along axis 1: other dimensions "
            "differ",
        ),
        (
            [[[1.0]], [[[1.0]]]],
            {"axis": 0},
            "inputs 't0' [1, 1], 't1' [1, 1, 1] cannot be concatenated along axis 0: other "
            "dimensions differ",
        ),
        (
            [np.array([["a"]], object), [[1.0]]],
            {},
            "inputs 't0' [1, 1], 't1' [1, 1] mix strings and numbers; expected one kind",
        ),
        (
            [[[2**53 + 1]], [[0.5]]],
            {},
            "input 't0' has INT64 values that cannot be converted to FP64 exactly",
        ),
    ],
)
def test_concat_refuses_what_does_not_fit(arrays, params, message):
    """Tensors that do not line up, or would change a value, are refused by name and shape."""
    with pytest.raises(InvalidInput) as caught:
        run("concat", arrays, **params)

    assert message == str(caught.value)


@pytest.mark.parametrize(
    ("name", "counts", "params", "expected"),
    [
        ("reconstruction_error", (2, 1), {}, []),
        ("reconstruction_error", (1, 1), {}, ["inputs has 1 names; expected 2"]),
        (
            "vote",
            (0, 3),
            {},
            ["inputs has 0 names", "outputs has 3 names; expected 1 or 2"],
        ),
        (
            "vote",
            (2, 1),
            {"weights": [1]},
            ["params.weights has 1 weights; expected 2, one per input"],
        ),
        (
            "mean",
            (1, 1),
            {"weights": [0]},
            ["params.weights adds up to 0.0; expected a finite sum"],
        ),
        ("mean", (1, 1), {"weights": [10**400]}, ["params.weights[0] is 1000"]),
        (
            "threshold",
            (2, 1),
            {"above": "1", "lables": [1, 2]},
            [
                "inputs has 2 names; expected 1",
                "params.above is '1'; expected a number",
                "params.lables is not a known key; did you mean 'labels'?",
            ],
        ),
        ("threshold", (1, 1), {"above": float("nan")}, ["params.above is NaN; expected a number"]),
        (
            "threshold",
            (1, 1),
            {"above": 1, "labels": [2**63, 1]},
            ["params.labels is an array; exp"],
        ),
    ],
)
def test_read_lists_everything_that_is_wrong_with_a_step(name, counts, params, expected):
    """A step's params and numbers of tensors are checked before any request comes."""
    problems = [*OPERATIONS[name].problems(("steps", 3), params, *counts)]

    assert len(expected) == len(problems)
    for said, (place, what) in zip(expected, problems, strict=True):
        assert f"{json_path(place)} {what}".startswith(f"steps[3].{said}")


def test_read_refuses_a_step_that_has_problems():
    """A step that slipped through is refused as the bundle's fault, not the caller's."""
    with pytest.raises(
        BundleError, match=r"operation 'threshold': steps\[0\]\.params\.above is miss"
    ):
        run("threshold", [[1.0]])


def test_a_step_takes_as_many_tensors_as_its_manifest_names():
    """A request that brings more than a step names is refused, and no tensor is dropped."""
    step = Step(op="threshold", params={"above": 1}, inputs=("x",), outputs=("y",))
    (planned,) = make_plan(Manifest(steps=(step,)), {}).steps
    tensors = [NamedTensor(name, np.zeros(1)) for name in ("a", "b")]

    with pytest.raises(
        InvalidInput, match=r"steps\[0\] \(threshold\) expects 1 tensors; got 'a', 'b'"
    ):
        planned.call(tensors, {})
