"""Code in what is not a plain pickle: MLflow's loaders, code beside a model, skops, commands."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import cloudpickle
import joblib
import mlflow
import numpy as np
import pandas as pd
import pytest
import skops.io
import yaml
from mlflow.models import infer_signature
from mlflow.types.schema import ColSpec
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import FunctionTransformer
from typer.testing import CliRunner

from bundleserver.bundle.opening import open_bundle
from bundleserver.bundle.trust import Trust
from bundleserver.cli import app
from bundleserver.errors import BundleServerError
from bundleserver.frameworks.prophet import document
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy
from bundleserver.sources.registry.flavours import manifest_of
from bundleserver.store.recording import Recording
from tests.frameworks.skops.files import skops_with

LISTED = CodeTrust(PicklePolicy.LISTED)
DENY = CodeTrust(PicklePolicy.DENY)
NO_CODE = CodeTrust(bundle_code=False)
TABLE = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [0.0, 1.0, 0.0]})
MODEL = LinearRegression().fit(TABLE, [1.0, 2.0, 3.0])
SIGNATURE = infer_signature(TABLE, MODEL.predict(TABLE))
# Only MLflow enforces columns that may be missing, so that pyfunc opens what has one.
SIGNATURE.inputs.inputs.append(ColSpec("string", "note", required=False))

pytestmark = pytest.mark.filterwarnings("ignore")


class Gadget:
    """Writes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return Path.write_text, (self.canary, "ran")


@pytest.fixture
def canary(tmp_path):
    """Return a file that gadgets write."""
    return tmp_path / "canary"


def opened(path, trust):
    """Open a directory of a registry as a server does."""
    return open_bundle(path, manifest_of(path, "m"), trust=Trust(trust), probe="off")


def refused(path, trust):
    """Open a directory and return why not."""
    with pytest.raises(BundleServerError) as refusal:
        opened(path, trust).close()
    return str(refusal.value)


def logged(path, form="skops", **settings):
    """Save a regression with a signature for which pyfunc opens it."""
    mlflow.sklearn.save_model(
        MODEL,
        str(path),
        serialization_format=form,
        pip_requirements=[],
        signature=SIGNATURE,
        **settings,
    )
    return path


def edited(path, edit):
    """Change the MLmodel of a directory."""
    file = path / "MLmodel"
    said = yaml.safe_load(file.read_text())
    edit(said["flavors"])
    file.write_text(yaml.safe_dump(said))
    return path


def through_pyfunc(flavours):
    """Leave a model to pyfunc only, as one of which the columns are MLflow's."""
    flavours["python_function"]["predict_fn"] = "predict_proba"


@pytest.mark.parametrize("trust", [CodeTrust(), LISTED, DENY], ids=["any", "listed", "deny"])
def test_a_skops_model_of_mlflow_answers_the_same_under_every_policy(tmp_path, trust):
    """A model without code opens everywhere, with its signature."""
    bundle = opened(logged(tmp_path / "m"), trust)

    rows = bundle.signature.validate_rows([{"a": 1.5, "b": 0.5}], "x")
    expected = MODEL.predict(pd.DataFrame({"a": [1.5], "b": [0.5]})).tolist()
    assert expected == bundle.predict(rows, {})["output-0"].tolist()
    bundle.close()


@pytest.mark.parametrize("trust", [LISTED, DENY], ids=["listed", "deny"])
def test_a_loader_of_any_module_is_not_imported(tmp_path, canary, monkeypatch, trust):
    """``loader_module`` names a module that MLflow would import; only listed loaders are."""
    (tmp_path / "gadget_loader.py").write_text(
        f"import pathlib\npathlib.Path({str(canary)!r}).write_text('ran')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = edited(
        logged(tmp_path / "m"), lambda f: f["python_function"].update(loader_module="gadget_loader")
    )

    assert "'gadget_loader'" in refused(path, trust)
    assert not canary.exists()
    assert "gadget_loader" not in sys.modules
    assert "--bundle_code=deny" in refused(path, NO_CODE)
    assert not canary.exists()


@pytest.mark.parametrize(
    "loader",
    [
        "mlflow.pyfunc.model",
        "mlflow.xgboost",
        "mlflow.pytorch",
        "mlflow.sklearn.utils",
        "mlflow.pyfunc.loaders.code_model",
        "bundleserver.mlflow_pyfunc",
        "mlflow",
        "",
        None,
    ],
)
def test_only_loaders_whose_files_are_opened_by_the_list_are_used(tmp_path, loader):
    """MLflow's other loaders unpickle by themselves."""
    path = edited(
        logged(tmp_path / "m"), lambda f: f["python_function"].update(loader_module=loader)
    )

    for trust in (LISTED, DENY):
        assert "--pickle_policy=any" in refused(path, trust)


@pytest.mark.parametrize("trust", [LISTED, DENY], ids=["listed", "deny"])
def test_a_pyfunc_class_by_value_needs_any(tmp_path, canary, trust):
    """Code that cloudpickle rebuilds is refused; the refusal says which policy it needs."""
    space = {}
    exec(  # noqa: S102  # a class without a module is what notebooks have
        "import mlflow.pyfunc\nclass Model(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input, params=None):\n        return model_input\n",
        space,
    )
    space["Model"].__module__ = "__main__"
    mlflow.pyfunc.save_model(
        str(tmp_path / "m"), python_model=space["Model"](), pip_requirements=[]
    )
    (tmp_path / "m" / "python_model.pkl").write_bytes(pickle.dumps(Gadget(canary)))

    assert "need --pickle_policy=any" in refused(tmp_path / "m", trust)
    assert not canary.exists()


@pytest.mark.parametrize("trust", [LISTED, DENY], ids=["listed", "deny"])
@pytest.mark.parametrize("form", ["pickle", "cloudpickle"])
@pytest.mark.parametrize("by_pyfunc", [False, True])
def test_a_pickle_of_mlflow_goes_through_the_list(tmp_path, canary, form, by_pyfunc, trust):
    """Whoever opens the file of a flavour, nothing in it runs."""
    path = logged(tmp_path / "m", form)
    if by_pyfunc:
        edited(path, through_pyfunc)
    (path / "model.pkl").write_bytes(pickle.dumps(Gadget(canary)))

    refused(path, trust)

    assert not canary.exists()


def test_a_pickle_of_mlflow_opens_by_the_list(tmp_path):
    """An honest pickle that only pyfunc opens answers under ``listed``."""
    path = edited(
        logged(tmp_path / "m", "cloudpickle"),
        lambda f: f["python_function"].update(code=None, predict_fn="predict"),
    )
    bundle = opened(path, LISTED)

    rows = bundle.signature.validate_rows([{"a": 1.5, "b": 0.5}], "x")
    assert 1 == len(bundle.predict(rows, {}))
    bundle.close()


@pytest.mark.parametrize("trust", [LISTED, DENY], ids=["listed", "deny"])
@pytest.mark.parametrize("method", ["get_raw_model", "__init__", "__class__", "fit"])
def test_a_model_answers_with_methods_that_predict(tmp_path, method, trust):
    """``predict_fn`` may name any attribute; only those that predict are called."""
    path = edited(logged(tmp_path / "m"), lambda f: f["python_function"].update(predict_fn=method))

    assert "answers with the method" in refused(path, trust)


@pytest.mark.parametrize("trust", [CodeTrust(), LISTED, DENY], ids=["any", "listed", "deny"])
@pytest.mark.parametrize(
    "edit",
    [
        {"model_path": "../model.skops"},
        {"model_path": "/etc/passwd"},
        {"data": "x/../../model.skops"},
        {"python_model": "..\\model.skops"},
        {"artifacts": {"x": {"path": "../x"}}},
    ],
)
def test_a_model_lies_in_its_own_directory(tmp_path, edit, trust):
    """A file that an MLmodel names elsewhere is refused under every policy."""
    path = edited(logged(tmp_path / "m"), lambda f: f["python_function"].update(edit))

    assert "not in its directory" in refused(path, trust)


def _call_system(schema, command):
    schema["content"]["content"]["evil"] = {
        "__class__": "system",
        "__module__": "os",
        "__loader__": "ConstructorFromReduceNode",
        "content": {
            "__class__": "tuple",
            "__module__": "builtins",
            "__loader__": "TupleNode",
            "content": [
                {
                    "__class__": "str",
                    "__module__": "builtins",
                    "__loader__": "JsonNode",
                    "content": json.dumps(command),
                }
            ],
        },
    }
    schema["content"]["key_types"]["content"].append(schema["content"]["key_types"]["content"][0])


def _with_loader(schema, loader):
    node = {"__class__": "x", "__module__": "operator", "__loader__": loader, "attrs": {}}
    schema["content"]["content"]["evil"] = node


@pytest.mark.parametrize("trust", [LISTED, DENY], ids=["listed", "deny"])
def test_a_model_cannot_say_what_skops_trusts(tmp_path, canary, trust):
    """MLflow lets the MLmodel list trusted types; only the operator's list counts."""
    path = edited(
        logged(tmp_path / "m"),
        lambda f: f["sklearn"].update(skops_trusted_types=["posix.system", "os.system"]),
    )
    skops_with(path / "model.skops", lambda schema: _call_system(schema, f"touch {canary}"))

    assert "os.system" in refused(path, trust)
    assert not canary.exists()
    opened(path, CodeTrust()).close()
    assert canary.exists()


@pytest.mark.parametrize("loader", ["MethodNode", "PartialNode", "OperatorFuncNode", "NewNode"])
def test_skops_makes_nothing_that_calls(tmp_path, loader):
    """Kinds of objects that call when they are made or used are refused by name."""
    path = logged(tmp_path / "m")
    skops_with(path / "model.skops", lambda schema: _with_loader(schema, loader))

    assert loader in refused(path, LISTED)


def test_skops_follows_no_rules_of_its_older_versions(tmp_path):
    """A file says by which version's rules it is checked; only today's are."""
    path = logged(tmp_path / "m")
    skops_with(path / "model.skops", lambda schema: schema.update(protocol=0))

    assert "written by another skops" in refused(path, DENY)


def test_an_operator_trusts_types_of_skops_by_name(tmp_path):
    """What skops does not trust by itself opens once the operator's list has it."""
    path = logged(tmp_path / "m")
    skops.io.dump(FunctionTransformer(np.median).fit(TABLE), path / "model.skops")
    (name,) = skops.io.get_untrusted_types(file=path / "model.skops")

    assert name in refused(path, LISTED)
    opened(path, CodeTrust(PicklePolicy.LISTED, frozenset({name}))).close()


class Doubled(LinearRegression):
    """A class of a module that is logged with the model."""


def with_code(tmp_path, source, pickled, name="own_code"):
    """Log a model with a module, and a pickle that names things in it."""
    (tmp_path / f"{name}.py").write_text(source)
    path = logged(tmp_path / "m", "cloudpickle", code_paths=[str(tmp_path / f"{name}.py")])
    (path / "model.pkl").write_bytes(pickled)
    (tmp_path / f"{name}.py").unlink()
    return path


def own_model(name="own_code.Doubled"):
    """Return a pickle of the regression as a class of the model's code."""
    data = pickle.dumps(MODEL, 0)
    module, _, own = name.rpartition(".")
    old = b"csklearn.linear_model._base\nLinearRegression\n"
    assert old in data
    return data.replace(old, f"c{module}\n{own}\n".encode())


OWN_CLASS = (
    "import os\nfrom sklearn.linear_model import LinearRegression\n"
    "class Doubled(LinearRegression):\n"
    "    def predict(self, X):\n        return 2 * super().predict(X)\n"
)


def test_code_of_a_model_runs_where_the_operator_lets_it(tmp_path):
    """Under ``listed`` a class that the model's own code defines opens, and no other of it."""
    path = with_code(tmp_path, OWN_CLASS, own_model())

    bundle = opened(path, LISTED)
    rows = bundle.signature.validate_rows([{"a": 1.5, "b": 0.5}], "x")
    expected = 2 * MODEL.predict(pd.DataFrame({"a": [1.5], "b": [0.5]}))
    assert expected.tolist() == bundle.predict(rows, {})["output-0"].tolist()
    bundle.close()
    assert "own_code" not in sys.modules


@pytest.mark.parametrize("trust", [DENY, NO_CODE], ids=["deny", "no code"])
def test_code_of_a_model_is_not_imported_where_it_may_not_run(tmp_path, canary, trust):
    """A model with code is refused before any of it is imported, and the path is left alone."""
    source = f"import pathlib\npathlib.Path({str(canary)!r}).write_text('ran')\n" + OWN_CLASS
    path = with_code(tmp_path, source, own_model())
    before = [*sys.path]

    assert "code" in refused(path, trust)
    assert not canary.exists()
    assert before == sys.path


@pytest.mark.parametrize("name", ["own_code.os", "own_code.LinearRegression", "own_code.absent"])
def test_what_code_of_a_model_imports_is_not_its_own(tmp_path, name):
    """A pickle reaches nothing through the model's modules but what these define."""
    path = with_code(tmp_path, OWN_CLASS, own_model(name))

    assert f"'{name}'" in refused(path, LISTED)


def test_code_of_a_model_does_not_run_for_a_file_that_is_refused(tmp_path, canary):
    """What is not listed is refused first."""
    source = f"import pathlib\npathlib.Path({str(canary)!r}).write_text('ran')\n" + OWN_CLASS
    path = with_code(tmp_path, source, pickle.dumps([own_model(), Gadget(canary)], 2) + own_model())

    refused(path, LISTED)

    assert not canary.exists()


@pytest.mark.parametrize("name", ["sklearn", "numpy", "os", "json", "yaml"])
def test_code_of_a_model_stands_for_no_installed_module(tmp_path, canary, name):
    """Listed names mean the installed modules; code with their names is refused."""
    source = f"import pathlib\npathlib.Path({str(canary)!r}).write_text('ran')\n"
    path = with_code(tmp_path, source, pickle.dumps(MODEL), name)

    assert f"'{name}'" in refused(path, LISTED)
    assert not canary.exists()


def test_a_model_that_is_code_is_refused_where_no_code_may_run(tmp_path, canary):
    """MLflow's models from code run a script of the model."""
    path = edited(
        logged(tmp_path / "m"),
        lambda f: f["python_function"].update(
            loader_module="mlflow.pyfunc.model", model_code_path="agent.py"
        ),
    )
    (path / "agent.py").write_text(f"open({str(canary)!r}, 'w')")

    assert "model_code_path" in refused(path, NO_CODE)
    assert "need --pickle_policy=any" in refused(path, LISTED)
    assert not canary.exists()


@pytest.mark.parametrize("country", ["list_supported_countries", "country_holidays", "helpers"])
def test_a_prophet_calls_no_other_name_of_holidays(country):
    """The country of a document is looked up in a package by its name; only countries are."""
    with pytest.raises(document.Unreasonable, match="is no country"):
        document._check_country(country)
    document._check_country("DE")


def gadget_store(directory, canary):
    """Write a model with two versions whose files run code when they are opened."""
    for label in ("v1", "v2"):
        version = directory / "m" / label
        version.mkdir(parents=True)
        joblib.dump(DummyRegressor().fit([[0.0]], [1.0]), version / "model.joblib")
        CliRunner().invoke(app, ["init", str(version)])
        (version / "model.joblib").write_bytes(
            pickle.dumps(DummyRegressor().fit([[0.0]], [1.0]), 2)[:-1]
            + pickle.dumps(Gadget(canary), 2)[2:-1]
            + b"0."
        )
        (version / "manifest.json").unlink()
        CliRunner().invoke(app, ["init", str(version)])
    (directory / "requests.json").write_text('{"instances": [[1.0]]}')
    return directory / "m"


COMMANDS = {
    "inspect": lambda model: ["inspect", model],
    "init": lambda model: ["init", model / "v1", "--force"],
    "compare --dry-run": lambda model: [
        "compare",
        model,
        "v1",
        "v2",
        "--input",
        model.parent / "requests.json",
        "--dry-run",
    ],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_looking_at_a_model_runs_nothing(tmp_path, canary, name):
    """Commands that only tell what there is open nothing, whatever is in the files."""
    model = gadget_store(tmp_path, canary)

    answer = CliRunner().invoke(app, [str(word) for word in COMMANDS[name](model)])

    assert 0 == answer.exit_code, answer.output
    assert not canary.exists()


OPENERS = {
    "validate": lambda model: ["validate", model],
    "predict": lambda model: ["predict", model, "--input", model.parent / "requests.json"],
    "compare": lambda model: [
        "compare",
        model,
        "v1",
        "v2",
        "--input",
        model.parent / "requests.json",
    ],
}


@pytest.mark.parametrize("name", OPENERS)
@pytest.mark.parametrize("policy", ["listed", "deny"])
def test_commands_that_open_models_ask_as_the_server_would(tmp_path, canary, name, policy):
    """With the server's flags for trust they refuse what it refuses, and run nothing."""
    model = gadget_store(tmp_path, canary)
    words = [*OPENERS[name](model), f"--pickle_policy={policy}"]

    answer = CliRunner().invoke(app, [str(word) for word in words])

    assert 1 == answer.exit_code
    assert f"--pickle_policy={policy}" in answer.output
    assert not canary.exists()


def test_validate_says_that_it_runs_code(tmp_path, canary):
    """Whoever validates is told that models are loaded, and which flags keep code from running."""
    model = gadget_store(tmp_path, canary)

    told = CliRunner().invoke(app, ["validate", str(model), "--json"])
    assert canary.exists()
    safe = ["validate", str(model), "--pickle_policy=listed", "--bundle_code=deny", "--json"]
    untold = CliRunner().invoke(app, safe)

    assert "which runs the code that they bring along" in told.stderr
    assert json.loads(told.stdout)["runs_code"] is True
    assert "runs the code that they bring" not in untold.stderr
    assert json.loads(untold.stdout)["runs_code"] is False


class ByValue:
    """What cloudpickle writes of a function is rebuilt by its own functions."""

    def __reduce__(self):
        return cloudpickle.cloudpickle.subimport, ("math",)


def test_save_warns_of_code_by_value(tmp_path, caplog):
    """What was pickled by value is saved, with a warning of the policy that it needs."""
    model = FunctionTransformer(kw_args={"x": ByValue()}).fit(TABLE)
    recording = Recording.plan("m", {"model": model}, {})

    with caplog.at_level("WARNING"):
        recording._write_component("model", tmp_path)

    assert "pickled by value" in caplog.text
    assert "--pickle_policy=any only" in caplog.text
