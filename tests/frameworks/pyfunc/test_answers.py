"""What a native model answers and is asked: outputs by name, nulls, other columns, parameters."""

import numpy as np
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from mlflow.types import TensorSpec as MlflowTensorSpec

from bundleserver.errors import InvalidInput, PredictionError
from bundleserver.serving.codecs import v1
from tests.frameworks.pyfunc.test_pyfunc import ask, open_model, save_python


def signature(*entries, outputs=None, params=None):
    """Make a signature of columns, each a type and a name, and False for an optional one."""
    specs = [ColSpec(kind, name, *required) for kind, name, *required in entries]
    return ModelSignature(Schema(specs), outputs, params)


def ask_rows(bundle, rows, **parameters):
    """Ask over V1; return all outputs as lists."""
    bound = bundle.signature.validate_rows(rows, bundle.identity)
    return {name: array.tolist() for name, array in bundle.predict(bound, parameters).items()}


def test_large_integers_are_answered_as_they_are(tmp_path):
    """An integer that FP64 does not hold is not rounded, and announced as an integer."""
    path = save_python(
        tmp_path / "m",
        "import numpy\nreturn numpy.full(len(model_input), 2**61 + 3, 'int64')",
        signature=signature(("double", "weight"), outputs=Schema([ColSpec("long")])),
    )
    bundle = open_model(path)
    bundle.warm_up()

    assert "INT64" == bundle.probe.signature.outputs[0].datatype
    assert [2**61 + 3] == ask_rows(bundle, [{"weight": 0.5}])["output-0"]


@pytest.mark.parametrize(
    "answer",
    [
        "import pandas\nreturn pandas.DataFrame({'who': ['p', 'q'], 'sure': [0.25, 0.5]})",
        "return {'who': ['p', 'q'], 'sure': [0.25, 0.5]}",
        "return [{'who': 'p', 'sure': 0.25}, {'who': 'q', 'sure': 0.5}]",
    ],
    ids=["table", "dict", "rows"],
)
def test_columns_are_outputs_by_name(answer, tmp_path):
    """Without a schema of outputs each column is one, with its own datatype."""
    bundle = open_model(
        save_python(tmp_path / "m", answer, signature=signature(("double", "weight")))
    )

    answer = ask_rows(bundle, [{"weight": 1.5}, {"weight": 2.5}])

    assert {"who": ["p", "q"], "sure": [0.25, 0.5]} == answer


def test_none_is_no_answer(tmp_path):
    """A model that returns nothing fails, and says so."""
    bundle = open_model(
        save_python(tmp_path / "m", "return None", signature=signature(("double", "weight")))
    )

    with pytest.raises(PredictionError, match="returned None"):
        ask_rows(bundle, [{"weight": 1.5}])


SEEN = (
    "import pandas\n"
    "return [str([None if pandas.isna(v) else str(v) for v in r]) for r in model_input.values]"
)
ALL = (("string", "s"), ("string", "t"), ("boolean", "b"), ("datetime", "d"), ("double", "f"))


def test_null_stands_for_a_missing_value_of_an_optional_column(tmp_path):
    """Null is accepted whatever an optional column's type, beside other values where MLflow can."""
    kinds = [(kind, name, name == "s") for kind, name in ALL]
    bundle = open_model(save_python(tmp_path / "m", SEEN, signature=signature(*kinds)))
    some = {"s": "x", "t": "y", "b": True, "d": "2022-02-03", "f": 2}
    none = {"s": "x", "t": None, "b": None, "d": None, "f": None}

    both = ask_rows(bundle, [some, none])["output-0"]
    alone = ask_rows(bundle, [none])["output-0"]

    assert ["['x', 'y', 'True', '2022-02-03 00:00:00', '2.0']"] == both[:1]
    assert both[1:] == alone == ["['x', None, None, None, None]"]
    with pytest.raises(InvalidInput, match=r"'b' has the value 7; .* expects BOOL"):
        ask_rows(bundle, [{**some, "b": 7}, none])


def test_a_null_integer_is_a_missing_column(tmp_path):
    """MLflow has no null among integers, but an optional column may be missing."""
    bundle = open_model(
        save_python(
            tmp_path / "m",
            "return [len(model_input.columns)] * len(model_input)",
            signature=signature(("long", "k", False), ("double", "f")),
        )
    )

    assert [1] == ask_rows(bundle, [{"k": None, "f": 1.5}])["output-0"]
    assert [2] == ask_rows(bundle, [{"k": 4, "f": 1.5}])["output-0"]


@pytest.mark.parametrize("names", [("one",), ("one", "two")])
def test_columns_that_a_signature_lacks_are_ignored(names, tmp_path):
    """Other columns have no effect, as in MLflow; a misspelt one is missing, with a hint."""
    bundle = open_model(
        save_python(
            tmp_path / "m",
            "return model_input.sum(axis=1)",
            signature=signature(*(("double", name) for name in names)),
        )
    )
    row = dict.fromkeys(names, 3)

    assert [3.0 * len(names)] == ask_rows(bundle, [{**row, "zone": "w"}])["output-0"]
    assert [6.0 * len(names)] == ask(bundle, **{name: [6.0] for name in names}, zone=["w"])[
        "output-0"
    ].tolist()
    wrong = {("onne" if name == "one" else name): 3 for name in names}
    with pytest.raises(InvalidInput, match="one"):
        ask_rows(bundle, [wrong])


def test_params_of_mlflow_are_parameters(tmp_path):
    """MLflow's params are those of the request; one that the model lacks is refused."""
    params = ParamSchema([ParamSpec("factor", "double", 3.0)])
    bundle = open_model(
        save_python(
            tmp_path / "m",
            "return model_input['f'] * params['factor']",
            signature=signature(("double", "f"), params=params),
        )
    )
    body = {"dataframe_split": {"columns": ["f"], "data": [[2.0]]}, "params": {"factor": 4.5}}
    request = v1.decode_request(body, "m", None)

    assert [9.0] == ask_rows(bundle, request.rows, **request.parameters)["output-0"]
    with pytest.raises(InvalidInput, match=r"'facto'; .* has the parameters 'factor'"):
        ask_rows(bundle, request.rows, params={"facto": 4.5})


def test_vectors_of_rows_are_stacked(tmp_path):
    """In a row of several tensors a vector is the row's own value."""
    spec = ModelSignature(
        Schema(
            [
                MlflowTensorSpec(np.dtype("float32"), (-1, 4), "left"),
                MlflowTensorSpec(np.dtype("int64"), (-1, 2), "right"),
            ]
        )
    )
    bundle = open_model(
        save_python(
            tmp_path / "m",
            "return model_input['left'].sum(axis=1) + model_input['right'].sum(axis=1)",
            signature=spec,
        )
    )
    rows = [{"left": [1, 2, 3, 4], "right": [5, 6]}, {"left": [0, 0, 0, 1], "right": [0, 2]}]

    assert [21.0, 3.0] == ask_rows(bundle, rows)["output-0"]
