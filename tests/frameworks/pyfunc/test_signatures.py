"""The signature of a registered model holds, whichever framework opens it."""

import json

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, Schema
from mlflow.types import TensorSpec as MlflowTensorSpec
from mlflow.types.schema import Array, DataType
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from bundleserver.errors import InvalidInput, PredictionError
from bundleserver.frameworks import LoadContext, framework_named
from bundleserver.sources.registry.flavours import manifest_of
from bundleserver.tensors import NamedTensor
from tests.frameworks.pyfunc.test_pyfunc import ask, open_model, save_python

DOUBLE = Schema([ColSpec("double")])
DAYS = ["2023-11-30", "2024-02-29T18:30:00", "2024-07-01 00:00:00"]
TABLE = pd.DataFrame({"b": [1.0, 2.0, 4.0, 3.0], "a": [5.0, 1.0, 0.0, 2.0]})
TARGET = 10.0 * TABLE["b"] + TABLE["a"]


def columns(*entries, outputs=DOUBLE):
    """Make a signature of columns, each a type and a name, and False for an optional one."""
    specs = [ColSpec(kind, name, *required) for kind, name, *required in entries]
    return ModelSignature(Schema(specs), outputs)


def save_sklearn(path, model, signature, **settings):
    """Save a pickle of the sklearn flavour."""
    mlflow.sklearn.save_model(
        model,
        str(path),
        serialization_format="cloudpickle",
        pip_requirements=[],
        signature=signature,
        **settings,
    )
    return path


def ask_rows(bundle, rows):
    """Ask over V1; returns the only output."""
    bound = bundle.signature.validate_rows(rows, bundle.identity)
    return bundle.predict(bound, {})["output-0"].tolist()


def framework_of(path):
    """Name the framework that a saved model is opened with."""
    return manifest_of(path, "native").components["model"].framework


def month(table):
    """Return the months of a table of dates."""
    return table.apply(lambda column: column.dt.month)


def test_dates_reach_a_pipeline_of_scikit_learn_as_dates(tmp_path):
    """A column that the signature calls a datetime is one, whatever opens the model's file."""
    frame = pd.DataFrame({"day": pd.date_range("2024-01-01", periods=60), "size": np.arange(60.0)})
    split = ColumnTransformer(
        [("m", FunctionTransformer(month), ["day"]), ("s", "passthrough", ["size"])]
    )
    model = make_pipeline(split, LinearRegression()).fit(frame, frame["day"].dt.month)
    bundle = open_model(save_sklearn(tmp_path / "m", model, infer_signature(frame, [1.0])))

    rows = [{"size": float(i), "day": day} for i, day in enumerate(DAYS)]
    assert pytest.approx([11, 2, 7]) == ask_rows(bundle, rows)
    sizes = np.array([[0.0], [1.0], [2.0]])
    answer = ask(bundle, size=sizes, day=np.array(DAYS, dtype=object).reshape(3, 1))
    assert pytest.approx([11, 2, 7]) == answer["output-0"].tolist()


@pytest.fixture(scope="module")
def hours(tmp_path_factory):
    """Open a model that answers the hours since 2024 began."""
    body = "return (model_input['at'] - pd.Timestamp('2024-01-01')) / pd.Timedelta('1h')"
    path = tmp_path_factory.mktemp("hours") / "m"
    save_python(
        path,
        f"import pandas as pd\n{body}",
        signature=columns(("datetime", "at"), ("double", "x", False)),
    )
    return open_model(path)


def test_dates_have_the_forms_of_iso_8601(hours):
    """Forms may differ within a request, and what has an offset is meant in UTC."""
    rows = ["2024-01-01", "2024-01-01T01:00", "2024-01-01 02:00:00Z", "2024-01-01T05:00:00+02:00"]

    assert [0.0, 1.0, 2.0, 3.0] == ask_rows(hours, [{"at": text} for text in rows])


@pytest.mark.parametrize(
    "value",
    ["tomorrow", "now", "", "NaT", "2023-02-29", "2024-13-01", "99999-01-01", "1e3", 7],
)
def test_a_value_that_is_no_date_is_the_callers(hours, value):
    """The message has the column and the value, not the request."""
    with pytest.raises(InvalidInput, match=rf"'at' has the value {value!r}"):
        ask_rows(hours, [{"at": "2024-01-01"}, {"at": value}])


@pytest.mark.parametrize("named", [True, False])
def test_columns_bind_by_name_to_an_estimator(tmp_path, named):
    """Their order is the signature's, also for an estimator that was fitted without names."""
    model = LinearRegression().fit(TABLE if named else TABLE.to_numpy(), TARGET)
    path = save_sklearn(tmp_path / "m", model, infer_signature(TABLE, TARGET))
    bundle = open_model(path)

    assert "sklearn" == framework_of(path)
    assert pytest.approx([72.0]) == ask_rows(bundle, [{"a": 2.0, "b": 7.0}])
    assert pytest.approx([72.0]) == ask_rows(bundle, [[7.0, 2.0]])
    assert pytest.approx([72.0]) == ask(bundle, a=[2.0], b=[[7.0]])["output-0"].tolist()
    assert pytest.approx([72.0]) == ask(bundle, input_0=[[7.0, 2.0]])["output-0"].tolist()
    for wrong in ({"a": [2.0]}, {"a": [2.0], "c": [7.0]}, {"a": [2.0], "b": [7.0], "c": [1.0]}):
        with pytest.raises(InvalidInput):
            ask(bundle, **wrong)


def test_columns_bind_by_name_to_a_regression_and_to_a_network(tmp_path):
    """Also where the model knows no names: statsmodels' designs, and torch's tensors."""
    import mlflow.pytorch
    import mlflow.statsmodels
    import torch
    from statsmodels.api import OLS

    signature = infer_signature(TABLE, TARGET)
    mlflow.statsmodels.save_model(
        OLS(TARGET, TABLE).fit(), str(tmp_path / "s"), signature=signature, pip_requirements=[]
    )
    layer = torch.nn.Linear(2, 1, bias=False)
    layer.weight.data = torch.tensor([[10.0, 1.0]])
    mlflow.pytorch.save_model(
        torch.jit.script(layer),
        str(tmp_path / "t"),
        signature=signature,
        serialization_format="pickle",
        pip_requirements=[],
    )

    assert ["statsmodels", "pyfunc"] == [framework_of(tmp_path / "s"), framework_of(tmp_path / "t")]
    for kind, output in (("s", "prediction"), ("t", "output-0")):
        bundle = open_model(tmp_path / kind)
        rows = bundle.signature.validate_rows([{"a": 2.0, "b": 7.0}], "x")
        both = [bundle.predict(rows, {}), ask(bundle, a=[2.0], b=[7.0])]
        with pytest.raises(InvalidInput):
            ask(bundle, a=[2.0, 1.0], b=[7.0])
        assert [pytest.approx([72.0])] * 2 == [answer[output].ravel().tolist() for answer in both]


@pytest.mark.parametrize("flavour", ["sklearn", "pyfunc"])
def test_integers_are_integers(tmp_path, flavour):
    """A fraction, a gap or a number that is too large is refused, whoever opens the model."""
    signature = columns(("long", "n"), ("integer", "i"), ("double", "x"))
    if flavour == "sklearn":
        model = LinearRegression().fit(np.eye(4, 3), [1.0, 10.0, 100.0, 0.0])
        path = save_sklearn(tmp_path / "m", model, signature)
    else:
        body = "return model_input['n'] + 10 * model_input['i'] + 100 * model_input['x']"
        path = save_python(tmp_path / "m", body, signature=signature)
    bundle = open_model(path)

    assert flavour == framework_of(path)
    right = {"n": 2, "i": 3, "x": 0.5}
    assert pytest.approx([82.0]) == ask_rows(bundle, [right])
    assert pytest.approx([82.0]) == ask(bundle, x=[0.5], i=[3], n=[2])["output-0"].tolist()
    for wrong in ({"n": 1.5}, {"i": 0.25}, {"i": 2**31}, {"n": None}):
        with pytest.raises(InvalidInput):
            ask_rows(bundle, [{**right, **wrong}])
    with pytest.raises(InvalidInput):
        ask(bundle, x=[0.5], i=[3.5], n=[2])


def test_a_single_integer_is_not_cut_from_a_fraction(tmp_path):
    """The one input of a lenient model takes any datatype, and no other value."""
    path = save_python(tmp_path / "m", "return model_input['n']", signature=columns(("long", "n")))
    bundle = open_model(path)

    assert [4] == ask(bundle, n=[[4.0]])["output-0"].tolist()
    with pytest.raises(InvalidInput, match="FP64"):
        ask(bundle, n=[4.5])


def test_every_type_of_a_column_reaches_the_model_as_mlflow_gives_it(tmp_path):
    """Integers, floats, booleans, strings, bytes and dates have their dtypes in the DataFrame."""
    kinds = ["integer", "long", "float", "double", "boolean", "string", "binary", "datetime"]
    path = save_python(
        tmp_path / "m",
        "return [','.join(str(d) for d in model_input.dtypes) + str(model_input['binary'][0])]",
        signature=columns(*((kind, kind) for kind in kinds), outputs=Schema([ColSpec("string")])),
    )
    row = dict(zip(kinds, [1, 2, 0.5, 0.25, True, "s", "é", "2024-01-01"], strict=True))
    bundle = open_model(path)

    expected = "int32,int64,float32,float64,bool,object,object,datetime64[ns]" + str("é".encode())
    assert [expected] == ask_rows(bundle, [row])
    assert [expected] == ask(bundle, **{k: np.array([[v]]) for k, v in row.items()})[
        "output-0"
    ].tolist()


def test_an_optional_column_may_be_missing_or_null(tmp_path):
    """In all rows or in some, of any type; a required one may not."""
    path = save_python(
        tmp_path / "m",
        "gaps = model_input.reindex(columns=['x', 'word', 'day']).isna()\n"
        "return model_input['k'] + gaps['x'] + 2 * gaps['word'] + 4 * gaps['day']",
        signature=columns(
            ("double", "k"),
            ("double", "x", False),
            ("string", "word", False),
            ("datetime", "day", False),
        ),
    )
    bundle = open_model(path)
    full = {"k": 0.0, "x": 1.0, "word": "w", "day": "2024-01-01"}

    assert [0.0] == ask_rows(bundle, [full])
    assert [7.0] == ask_rows(bundle, [{"k": 0.0}])
    assert [0.0, 7.0, 2.0] == ask_rows(bundle, [full, {"k": 0.0}, {**full, "word": None}])
    assert [4.0] == ask(bundle, k=[0.0], word=["w"], x=[1.0])["output-0"].tolist()
    with pytest.raises(InvalidInput, match="'k'"):
        ask_rows(bundle, [{"x": 1.0}])
    with pytest.raises(InvalidInput, match="wrod"):
        ask_rows(bundle, [{"k": 0.0, "wrod": "w"}])


def test_what_mlflow_refuses_is_told_without_the_table(tmp_path):
    """Only the reason of a refusal is for the caller, not the request and the schema again."""
    signature = ModelSignature(Schema([ColSpec(Array(DataType.double), "xs")]), DOUBLE)
    path = save_python(tmp_path / "m", "return [sum(model_input['xs'][0])]", signature=signature)
    bundle = open_model(path)

    assert [3.0] == ask_rows(bundle, [{"xs": [1.0, 2.0]}])
    with pytest.raises(InvalidInput) as caught:
        ask_rows(bundle, [{"xs": ["one", "two"]}])
    assert "Failed to enforce schema" not in str(caught.value)
    assert "Failed to convert column" in str(caught.value)


def test_a_failure_in_the_models_own_code_is_no_refusal(tmp_path):
    """Whatever its class is, it is the model's."""
    for index, error in enumerate(("ValueError", "TypeError", "OverflowError", "KeyError")):
        path = save_python(
            tmp_path / str(index), f"raise {error}('lost')", signature=columns(("double", "x"))
        )
        with pytest.raises(PredictionError, match=error):
            ask_rows(open_model(path), [{"x": 1.0}])


def test_what_an_estimator_rejects_is_the_callers_behind_mlflow_too(tmp_path):
    """An unknown category is refused as scikit-learn's own framework refuses it."""
    frame = pd.DataFrame({"kind": ["in", "out", "in", "out"]})
    model = make_pipeline(OneHotEncoder(), LinearRegression()).fit(frame, TARGET)
    path = save_sklearn(tmp_path / "m", model, infer_signature(frame, TARGET))
    bundle = open_model(path)

    assert "pyfunc" == framework_of(path)
    assert 2 == len(ask_rows(bundle, [{"kind": "in"}, {"kind": "out"}]))
    with pytest.raises(InvalidInput, match="sideways"):
        ask_rows(bundle, [{"kind": "sideways"}])
    with pytest.raises(InvalidInput):
        ask_rows(bundle, [{"kind": 3}])


def test_the_method_that_was_logged_answers(tmp_path):
    """``pyfunc_predict_fn`` is part of what was registered."""
    model = LogisticRegression().fit(TABLE, [0, 1, 0, 1])
    path = save_sklearn(
        tmp_path / "m",
        model,
        infer_signature(TABLE, model.predict_proba(TABLE)),
        pyfunc_predict_fn="predict_proba",
    )

    expected = model.predict_proba(TABLE[:1]).tolist()
    assert pytest.approx(np.array(expected)) == ask_rows(open_model(path), [{"a": 5.0, "b": 1.0}])


def test_outputs_need_not_be_what_the_signature_says(tmp_path):
    """MLflow enforces none: a model of integers answers fractions, and tables for a column."""
    cases = (
        ("long", "return model_input['x'] / 4", [0.25]),
        ("boolean", "return model_input['x'] * 2", [2.0]),
        ("double", "return [[1.0, 2.0]]", [[1.0, 2.0]]),
        ("double", "return [[3.0]]", [3.0]),
    )
    for index, (kind, body, expected) in enumerate(cases):
        signature = columns(("double", "x"), outputs=Schema([ColSpec(kind)]))
        path = save_python(tmp_path / str(index), body, signature=signature)

        assert expected == ask_rows(open_model(path), [{"x": 1.0}])


def test_a_time_series_is_asked_as_it_was_logged(tmp_path):
    """MLflow's start and end where the signature has them, else the forecast contract."""
    import mlflow.statsmodels
    from statsmodels.tsa.arima.model import ARIMA

    fitted = ARIMA(np.sin(np.arange(50.0)), order=(1, 0, 0)).fit()
    own = columns(("long", "start"), ("long", "end"))
    for kind, signature in (("own", own), ("ours", infer_signature(TABLE[["a"]], TARGET))):
        mlflow.statsmodels.save_model(
            fitted, str(tmp_path / kind), signature=signature, pip_requirements=[]
        )

    expected = fitted.predict(start=50, end=52)
    assert pytest.approx(expected) == ask_rows(
        open_model(tmp_path / "own"), [{"start": 50, "end": 52}]
    )
    assert pytest.approx(expected) == ask(open_model(tmp_path / "ours"), horizon=[3])["mean"]


def test_tensors_of_strings_and_dates_have_their_dtypes(tmp_path):
    """What the protocol carries as BYTES arrives as the tensor that the schema declares."""
    signature = ModelSignature(
        Schema(
            [
                MlflowTensorSpec(np.dtype(str), (-1,), "word"),
                MlflowTensorSpec(np.dtype("datetime64[s]"), (-1,), "day"),
            ]
        )
    )
    body = "return [f\"{model_input['word'].dtype.kind} {model_input['day'].dtype.kind}\"]"
    bundle = open_model(save_python(tmp_path / "m", body, signature=signature))

    assert ["U M"] == ask_rows(bundle, [{"word": "w", "day": "2024-01-01"}])
    with pytest.raises(InvalidInput, match="someday"):
        ask_rows(bundle, [{"word": "w", "day": "someday"}])


def test_a_path_that_mlflow_would_decode_is_opened(tmp_path):
    """A directory may be called 'x%20y', beside one that is called 'x y'."""
    for factor, name in ((2, "x y"), (3, "x%20y"), (5, "x#y?z")):
        save_python(
            tmp_path / name / "m",
            f"return model_input['a'] * {factor}",
            signature=columns(("double", "a")),
        )

    answers = [
        ask_rows(open_model(tmp_path / name / "m"), [{"a": 1.0}])
        for name in ("x y", "x%20y", "x#y?z")
    ]
    assert [[2.0], [3.0], [5.0]] == answers


def test_samples_are_the_logged_example_and_nothing_else(tmp_path):
    """Foreign code is asked with what it was logged with; a broken example is none."""
    example = pd.DataFrame(
        {"day": pd.to_datetime(["2024-01-01", "2024-01-02"]), "n": np.array([1, 2], "int64")}
    )
    schema = columns(("datetime", "day"), ("long", "n"))
    path = save_python(
        tmp_path / "m",
        "return model_input['n'] * model_input['day'].dt.day",
        signature=schema,
        input_example=example,
    )
    bare = save_python(tmp_path / "bare", "return 1", signature=schema)
    load = framework_named("pyfunc").load
    predictor = load(path / "MLmodel", LoadContext())

    ((day, n),) = predictor.samples("predict", 3)
    assert ("day", "n", [1, 2, 1]) == (day.name, n.name, n.values.tolist())
    assert [1, 4, 1] == predictor.call("predict", (day, n), {})[0].tolist()
    assert () == tuple(load(bare / "MLmodel", LoadContext()).samples("predict", 3))
    info = json.loads((path / "input_example.json").read_text())
    (path / "input_example.json").write_text(json.dumps({**info, "data": [["x"]]}))
    assert () == tuple(load(path / "MLmodel", LoadContext()).samples("predict", 3))
    (path / "input_example.json").unlink()
    assert () == tuple(load(path / "MLmodel", LoadContext()).samples("predict", 3))


def test_an_option_of_columns_must_be_an_object_of_datatypes(tmp_path):
    """A manifest that somebody wrote is told what it should be."""
    from bundleserver.errors import LoadError

    path = save_sklearn(
        tmp_path / "m", LinearRegression().fit(TABLE, TARGET), infer_signature(TABLE, TARGET)
    )
    for wrong in (["a"], {}, {"a": "text"}, 3):
        with pytest.raises(LoadError, match=r"options\.columns"):
            framework_named("sklearn").load(path / "model.pkl", LoadContext({"columns": wrong}))


def test_samples_of_integers_are_integers(tmp_path):
    """What the estimator knows is rounded where the signature has integers."""
    model = LinearRegression().fit(TABLE, TARGET)
    path = save_sklearn(tmp_path / "m", model, columns(("long", "b"), ("double", "a")))
    manifest = manifest_of(path, "m")
    component = manifest.components["model"]
    predictor = framework_named("sklearn").load(
        path / component.path, LoadContext(component.options)
    )

    for call in predictor.samples("predict", 4):
        predictor.call("predict", call, {})
    bundle = open_model(path)
    tensor = NamedTensor("input-0", np.array([[1.5, 1.0]]))
    with pytest.raises(InvalidInput, match=r"column 'b' has the value 1\.5"):
        bundle.predict({"input-0": tensor}, {})


@pytest.mark.parametrize("names", [["a", "b"], ["b"], ["b", "a", "c"]])
def test_columns_that_the_estimator_was_not_fitted_with_are_its_own_to_judge(tmp_path, names):
    """What MLflow passes on is what it gets: scikit-learn refuses other names and another order."""
    given = TABLE.assign(c=0.0)[names]
    model = LinearRegression().fit(TABLE, TARGET)
    path = save_sklearn(tmp_path / "m", model, columns(*(("double", name) for name in names)))
    with pytest.raises(ValueError, match="feature names should match"):
        mlflow.pyfunc.load_model(str(path)).predict(given)
    assert "sklearn" == framework_of(path)
    bundle = open_model(path)

    with pytest.raises(InvalidInput, match="feature names should match"):
        ask_rows(bundle, given.to_dict("records"))
    with pytest.raises(InvalidInput, match="missing column"):
        ask_rows(bundle, [{"z": 1.0}])


@pytest.mark.parametrize("width", [1, 3])
def test_a_signature_of_another_width_is_refused_as_mlflow_refuses_it(tmp_path, width):
    """An estimator that was fitted without names counts the columns."""
    model = LinearRegression().fit(TABLE.to_numpy(), TARGET)
    names = ["a", "b", "c"][:width]
    path = save_sklearn(tmp_path / "m", model, columns(*(("double", name) for name in names)))

    with pytest.raises(InvalidInput, match=f"X has {width} features"):
        ask_rows(open_model(path), [dict.fromkeys(names, 1.0)])


@pytest.mark.parametrize("names", [["a", "b", "unused"], ["unused", "b", "a"], ["b", "a"]])
def test_columns_that_an_estimator_takes_by_name_may_be_others(tmp_path, names):
    """One that only picks its columns answers as it does behind MLflow."""
    split = ColumnTransformer([("both", "passthrough", ["b", "a"])])
    frame = TABLE.assign(unused=0.0)
    model = make_pipeline(split, LinearRegression()).fit(frame, TARGET)
    path = save_sklearn(tmp_path / "m", model, columns(*(("double", name) for name in names)))
    expected = mlflow.pyfunc.load_model(str(path)).predict(frame[names])

    rows = frame[names].to_dict("records")
    assert pytest.approx(expected.tolist()) == ask_rows(open_model(path), rows)


def test_booleans_are_no_numbers(tmp_path):
    """MLflow takes no boolean for a double, in objects as in a tensor for each column."""
    model = LinearRegression().fit(TABLE, TARGET)
    bundle = open_model(save_sklearn(tmp_path / "m", model, infer_signature(TABLE, TARGET)))

    with pytest.raises(InvalidInput, match="column 'a' has booleans"):
        ask_rows(bundle, [{"a": True, "b": 2.0}])
    with pytest.raises(InvalidInput, match="column 'b' has booleans"):
        ask(bundle, a=np.array([1.0]), b=np.array([True]))
    with pytest.raises(InvalidInput, match="booleans"):
        ask_rows(bundle, [[True, False]])
