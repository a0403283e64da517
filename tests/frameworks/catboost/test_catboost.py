"""CatBoost models from files of their own and from pickles, and their answers to the bit."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import catboost
import joblib
import mlflow.catboost
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature

from bundleserver.errors import InvalidInput, LoadError, StoreError
from bundleserver.frameworks import LoadContext, facts_of_file, framework_for, framework_of_file
from bundleserver.frameworks.catboost import framework, trial
from bundleserver.frameworks.cbm import read_model
from bundleserver.frameworks.sklearn import framework as estimators
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy
from bundleserver.sources.registry.flavours import manifest_of
from bundleserver.tensors import NamedTensor
from bundleserver.tensors.call_traits import CallTraits
from tests.frameworks.catboost import models
from tests.frameworks.catboost.models import CITIES, FRAME, TALK, X, asked

LISTED, DENY = (
    LoadContext(trust=CodeTrust(pickles=policy))
    for policy in (PicklePolicy.LISTED, PicklePolicy.DENY)
)


@pytest.fixture(scope="module")
def numbers():
    """Fit the models of numbers once."""
    return models.of_numbers()


@pytest.fixture(scope="module")
def cities():
    """Fit a model with statistics of categories once."""
    return models.of_categories()


@pytest.fixture(scope="module")
def talk():
    """Fit a model of texts once."""
    return models.of_texts()


def table(values, columns=()):
    """Make the one tensor of a request."""
    return NamedTensor("input-0", values, columns)


def ask(predictor, method, *tensors):
    """Call a method that has one output."""
    (answer,) = predictor.call(method, tensors, {})
    return answer


def is_same(one, other):
    """Ask whether arrays are equal to the bit, in datatype and shape too."""
    if one.dtype.kind == "O":
        return one.tolist() == np.asarray(other).tolist()
    return (one.dtype, one.shape) == (other.dtype, other.shape) and one.tobytes() == other.tobytes()


@pytest.mark.parametrize("name", [*models.of_numbers()])
def test_a_saved_model_answers_as_the_library_does(numbers, name, tmp_path):
    """Every method of every kind of model has the library's answers to the bit."""
    model = numbers[name]
    path, options = framework.save(model, tmp_path, "model")
    predictor = framework.load(path, LoadContext(options=options))

    assert (".cbm", "model") == (path.suffix, path.stem)
    assert ("catboost", "model") == framework_of_file(path)
    for method in predictor.methods:
        for rows in (X, X[:1], X.astype(np.float32), np.where(X > 1, np.nan, X)):
            answer = ask(predictor, method, table(rows))
            assert is_same(answer, asked(model, method, rows)), method
        spec = predictor.methods[method].outputs[0]
        assert (-1, *answer.shape[1:]) == spec.shape


@pytest.mark.parametrize("name", ["binary", "three", "tweedie", "uncertain", "ranker", "base"])
@pytest.mark.parametrize("dump", ["cbm", "pickle", "joblib"])
def test_a_plain_dump_is_served_by_its_class(numbers, name, dump, tmp_path):
    """Files that the library, pickle and joblib write open without options."""
    model, path = numbers[name], tmp_path / f"model.{ {'pickle': 'pkl'}.get(dump, dump) }"
    if dump == "cbm":
        model.save_model(str(path))
    else:
        path.write_bytes(pickle.dumps(model)) if dump == "pickle" else joblib.dump(model, path)
    predictor = framework.load(path, LoadContext())
    # Nothing in a file tells the base class.
    expected = catboost.CatBoostClassifier() if (name, dump) == ("base", "cbm") else None
    library = expected.load_model(str(path)) if expected else model

    assert ("catboost", "model") == framework_of_file(path)
    for method in predictor.methods:
        assert is_same(ask(predictor, method, table(X)), asked(library, method, X))


def test_a_bundle_that_says_sklearn_still_opens(numbers, tmp_path):
    """Manifests of before CatBoost had a framework of its own say 'sklearn' of its pickles."""
    joblib.dump(numbers["binary"], tmp_path / "model.joblib")
    predictor = estimators.load(tmp_path / "model.joblib", LoadContext())

    assert is_same(ask(predictor, "predict", table(X)), asked(numbers["binary"], "predict", X))


def test_only_the_librarys_own_classes_are_recognised(numbers):
    """A class that extends one of them has code of its own and is pickled, as estimators are."""

    class Mine(catboost.CatBoostClassifier):
        pass

    assert "catboost" == framework_for(numbers["binary"])
    assert "catboost" == framework_for(numbers["base"])
    assert "sklearn" == framework_for(Mine())


def test_classes_have_the_methods_of_the_library(numbers, tmp_path):
    """Classifiers have probabilities; what is raw has the library's name."""
    found = {}
    for name in ("binary", "rmse", "ranker", "base"):
        path, options = framework.save(numbers[name], tmp_path, name)
        found[name] = [*framework.load(path, LoadContext(options=options)).methods]

    assert ["predict", "predict_proba", "predict_log_proba", "RawFormulaVal"] == found["binary"]
    assert ["predict", "RawFormulaVal"] == found["rmse"]
    assert ["predict"] == found["ranker"] == found["base"]


def test_columns_are_bound_by_name(numbers, tmp_path):
    """A request's columns may come in any order, as one tensor or as one each."""
    path, _ = framework.save(numbers["named"], tmp_path, "model")
    predictor = framework.load(path, LoadContext())
    names = (*FRAME.columns,)
    expected = asked(numbers["named"], "predict_proba", FRAME)

    assert names == predictor.methods["predict"].inputs[0].columns
    turned = table(X[:, ::-1], names[::-1])
    assert is_same(ask(predictor, "predict_proba", turned), expected)
    each = [NamedTensor(name, FRAME[name].to_numpy()) for name in names[::-1]]
    assert is_same(ask(predictor, "predict_proba", *each), expected)
    with pytest.raises(InvalidInput, match=r"missing column 'io'.*CatBoostClassifier expects"):
        ask(predictor, "predict", table(X[:, :2], names[:2]))


def test_categories_are_strings_or_integers(cities, tmp_path):
    """An integer is the same as its text, whatever tensor it comes in; all else is a 400."""
    path, _ = framework.save(cities, tmp_path, "model")
    predictor = framework.load(path, LoadContext())
    expected = asked(cities, "predict_proba", CITIES)
    spec = predictor.methods["predict"].inputs[0]

    assert ("FP64", "BYTES", "BYTES") == spec.column_datatypes
    assert is_same(ask(predictor, "predict_proba", table(CITIES.to_numpy(dtype=object))), expected)
    for kind in (np.int64, np.float64, str, object):
        values = CITIES["floor"].to_numpy().astype(kind)
        each = [NamedTensor(n, CITIES[n].to_numpy()) for n in ("size", "city")]
        answer = ask(predictor, "predict_proba", *each, NamedTensor("floor", values))
        assert is_same(answer, expected)
    for bad, said in ((1.5, "the number 1.5"), (None, "null"), (np.nan, "null")):
        row = np.array([[0.1, "Bern", bad]], dtype=object)
        with pytest.raises(InvalidInput, match=f"column 'floor' has {said}; .*strings or integers"):
            ask(predictor, "predict", table(row))


def test_a_model_of_integer_categories_takes_rows_of_numbers(tmp_path):
    """Rows of JSON without a string are one array of floats."""
    data = np.column_stack([CITIES["size"].round(3), CITIES["floor"]]).astype(object)
    data[:, 1] = CITIES["floor"].tolist()
    model = models.classifier(cat_features=[1]).fit(data, models.BOTH)
    path, _ = framework.save(model, tmp_path, "model")
    predictor = framework.load(path, LoadContext())

    answer = ask(predictor, "predict_proba", table(data.astype(np.float64)))
    assert is_same(answer, asked(model, "predict_proba", data))


@pytest.mark.parametrize("kind", [bool, object, "category"])
def test_true_and_false_are_the_categories_of_training(kind, tmp_path):
    """Booleans of a column of categories are 1 and 0, in whatever column they were and come."""
    flags = pd.DataFrame({"flag": pd.Series(X[:, 0] > 0).astype(kind), "cpu": X[:, 1]})
    model = catboost.CatBoostRegressor(
        iterations=5, verbose=0, allow_writing_files=False, cat_features=["flag"]
    ).fit(flags, X[:, 0])
    path, _ = framework.save(model, tmp_path, "model")
    predictor = framework.load(path, LoadContext())
    expected = model.predict(pd.DataFrame({"flag": [True, False], "cpu": [0.0, 0.0]}))
    numbers = NamedTensor("cpu", np.zeros(2))

    for came in (np.array([True, False]), np.array([True, False], object)):
        assert is_same(ask(predictor, "predict", NamedTensor("flag", came), numbers), expected)


def test_texts_are_strings(talk, tmp_path):
    """A model of texts answers as the library does, and refuses what is no text."""
    path, _ = framework.save(talk, tmp_path, "model")
    predictor = framework.load(path, LoadContext())
    rows = TALK.to_numpy(dtype=object)

    answer = ask(predictor, "predict_proba", table(rows, (*TALK.columns,)))
    assert is_same(answer, asked(talk, "predict_proba", TALK))
    with pytest.raises(InvalidInput, match=r"column 'said' has null; .* expects strings"):
        ask(predictor, "predict", table(np.array([[0.1, None]], dtype=object)))


def test_a_table_without_rows_has_an_answer_without_rows(numbers, tmp_path):
    """The answer has the shape and the datatype of any other."""
    path, _ = framework.save(numbers["three"], tmp_path, "model")
    predictor = framework.load(path, LoadContext())

    assert (0, 3) == ask(predictor, "predict_proba", table(X[:0])).shape
    assert (0,) == ask(predictor, "predict", table(X[:0])).shape


def test_a_dropped_column_keeps_its_place(tmp_path):
    """Columns that the model does not know may be missing, and have no effect."""
    frame = FRAME.assign(constant=1.0)[["constant", *FRAME.columns]]
    model = models.classifier().fit(frame, models.BOTH)
    model.drop_unused_features()
    path, _ = framework.save(model, tmp_path, "model")
    predictor = framework.load(path, LoadContext())
    expected = asked(model, "predict_proba", frame.to_numpy())

    assert is_same(ask(predictor, "predict_proba", table(frame.to_numpy())), expected)
    named = table(X, (*FRAME.columns,))
    assert is_same(ask(predictor, "predict_proba", named), expected)


def test_metadata_and_samples_know_the_model(cities, numbers, tmp_path):
    """Metadata have class, trees and labels; samples are tables that the model takes."""
    path, _ = framework.save(cities, tmp_path, "cities")
    predictor = framework.load(path, LoadContext())
    three = framework.load(framework.save(numbers["three"], tmp_path, "three")[0], LoadContext())

    assert {"class": "CatBoostClassifier", "trees": 8, "classes": [0, 1]} == predictor.metadata
    assert ["fine", "fraud", "unsure"] == three.metadata["classes"]
    for rows in (1, 7):
        for sample in predictor.samples("predict", rows):
            assert rows == len(ask(predictor, "predict", *sample))
    assert CallTraits(predictable=True, batchable=True) == three.call_traits("predict_proba")


def test_facts_tell_the_width(numbers, cities, tmp_path):
    """A scaler before a model is known to fit by their widths, from the files alone."""
    for name, model in (("numbers", numbers["rmse"]), ("cities", cities)):
        framework.save(model, tmp_path, name)

    facts = facts_of_file(tmp_path / "numbers.cbm", "catboost", "model")
    assert ("a CatBoostRegressor", "model", 4) == (facts.what, facts.role, facts.takes)
    assert 3 == facts_of_file(tmp_path / "cities.cbm", "catboost", "model").takes


def test_a_logged_model_is_opened_as_the_library_does(numbers, cities, tmp_path):
    """MLflow's flavour opens here unless MLflow enforces columns of text, or the class is lost."""
    logged = {"named": (numbers["named"], FRAME), "cities": (cities, CITIES)}
    logged |= {"rmse": (numbers["rmse"], None), "base": (numbers["base"], None)}
    components = {}
    for name, (model, data) in logged.items():
        signature = None if data is None else infer_signature(data, model.predict(data))
        mlflow.catboost.save_model(model, str(tmp_path / name), signature=signature)
        (components[name],) = manifest_of(tmp_path / name, name).components.values()
    named = components["named"]
    predictor = framework.load(
        tmp_path / "named" / str(named.path), LoadContext(options=named.options)
    )

    frameworks = {name: component.framework for name, component in components.items()}
    assert frameworks == {
        "named": "catboost", "cities": "pyfunc", "rmse": "catboost", "base": "pyfunc"
    }  # fmt: skip
    expected = asked(numbers["named"], "predict_proba", FRAME)
    answer = ask(predictor, "predict_proba", table(X[:, ::-1], (*FRAME.columns[::-1],)))
    assert is_same(answer, expected)


def test_the_servers_limit_of_threads_holds(numbers, monkeypatch):
    """Long calls take as many threads as the server lets libraries have, short ones take one."""
    from bundleserver.frameworks.catboost import predictor

    monkeypatch.setenv("OMP_NUM_THREADS", "3")

    assert [1, 1, 2, 3, 3] == [predictor._threads(n) for n in (1, 2_000, 2_048, 3_072, 10**6)]


def test_the_library_is_imported_lean(tmp_path):
    """Nothing that draws pictures comes with it, and declaring the framework imports nothing."""
    code = (
        "import sys; from bundleserver.frameworks import framework_named\n"
        "row = framework_named('catboost'); assert 'catboost' not in sys.modules\n"
        "row.imported(); print([m for m in ('matplotlib', 'plotly', 'IPython', 'sklearn')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "[]" == done.stdout.strip()


BROKEN = {
    "empty": (lambda data: b"", "does not begin with 'CBM1'"),
    "text": (lambda data: b"oops\n" * 9, "does not begin with 'CBM1'"),
    "cut": (lambda data: data[:900], "is cut: it says .* bytes and has 892 of them"),
    "longer": (lambda data: data + b"more", "has 4 bytes after its end"),
    "no trees": (lambda data: b"CBM1\0\0\0\0", "a reference leads out of the file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_with_its_reason(numbers, name, tmp_path):
    """The reason names the file, what is wrong and what to do."""
    path, _ = framework.save(numbers["binary"], tmp_path, "model")
    change, said = BROKEN[name]
    path.write_bytes(change(path.read_bytes()))

    with pytest.raises(LoadError, match=f"model.cbm' is not a valid CatBoost model: {said}; save"):
        framework.load(path, LoadContext())


def test_what_cannot_be_served_is_refused_with_its_reason(numbers, tmp_path):
    """Embeddings, objects of other libraries, unknown options and models that are not fitted."""
    path, _ = framework.save(numbers["rmse"], tmp_path, "model")

    with pytest.raises(LoadError, match=r"options\.class is 'XGB'; expected one of 'CatBoost'"):
        framework.load(path, LoadContext(options={"class": "XGB"}))
    with pytest.raises(LoadError, match=r"options.klass is not a known option"):
        framework.load(path, LoadContext(options={"klass": "CatBoost"}))
    with pytest.raises(LoadError, match=r"cannot answer 'predict.*options.class"):
        framework.load(path, LoadContext(options={"class": "CatBoostClassifier"}))
    with pytest.raises(StoreError, match="'model' is a CatBoostRegressor that is not fitted"):
        framework.save(catboost.CatBoostRegressor(), tmp_path, "model")
    with pytest.raises(StoreError, match="'model' is a dict; expected a CatBoost model"):
        framework.save({}, tmp_path, "model")
    wide = models.FRAME.assign(e=[*X[:, :3]])[["cpu", "e"]]
    model = models.classifier(embedding_features=["e"]).fit(wide, models.BOTH)
    embedded, _ = framework.save(model, tmp_path, "embedded")
    with pytest.raises(LoadError, match=r"takes embeddings, .* a column for each"):
        framework.load(embedded, LoadContext())


def test_only_what_was_checked_opens_without_trust(numbers, cities, talk, tmp_path):
    """Trees and one-hot categories are checked; statistics and dictionaries need the flag."""
    one_hot = models.of_categories(one_hot_max_size=9)
    for name, model in (("three", numbers["three"]), ("by-leaf", numbers["by-leaf"])):
        path, _ = framework.save(model, tmp_path, name)
        for context in (LISTED, DENY):
            answer = ask(framework.load(path, context), "predict_proba", table(X))
            assert is_same(answer, asked(model, "predict_proba", X))
    path, _ = framework.save(one_hot, tmp_path, "one-hot")
    assert framework.load(path, DENY)
    for model, said in ((cities, "statistics of categories"), (talk, "dictionaries of texts")):
        path, _ = framework.save(model, tmp_path, "model")
        for context, value in ((LISTED, "listed"), (DENY, "deny")):
            with pytest.raises(LoadError, match=f"has {said}, .*--pickle_policy={value} does not"):
                framework.load(path, context)


def test_what_ends_the_library_ends_another_process_first(cities, tmp_path):
    """A file whose statistics are damaged is refused, whatever becomes of who reads it."""
    path, _ = framework.save(cities, tmp_path, "model")
    data = path.read_bytes()
    size = int.from_bytes(data[4:8], "little") + 8
    path.write_bytes(data[:size] + b"\xff" * (len(data) - size))

    with pytest.raises(LoadError, match=r"model.cbm' (is refused by CatBoost|ended the process)"):
        framework.load(path, LoadContext())


def test_a_trial_is_bounded_in_time(cities, tmp_path):
    """A file that keeps the other process is refused."""
    path, _ = framework.save(cities, tmp_path, "model")
    data = path.read_bytes()

    with pytest.raises(LoadError, match=r"was not opened in 0.001 seconds"):
        trial.try_first(data, read_model(data), Path("model.cbm"), 0.001)
