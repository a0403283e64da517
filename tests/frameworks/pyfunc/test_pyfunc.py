"""Native MLflow models through mlflow.pyfunc, with their signatures and their own code."""

import sys
import threading

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from mlflow.types import TensorSpec as MlflowTensorSpec
from sklearn.linear_model import LinearRegression

from bundleserver.bundle import Bundle
from bundleserver.bundle.integrity import verify_files
from bundleserver.errors import BundleError, FrameworkError, InvalidInput, LoadError
from bundleserver.sources.registry.flavours import manifest_of
from bundleserver.tensors import NamedTensor

TABLE = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [0.0, 1.0, 0.0]})


def save_python(path, body, **settings):
    """Save a model whose ``predict`` is that source, by value as from a notebook."""
    space = {}
    exec(  # noqa: S102  # a class without a module is what notebooks have
        "import mlflow.pyfunc\nclass Model(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input, params=None):\n"
        + "".join(f"        {line}\n" for line in body.splitlines()),
        space,
    )
    space["Model"].__module__ = "__main__"
    mlflow.pyfunc.save_model(
        str(path), python_model=space["Model"](), pip_requirements=[], **settings
    )
    return path


def open_model(path):
    """Open a native model as the server does."""
    manifest = manifest_of(path, "native")
    verify_files(path, manifest)
    return Bundle.open(path, manifest, model="native", version="1")


def ask(bundle, parameters=None, **inputs):
    """Ask with one tensor for each keyword; underscores stand for hyphens."""
    tensors = [NamedTensor(k.replace("_", "-"), np.asarray(v)) for k, v in inputs.items()]
    bound = bundle.signature.validate_tensors(tensors, bundle.identity)
    return bundle.predict(bound, parameters or {})


def test_columns_of_a_signature_are_inputs_and_a_table_reaches_the_model(tmp_path):
    """Each column is a tensor of its type, and the model sees the DataFrame that MLflow gives."""
    path = save_python(
        tmp_path / "m",
        "return model_input['a'] * 2 + model_input['b']",
        signature=infer_signature(TABLE, np.array([1.0])),
    )
    bundle = open_model(path)

    inputs = bundle.signature.inputs
    assert [("a", "FP64", (-1,)), ("b", "FP64", (-1,))] == [
        (s.name, s.datatype, s.shape) for s in inputs
    ]
    assert [2.0, 5.0] == ask(bundle, a=[1.0, 2.0], b=[0.0, 1.0])["output-0"].tolist()
    rows = bundle.signature.validate_rows([{"a": 1, "b": 2}], "x")
    assert [4.0] == bundle.predict(rows, {})["output-0"].tolist()


def test_tensors_of_a_signature_are_inputs(tmp_path):
    """Named tensors arrive as arrays by name, a single one without a name as the array."""
    one = ModelSignature(Schema([MlflowTensorSpec(np.dtype("float32"), (-1, 2))]))
    two = ModelSignature(
        Schema(
            [
                MlflowTensorSpec(np.dtype("float64"), (-1, 2), "x"),
                MlflowTensorSpec(np.dtype("int64"), (-1,), "n"),
            ]
        )
    )
    single = open_model(
        save_python(tmp_path / "1", "return model_input.sum(axis=1)", signature=one)
    )
    double = open_model(
        save_python(
            tmp_path / "2", "return model_input['x'].sum(axis=1) * model_input['n']", signature=two
        )
    )

    assert [3.0] == ask(single, input_0=np.array([[1, 2]], "float32"))["output-0"].tolist()
    assert [6.0] == ask(double, x=[[1.0, 2.0]], n=[2])["output-0"].tolist()


def test_several_outputs_and_parameters_follow_the_signature(tmp_path):
    """A DataFrame's columns become outputs by name, and a request's parameters reach the model."""
    signature = ModelSignature(
        Schema([ColSpec("double", "a")]),
        Schema([ColSpec("double", "low"), ColSpec("string", "word")]),
        ParamSchema([ParamSpec("factor", "double", 1.0)]),
    )
    path = save_python(
        tmp_path / "m",
        "import pandas as pd\n"
        "low = model_input['a'] * params['factor']\n"
        "return pd.DataFrame({'word': ['w'] * len(low), 'low': low})",
        signature=signature,
    )
    bundle = open_model(path)

    answer = ask(bundle, {"factor": 3.0, "level": 0.9}, a=[1.0, 2.0])
    assert ["low", "word"] == list(answer)
    assert [3.0, 6.0] == answer["low"].tolist()
    assert ["w", "w"] == answer["word"].tolist()
    assert [1.0] == ask(bundle, a=[1.0])["low"].tolist()


def test_a_model_without_a_signature_takes_what_comes(tmp_path):
    """Without a signature nothing is declared and nothing is checked."""
    path = save_python(tmp_path / "m", "return model_input * 2")

    assert [[2.0, 4.0]] == ask(open_model(path), anything=[[1.0, 2.0]])["output-0"].tolist()


def test_an_input_that_does_not_fit_is_the_callers(tmp_path):
    """A missing column, and what MLflow itself refuses, are no failure of the model."""
    path = save_python(
        tmp_path / "m",
        "from mlflow.exceptions import MlflowException\n"
        "raise MlflowException.invalid_parameter_value('a is odd')",
        signature=infer_signature(TABLE, np.array([1.0])),
    )
    bundle = open_model(path)

    with pytest.raises(InvalidInput, match="missing inputs"):
        ask(bundle, a=[1.0])
    with pytest.raises(InvalidInput, match="a is odd"):
        ask(bundle, a=[1.0], b=[1.0])


def write_code(root, factor):
    """Write a module, a module that it imports late, and a package, all under common names."""
    code = root / f"code{factor}"
    (code / "parts").mkdir(parents=True)
    (code / "helper.py").write_text(
        f"FACTOR = {factor}\n"
        "def scale(x):\n    import late\n    from parts.inner import times\n"
        "    return times(x) + late.ADDED\n"
    )
    (code / "late.py").write_text(f"ADDED = {factor}\n")
    (code / "parts" / "__init__.py").write_text("")
    (code / "parts" / "inner.py").write_text(
        "def times(x):\n    from . import number\n    return x * number.N\n"
    )
    (code / "parts" / "number.py").write_text(f"N = {factor}\n")
    return [str(code / name) for name in ("helper.py", "late.py", "parts")]


@pytest.mark.parametrize(
    "body",
    [
        "import helper\nreturn helper.scale(model_input['a'])",
        "import importlib\nreturn importlib.import_module('helper').scale(model_input['a'])",
        "from importlib import import_module\n"
        "return import_module('parts.inner').times(model_input['a']) + import_module('late').ADDED",
        "from parts import number\nfrom helper import scale\n"
        "assert number.N\nreturn scale(model_input['a'])",
    ],
)
def test_two_versions_with_modules_of_one_name_are_served_at_once(tmp_path, body):
    """Each version runs the code logged with it, also what it imports while it predicts."""
    signature = infer_signature(TABLE[["a"]], np.array([1.0]))
    bundles = [
        open_model(
            save_python(
                tmp_path / str(factor),
                body,
                signature=signature,
                code_paths=write_code(tmp_path, factor),
            )
        )
        for factor in (2, 5)
    ]
    answers = [[], []]

    def many(index):
        for _ in range(20):
            answers[index].append(float(ask(bundles[index], a=[10.0])["output-0"][0]))

    threads = [threading.Thread(target=many, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert [{22.0}, {55.0}] == [set(given) for given in answers]
    assert 20 == len(answers[0]) == len(answers[1])


def test_a_version_that_opens_pickles_while_it_predicts_finds_its_classes(tmp_path):
    """What looks for modules in Python's own table is answered too, one call at a time."""
    path = save_python(
        tmp_path / "m",
        "import pickle\nscale = pickle.loads(b'chelper\\nscale\\n.')\n"
        "return scale(model_input['a'])",
        signature=infer_signature(TABLE[["a"]], np.array([1.0])),
        code_paths=write_code(tmp_path, 2),
    )
    bundle = open_model(path)

    assert [22.0] == ask(bundle, a=[10.0])["output-0"].tolist()
    assert [22.0] == ask(bundle, a=[10.0])["output-0"].tolist()


def test_a_versions_code_leaves_no_trace_in_the_process(tmp_path):
    """Neither sys.path nor the table of modules knows of it afterwards, nor the directory of us."""
    path, before = list(sys.path), set(sys.modules)
    model = save_python(
        tmp_path / "m",
        "import helper\nreturn helper.scale(model_input['a'])",
        signature=infer_signature(TABLE[["a"]], np.array([1.0])),
        code_paths=write_code(tmp_path, 2),
    )
    bundle = open_model(model)
    ask(bundle, a=[1.0])

    assert path == sys.path
    assert [] == [
        name for name in {*sys.modules} - before if name in ("helper", "late") or "parts" in name
    ]
    assert [] == [*(model / "code").rglob("__pycache__")]


def test_a_module_of_the_environment_of_that_name_stays_what_it_was(tmp_path, monkeypatch):
    """A version's module hides one of the environment for that version only."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "helper.py").write_text("FACTOR = 'the environment'\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    import helper

    model = save_python(
        tmp_path / "m",
        "import helper\nreturn model_input['a'] * helper.FACTOR",
        signature=infer_signature(TABLE[["a"]], np.array([1.0])),
        code_paths=write_code(tmp_path, 2),
    )

    assert [6.0] == ask(open_model(model), a=[3.0])["output-0"].tolist()
    assert sys.modules["helper"] is helper
    assert "the environment" == helper.FACTOR
    del sys.modules["helper"]


def test_a_package_that_is_not_installed_is_named(tmp_path):
    """Whoever has to mend the image reads which package it lacks."""
    path = save_python(tmp_path / "m", "return 1")
    mlmodel = (path / "MLmodel").read_text()
    (path / "MLmodel").write_text(
        mlmodel.replace("loader_module: mlflow.pyfunc.model", "loader_module: no_such_flavour.load")
    )

    with pytest.raises(FrameworkError, match=r"no_such_flavour.*code_paths.*Dockerfile"):
        open_model(path)


def test_a_flavour_that_nothing_opens_names_the_extra(tmp_path):
    """Without python_function there is nothing to go by."""
    (tmp_path / "MLmodel").write_text("flavors:\n  spark:\n    model_data: sparkml\n")

    with pytest.raises(FrameworkError, match=r"'spark'.*bundleserver\[mlflow\]"):
        manifest_of(tmp_path, "native")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1, 2]",
        "flavors: [a]",
        "flavors: {a: !!python/object:os.system {}}",
        "\t:",
        "flavors:\n  sklearn:\n    pickled_model: ../../etc/passwd\n",
        "flavors:\n  sklearn:\n    pickled_model: missing.pkl\n",
        "flavors:\n  statsmodels:\n    data: /etc/passwd\n",
    ],
)
def test_a_broken_mlmodel_is_refused(tmp_path, text):
    """What is no MLmodel, or leads out of its directory, opens nothing and runs nothing."""
    (tmp_path / "MLmodel").write_text(text)

    with pytest.raises(BundleError, match="MLmodel"):
        manifest_of(tmp_path, "native")


def test_code_that_lies_elsewhere_is_refused(tmp_path):
    """A model's code lies beside its MLmodel."""
    path = save_python(tmp_path / "m", "return 1")
    mlmodel = (path / "MLmodel").read_text()
    (path / "MLmodel").write_text(mlmodel.replace("code: null", "code: ../.."))

    with pytest.raises(LoadError, match="not a directory beside it"):
        open_model(path)


def test_scikit_learns_models_are_our_component_in_both_formats(tmp_path):
    """Where our own framework opens the same file, it does, with every method of the model."""
    model = LinearRegression().fit(TABLE, [1.0, 2.0, 3.0])
    signature = infer_signature(TABLE, model.predict(TABLE))
    frameworks, answers = [], []
    for form in ("cloudpickle", "skops"):
        path = tmp_path / form
        mlflow.sklearn.save_model(
            model, str(path), serialization_format=form, pip_requirements=[], signature=signature
        )
        frameworks.append(manifest_of(path, "m").components["model"].framework)
        rows = open_model(path).signature.validate_rows([{"a": 1.5, "b": 0.5}], "x")
        answers.append(open_model(path).predict(rows, {})["output-0"].tolist())

    assert ["sklearn", "skops"] == frameworks
    expected = model.predict(pd.DataFrame({"a": [1.5], "b": [0.5]})).tolist()
    assert [expected, expected] == answers


def test_statsmodels_and_prophet_forecast_by_the_contract(tmp_path):
    """Their native files are our forecasters: horizon in, mean and interval out."""
    import mlflow.prophet
    import mlflow.statsmodels
    from prophet import Prophet
    from statsmodels.tsa.arima.model import ARIMA

    series = np.sin(np.arange(40.0))
    mlflow.statsmodels.save_model(
        ARIMA(series, order=(1, 0, 0)).fit(), str(tmp_path / "arima"), pip_requirements=[]
    )
    frame = pd.DataFrame({"ds": pd.date_range("2024-01-01", periods=40), "y": series})
    mlflow.prophet.save_model(
        Prophet(uncertainty_samples=0).fit(frame), str(tmp_path / "prophet"), pip_requirements=[]
    )

    for kind, framework in (("arima", "statsmodels"), ("prophet", "prophet")):
        bundle = open_model(tmp_path / kind)
        assert framework == bundle.manifest.components["model"].framework
        assert (4,) == ask(bundle, horizon=[4])["mean"].shape


def test_exported_torch_programs_are_our_component(tmp_path):
    """What torch exported runs without the model's classes."""
    import mlflow.pytorch
    import torch

    layer = torch.nn.Linear(2, 1)
    example = np.ones((2, 2), dtype="float32")
    mlflow.pytorch.save_model(
        layer,
        str(tmp_path / "m"),
        pip_requirements=[],
        input_example=example,
        serialization_format="pt2",
    )
    manifest = manifest_of(tmp_path / "m", "m")

    assert ("torch", "data/model.pt2") == (
        manifest.components["model"].framework,
        manifest.components["model"].path,
    )


def test_pinned_requirements_are_compared_with_what_is_installed(tmp_path):
    """What the model was logged with is known, but for MLflow itself."""
    mlflow.sklearn.save_model(
        LinearRegression().fit(TABLE, [1.0, 2.0, 3.0]),
        str(tmp_path / "m"),
        serialization_format="cloudpickle",
        pip_requirements=["mlflow==1.0", "scikit-learn==1.0", "numpy>=1", "-i https://x"],
    )

    assert {"scikit-learn": "1.0"} == manifest_of(tmp_path / "m", "m").requirements.packages
