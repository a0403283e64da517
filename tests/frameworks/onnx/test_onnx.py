"""ONNX models are served with the answers of onnxruntime, under the names of their graphs."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import closing

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from sklearn.preprocessing import StandardScaler

from bundleserver.bundle.opening import open_bundle
from bundleserver.errors import InvalidInput, RequestTimedOut, StoreError
from bundleserver.frameworks import LoadContext, framework_for, framework_named, framework_of_file
from bundleserver.frameworks.giving_up import Abandoned, checked_by
from bundleserver.serving.execution.predict import predict
from bundleserver.serving.requests import PredictRequest
from bundleserver.store import BundleStore
from bundleserver.tensors import NUMPY_DTYPES, NamedTensor
from bundleserver.tensors.budget import Budget, spending
from tests.frameworks.onnx.graphs import (
    FLOAT,
    INT64,
    ROWS,
    STRING,
    asked,
    forest,
    identity,
    mixed_pipeline,
    model,
    named_forest,
    node,
    regressor,
    same,
    scaled_logistic,
    scaler,
    value,
)

ONNX = framework_named("onnx")


@pytest.fixture
def opened(tmp_path):
    """Return a function that writes a model and opens it."""

    def open_model(made, **options):
        path = tmp_path / "model.onnx"
        path.write_bytes(getattr(made, "SerializeToString", lambda: made)())
        return ONNX.load(path, LoadContext(options))

    return open_model


def call(predictor, method="predict", **inputs):
    """Call a method with named arrays."""
    return predictor.call(method, [NamedTensor(k, np.asarray(v)) for k, v in inputs.items()], {})


@pytest.mark.parametrize("make", [forest, regressor, scaled_logistic], ids=lambda f: f.__name__)
def test_answers_are_those_of_onnxruntime_to_the_bit(opened, make):
    """Every output of a converted model has its name, and the bits of onnxruntime."""
    made = make()
    expected = asked(made, {"X": ROWS})
    answer = call(opened(made), X=ROWS)

    assert list(expected) == list(answer)
    for name, values in expected.items():
        if isinstance(values, list):
            values = np.array([[row[k] for k in (0, 1, 2)] for row in values], np.float32)
        assert same(values, answer[name])


def test_maps_of_classes_become_a_table_with_known_columns(opened):
    """The columns are the classes of ZipMap in its order, which metadata have."""
    made = named_forest()
    predictor = opened(made)
    expected = asked(made, {"X": ROWS})["output_probability"]
    labels = ["Versicolor", "a b", "setosa"]
    answer = call(predictor, X=ROWS)["output_probability"]

    assert {"output_probability": labels} == predictor.metadata["labels"]
    assert (len(ROWS), 3) == answer.shape
    assert all(
        dict(zip(labels, row, strict=True)) == e for row, e in zip(answer, expected, strict=True)
    )
    assert (0, 3) == call(predictor, X=ROWS[:0])["output_probability"].shape


def test_a_classifier_has_predict_proba(opened):
    """``predict`` gives all outputs, ``predict_proba`` the probabilities alone."""
    predictor = opened(forest(zipmap=False))
    both, one = (call(predictor, method, X=ROWS) for method in ("predict", "predict_proba"))

    assert ["predict", "predict_proba"] == list(predictor.methods)
    assert ["label", "probabilities"] == list(both)
    assert ["probabilities"] == list(one)
    assert same(both["probabilities"], one["probabilities"])
    assert ["predict"] == list(opened(regressor()).methods)


DATATYPES = {
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "BOOL": TensorProto.BOOL,
}


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_of_the_protocol_passes(opened, datatype):
    """What goes in comes out, and the signature says its datatype."""
    predictor = opened(identity(DATATYPES[datatype]))
    sent = np.array([[0, 1], [1, 0], [1, 1]]).astype(NUMPY_DTYPES[datatype])
    signature = predictor.methods["predict"]

    assert same(sent, call(predictor, x=sent)["y"])
    assert (datatype, datatype) == (signature.inputs[0].datatype, signature.outputs[0].datatype)
    assert ((-1, 2), (-1, 2)) == (signature.inputs[0].shape, signature.outputs[0].shape)


def test_strings_pass_whatever_they_have(opened):
    """Strings keep NULs and letters of any alphabet; empty tensors and strings pass too."""
    predictor = opened(identity(STRING, ["n"]))
    sent = np.array(["", "a\0b", "ü", "日本"], dtype=object)

    assert same(sent, call(predictor, x=sent)["y"])
    assert same(sent[:0], call(predictor, x=sent[:0])["y"])


@pytest.mark.parametrize(
    "sent", [b"\xff", None, 1.5, "\ud800"], ids=["bytes", "null", "number", "surrogate"]
)
def test_what_is_not_a_string_is_refused(opened, sent):
    """What onnxruntime would make strings of, such as 'None' of null, is not taken."""
    predictor = opened(identity(STRING, ["n"]))

    with pytest.raises(InvalidInput, match="string"):
        call(predictor, x=np.array(["a", sent], dtype=object))


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (np.zeros((2, 3)), r"has shape \[2, 3\]; the model expects \[-1, 2\]"),
        (np.full((1, 2), 1e300), r"has the value 1e\+300, which is not a valid FP32"),
        (np.array([["a", "b"]], dtype=object), "has datatype BYTES; the model expects FP32"),
        (np.array([[True, False]]), "has datatype BOOL; the model expects FP32"),
    ],
)
def test_invalid_inputs_are_refused_with_the_expected_ones(opened, sent, said):
    """A shape, datatype or value that does not fit is the caller's mistake."""
    predictor = opened(identity())

    with pytest.raises(InvalidInput, match=f"input 'x' {said}"):
        call(predictor, x=sent)
    assert same(np.float32([[0.1, 2]]), call(predictor, x=[[0.1, 2.0]])["y"])


def test_another_number_of_inputs_is_refused(opened):
    """The message names what came and what is expected."""
    with pytest.raises(InvalidInput, match="got 2 inputs: 'x', 'z'; the model expects 'x'"):
        call(opened(identity()), x=[[1.0, 2.0]], z=[[1.0, 2.0]])


def test_scalars_and_open_shapes_pass(opened):
    """An input without axes, one of unknown rank, and their answers keep their shapes."""
    made = model(
        [node("Mul", ["x", "k"], ["y"]), node("ReduceSum", ["y"], ["sum"], keepdims=0)],
        [value("x", FLOAT, None), value("k", FLOAT, [])],
        [value("y", FLOAT, None), value("sum", FLOAT, [])],
    )
    predictor = opened(made)
    answer = call(predictor, x=np.float32([[1, 2]]), k=np.float32(3))
    shapes = [spec.shape for spec in predictor.methods["predict"].inputs]

    assert [None, ()] == shapes
    assert [[3.0, 6.0]] == answer["y"].tolist()
    assert ((), 9.0) == (answer["sum"].shape, answer["sum"].item())
    assert not predictor.methods["predict"].rowwise


def test_an_instance_of_a_graph_without_rows_is_described_by_its_inputs(tmp_path):
    """A list is refused with the graph's inputs, and not with a forecast's."""
    made = model(
        [node("Mul", ["x", "k"], ["y"])],
        [value("x", FLOAT, ["n"]), value("k", FLOAT, [])],
        [value("y", FLOAT, ["n"])],
    )
    onnx.save(made, tmp_path / "model.onnx")
    with closing(open_bundle(tmp_path)) as bundle:
        good = predict(bundle, PredictRequest("m", rows=[{"x": [1, 2], "k": 3}]))
        with pytest.raises(InvalidInput) as raised:
            predict(bundle, PredictRequest("m", rows=[[1, 2]]))

    assert [{"y": [3.0, 6.0]}] == good.answers
    assert str(raised.value).startswith("instances[0] is an array; ")
    assert str(raised.value).endswith(
        "expects an object, with the values of 'x' FP32 [-1], 'k' FP32 []"
    )


def test_sequences_of_tensors_of_one_shape_are_stacked(opened):
    """Others are an error of the model that says their shapes."""
    made = model(
        [node("SplitToSequence", ["x"], ["parts"], axis=0)],
        [value("x", FLOAT, ["n", 2])],
        [helper.make_tensor_sequence_value_info("parts", FLOAT, None)],
    )
    ragged = model(
        [node("SequenceConstruct", ["x", "z"], ["parts"])],
        [value("x", FLOAT, ["n"]), value("z", FLOAT, ["m"])],
        [helper.make_tensor_sequence_value_info("parts", FLOAT, None)],
    )

    assert (3, 1, 2) == call(opened(made), x=np.zeros((3, 2), np.float32))["parts"].shape
    with pytest.raises(ValueError, match=r"the shapes \[1\], \[2\], which do not make one tensor"):
        call(opened(ragged), x=np.zeros(1, np.float32), z=np.zeros(2, np.float32))


def test_a_value_that_an_operator_rejects_is_the_callers(opened):
    """The message names the operator and what it says, without places in its sources."""
    made = model(
        [node("Gather", ["x", "i"], ["y"])],
        [value("x", FLOAT, ["n"]), value("i", INT64, ["k"])],
        [value("y", FLOAT, ["k"])],
    )

    with pytest.raises(
        InvalidInput, match=r"rejects 'x' \[3\], 'i' \[1\]: Gather: indices element out"
    ) as raised:
        call(opened(made), x=np.zeros(3, np.float32), i=np.array([7]))
    assert "onnxruntime_src" not in str(raised.value)


def test_columns_of_a_table_are_taken_as_rows(opened):
    """Inputs of ``[n, 1]`` are columns: ``[n]`` and ``[n, 1]`` give the same."""
    made = mixed_pipeline()
    predictor = opened(made)
    columns = {
        "town": np.array(["Rome", "Bonn"], dtype=object),
        "age": np.float32([3, 40]),
        "count": np.array([1, 2]),
    }
    expected = asked(made, {name: array[:, None] for name, array in columns.items()})
    wide = {name: array[:, None] for name, array in columns.items()}

    assert [(-1,)] * 3 == [spec.shape for spec in predictor.methods["predict"].inputs]
    for sent in (columns, wide):
        answer = call(predictor, **sent)
        assert all(same(expected[name], answer[name]) for name in expected)
    with pytest.raises(InvalidInput, match="OneHotEncoder: Unknown Category"):
        call(predictor, **{**columns, "town": np.array(["Rome", "Paris"], dtype=object)})


def test_shapes_that_a_converter_wrote_wrongly_are_not_declared(opened):
    """A declared output shape counts once an answer was seen to have it."""
    made = model(
        [node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)],
        [value("x", FLOAT, ["n", 2])],
        [value("y", FLOAT, ["n", 1])],
        [helper.make_tensor("axes", INT64, [1], [1])],
    )
    predictor = opened(made)

    assert None is predictor.methods["predict"].outputs[0].shape
    assert [3.0] == call(predictor, x=np.float32([[1, 2]]))["y"].tolist()


def test_a_scaler_is_a_transformer(tmp_path, opened):
    """Its file is known as such, with its widths, and it has ``transform``."""
    made = scaler()
    predictor = opened(made)
    path = tmp_path / "model.onnx"
    facts = ONNX.facts(path)

    assert ["transform"] == list(predictor.methods)
    assert ("onnx", "preprocessor") == framework_of_file(path)
    assert ("scaler", 4, 4) == (facts.role, facts.takes, facts.gives)
    assert same(
        asked(made, {"X": ROWS})["variable"], call(predictor, "transform", X=ROWS)["variable"]
    )


def test_a_scaler_before_a_forest_is_a_bundle(tmp_path):
    """Two bare files go together by their roles and widths."""
    (tmp_path / "scaler.onnx").write_bytes(scaler().SerializeToString())
    (tmp_path / "model.onnx").write_bytes(forest(zipmap=False).SerializeToString())
    expected = asked(forest(zipmap=False), {"X": asked(scaler(), {"X": ROWS})["variable"]})
    with closing(open_bundle(tmp_path)) as bundle:
        bundle.warm_up()
        inputs = bundle.signature.validate_rows(ROWS.tolist(), "it")
        answer = bundle.predict(inputs, {})

    assert all(same(expected[name], answer[name]) for name in expected)


def test_rows_are_batched_where_parts_have_the_same_bits(opened):
    """Trees are, matrix products are not; both are predictable with one thread."""
    trees, products = opened(regressor()), opened(scaled_logistic())

    assert (True, True) == (
        trees.call_traits("predict").batchable,
        trees.call_traits("predict").predictable,
    )
    assert not products.call_traits("predict").batchable


def test_a_saved_model_is_opened_again(tmp_path):
    """``BundleStore.save`` takes an ``onnx.ModelProto``, and the directory answers as it does."""
    made = forest()
    assert "onnx" == framework_for(made)
    saved = BundleStore(tmp_path).save("iris", made)
    with closing(open_bundle(tmp_path / "iris" / str(saved))) as bundle:
        bundle.warm_up()
        answer = bundle.predict(bundle.signature.validate_rows(ROWS.tolist(), "it"), {})

    assert same(asked(made, {"X": ROWS})["output_label"], answer["output_label"])
    assert bundle.probe.answered


def test_an_open_session_cannot_be_saved(tmp_path):
    """It no longer has its model; the message says what to save."""
    session = onnxruntime.InferenceSession(identity().SerializeToString())

    with pytest.raises(StoreError, match=r"save the onnx.ModelProto that it was made of"):
        BundleStore(tmp_path).save("m", session)


def test_another_librarys_model_is_no_onnx_model(tmp_path):
    """What has to be converted first is not called an open session."""
    with pytest.raises(
        StoreError, match=r"is a StandardScaler, which is not an ONNX model; convert"
    ):
        BundleStore(tmp_path).save("m", StandardScaler().fit(ROWS), frameworks={"model": "onnx"})


def test_asking_for_the_owner_imports_nothing(tmp_path):
    """A file and its widths are known without onnxruntime."""
    onnx.save(forest(), tmp_path / "model.onnx")
    code = (
        "import sys; from pathlib import Path; from bundleserver import frameworks as f; "
        "path = Path(sys.argv[1]); assert f.framework_of_file(path) == ('onnx', 'model'); "
        "assert f.facts_of_file(path, 'onnx', 'model').takes == 4; "
        "sys.exit(str([n for n in ('onnx', 'onnxruntime', 'sklearn') if n in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.onnx")],
        check=False,
        capture_output=True,
        text=True,
    )

    assert "[]\n" == done.stderr


def test_calls_have_the_threads_of_the_server(opened, monkeypatch):
    """A session has as many threads as OMP_NUM_THREADS says, which the server sets."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    predictor = opened(identity())
    options = predictor._session.get_session_options()

    assert (3, 1) == (options.intra_op_num_threads, options.inter_op_num_threads)
    assert not options.enable_cpu_mem_arena


def test_a_closed_predictor_is_not_called(opened):
    """It raises an error of the server's, not of the caller's."""
    predictor = opened(identity())
    predictor.close()

    with pytest.raises(RuntimeError, match="closed"):
        call(predictor, x=[[1.0, 2.0]])


def endless():
    """Make a model that counts in a loop as often as its second input says."""
    body = helper.make_graph(
        [node("Add", ["a", "one"], ["b"]), node("Identity", ["go"], ["on"])],
        "body",
        [value("i", INT64, []), value("go", TensorProto.BOOL, []), value("a", FLOAT, [])],
        [value("on", TensorProto.BOOL, []), value("b", FLOAT, [])],
        [helper.make_tensor("one", FLOAT, [], [1])],
    )
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    return model(
        [node("Loop", ["times", "yes", "x"], ["y"], body=body)],
        [value("x", FLOAT, []), value("times", INT64, [])],
        [value("y", FLOAT, [])],
        [yes],
    )


def test_a_loop_ends_with_its_request(opened):
    """A model is a program; the deadline of a request ends one that goes on."""
    predictor = opened(endless())
    inputs = {"x": np.float32(0), "times": np.int64(1 << 62)}

    assert 5.0 == call(predictor, x=np.float32(0), times=np.int64(5))["y"].item()
    with spending(Budget(deadline=time.monotonic())), pytest.raises(RequestTimedOut):
        call(predictor, **inputs)
    with checked_by(abandon), pytest.raises(Abandoned):
        call(predictor, **inputs)


def abandon():
    """Say that nobody waits for a load any more."""
    raise Abandoned
