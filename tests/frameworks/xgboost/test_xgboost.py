"""XGBoost's own models are saved, found and opened, and answer as XGBoost does, to the bit."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import joblib
import numpy as np
import pytest
import xgboost
from sklearn.ensemble import VotingRegressor
from sklearn.preprocessing import StandardScaler

from bundleserver.bundle.inferring import ignored_files, infer_manifest
from bundleserver.bundle.opening import open_bundle
from bundleserver.errors import InvalidInput, StoreError
from bundleserver.frameworks import (
    LoadContext,
    facts_of_file,
    framework_for,
    framework_named,
    framework_of_file,
)
from bundleserver.frameworks.sklearn import framework as estimators
from bundleserver.frameworks.sklearn.framework import SklearnPredictor
from bundleserver.store import BundleStore
from bundleserver.tensors import NamedTensor
from bundleserver.tensors.call_traits import CallTraits
from tests.frameworks.xgboost.trained import (
    BOOSTERS,
    CLASSES,
    CODES,
    FRAME,
    GROUPS,
    INSTALLED,
    NAMES,
    NUMBERS,
    THREE,
    X,
    asked,
    categories,
    of_recorded_categories,
    train,
)

NEW = np.vstack([np.random.default_rng(1).normal(size=(40, 4)), np.full((1, 4), np.nan), CODES])


def opened(booster, directory, suffix=".ubj", **options):
    """Write a booster as XGBoost does, and open the file."""
    path = directory / f"model{suffix}"
    booster.save_model(path)
    return framework_named("xgboost").load(path, LoadContext(options))


def answer(predictor, method, rows, *columns):
    """Return the one output of a call."""
    (output,) = predictor.call(method, (NamedTensor("input-0", rows, *columns),), {})
    return output


def served(directory, rows):
    """Open a directory as a server does, and ask it."""
    with closing(open_bundle(directory)) as bundle:
        return [*bundle.predict({"input-0": NamedTensor("input-0", rows)}, {}).values()]


def same(expected, output):
    """Compare two arrays in datatype, shape and bits."""
    expected = np.asarray(expected)
    facts = (expected.dtype, expected.shape, expected.tobytes())
    return facts == (output.dtype, output.shape, output.tobytes())


@pytest.mark.parametrize("name", BOOSTERS)
@pytest.mark.parametrize("suffix", [".ubj", ".json"])
def test_answers_have_the_bits_of_the_library(tmp_path, name, suffix):
    """Whatever the booster, the objective and the file's format, predictions and margins agree."""
    booster = BOOSTERS[name]()
    predictor = opened(booster, tmp_path, suffix)

    assert same(asked(booster, NEW), answer(predictor, "predict", NEW))
    assert same(asked(booster, NEW, margin=True), answer(predictor, "output_margin", NEW))


@pytest.mark.parametrize("name", ["logistic", "forest", "softprob", "linear classes", "labels"])
def test_probabilities_are_of_each_class(tmp_path, name):
    """Where the objective gives probabilities, there is one for each class and row."""
    booster = BOOSTERS[name]()
    values = asked(booster, NEW)
    wanted = values if values.ndim == 2 else np.column_stack([1 - values, values])

    assert same(wanted, answer(opened(booster, tmp_path), "predict_proba", NEW))


@pytest.mark.parametrize("name", ["numbers", "softmax", "margins", "hinge", "counts"])
def test_no_probabilities_are_made_up(tmp_path, name):
    """Other objectives have no such method."""
    assert ["predict", "output_margin"] == [*opened(BOOSTERS[name](), tmp_path).methods]


ESTIMATORS = {
    "classes": lambda: xgboost.XGBClassifier(n_estimators=3).fit(X, CLASSES),
    "three": lambda: xgboost.XGBClassifier(n_estimators=3).fit(X, THREE),
    "labels": lambda: xgboost.XGBClassifier(n_estimators=3).fit(
        X, np.column_stack([CLASSES, 1 - CLASSES])
    ),
    "linear": lambda: xgboost.XGBClassifier(n_estimators=3, booster="gblinear").fit(X, CLASSES),
    "forest": lambda: xgboost.XGBRFClassifier(n_estimators=3).fit(X, CLASSES),
    "stopped": lambda: xgboost.XGBRegressor(n_estimators=30, early_stopping_rounds=2).fit(
        X, NUMBERS, eval_set=[(X, NUMBERS[::-1])], verbose=False
    ),
    "ranker": lambda: xgboost.XGBRanker(n_estimators=3).fit(X, CLASSES, qid=GROUPS),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_file_of_an_estimator_answers_as_the_estimator(tmp_path, name):
    """What XGBClassifier saved gives labels, and what stopped early its best trees."""
    estimator = ESTIMATORS[name]()
    predictor = opened(estimator, tmp_path, ".json")

    assert same(estimator.predict(NEW), answer(predictor, "predict", NEW))
    margins = estimator.predict(NEW, output_margin=True)
    assert same(margins, answer(predictor, "output_margin", NEW))
    if "predict_proba" in predictor.methods:
        assert same(estimator.predict_proba(NEW), answer(predictor, "predict_proba", NEW))


@of_recorded_categories
def test_categories_come_as_their_values(tmp_path):
    """A column of categories takes what it had in training, and null; nothing else."""
    booster = categories()
    predictor = opened(booster, tmp_path)
    rows = FRAME.astype(object).to_numpy()
    rows[3, 1] = rows[4, 2] = rows[5, 0] = None
    frame = FRAME.copy()
    frame.loc[3, "region"], frame.loc[4, "rack"], frame.loc[5, "load"] = (None,) * 3
    columns = [NamedTensor(name, rows[:, i]) for i, name in enumerate(FRAME)]

    assert ("FP64", "BYTES", "INT64") == predictor.methods["predict"].inputs[0].column_datatypes
    assert same(asked(booster, frame), answer(predictor, "predict", rows))
    assert same(asked(booster, frame), predictor.call("predict", columns[::-1], {})[0])
    rows[6, 1] = "west"
    with pytest.raises(InvalidInput, match=r"'region' has the category 'west', .* 'east coast'"):
        answer(predictor, "predict", rows)


@of_recorded_categories
def test_categories_beyond_ascii_come_as_their_places(tmp_path, caplog):
    """XGBoost cuts them as it records them, which is said; nobody guesses what they were."""
    frame = FRAME.assign(region=FRAME["region"].cat.rename_categories({"south": "süd"}))
    booster = categories(frame)
    predictor = opened(booster, tmp_path)
    rows = frame.assign(region=frame["region"].cat.codes).astype(float).to_numpy()

    assert same(asked(booster, frame), answer(predictor, "predict", rows))
    assert "categories of column 'region' incompletely" in caplog.text
    columns = [NamedTensor(name, frame[name].astype(object).to_numpy()) for name in frame]
    with pytest.raises(InvalidInput, match=r"'region' has the string .*places of the column's cat"):
        predictor.call("predict", columns, {})


@of_recorded_categories
def test_an_estimator_of_categories_beyond_ascii_is_refused(tmp_path):
    """XGBoost itself does not find them again in a table of other rows."""
    frame = FRAME.assign(region=FRAME["region"].cat.rename_categories({"south": "süd"}))
    model = xgboost.XGBRegressor(n_estimators=3, enable_categorical=True).fit(frame, NUMBERS)

    for saved in (model, VotingRegressor([("one", model)])):
        if saved is not model:
            saved.fit(frame, NUMBERS)
        with pytest.raises(StoreError, match=r"column 'region', which have letters beyond ASCII"):
            estimators.save(saved, tmp_path, "model")


@of_recorded_categories
def test_odd_categories_are_shown_as_they_came(tmp_path):
    """As JSON has them, for a booster and for an estimator; true is the number 1."""
    columns = [NamedTensor(name, FRAME[name].astype(object).to_numpy()[:1]) for name in FRAME]
    odd = [*columns[:2], NamedTensor("rack", np.array([7.5]))]
    with pytest.raises(InvalidInput, match=r"column 'rack' has the category 7\.5, which"):
        opened(categories(), tmp_path).call("predict", odd, {})
    model = xgboost.XGBRegressor(n_estimators=3, enable_categorical=True).fit(FRAME, NUMBERS)
    path, _ = estimators.save(model, tmp_path, "model")
    predictor = estimators.load(path, LoadContext())
    odd = [columns[0], NamedTensor("region", np.array(["west"], object)), columns[2]]
    with pytest.raises(InvalidInput, match="rejects the input: Found a category not in the train"):
        predictor.call("predict", odd, {})
    answers = [
        predictor.call("predict", [*columns[:2], NamedTensor("rack", np.array([value]))], {})[0]
        for value in (True, 1)
    ]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("categories", [{}, {"of_feature_types": ["q", "q", "q", "c"]}])
def test_strings_are_no_numbers(tmp_path, categories):
    """A string for a column of numbers, or of the places of categories, is the caller's mistake."""
    given = {"of_feature_names": NAMES, "rows": CODES, "of_enable_categorical": True, **categories}
    predictor = opened(train(NUMBERS, tree_method="hist", **given), tmp_path)
    columns = [NamedTensor(name, np.array([0.5])) for name in NAMES]

    for place in range(4):
        wrong = NamedTensor(NAMES[place], np.array(["x"], object))
        with pytest.raises(InvalidInput, match=rf"'{NAMES[place]}' has the string 'x'; .*numbers"):
            predictor.call("predict", [*columns[:place], wrong, *columns[place + 1 :]], {})


def test_columns_have_the_names_of_training(tmp_path):
    """Names with spaces, commas and letters of any alphabet bind columns in any order."""
    booster = BOOSTERS["named"]()
    predictor = opened(booster, tmp_path)
    wanted, order = asked(booster, NEW), [2, 0, 3, 1]
    names = tuple(NAMES[i] for i in order)

    assert tuple(NAMES) == predictor.methods["predict"].inputs[0].columns
    assert same(wanted, answer(predictor, "predict", NEW))
    assert same(wanted, answer(predictor, "predict", NEW[:, order], names))
    columns = [NamedTensor(NAMES[i], NEW[:, i]) for i in order]
    assert same(wanted, predictor.call("predict", columns, {})[0])
    with pytest.raises(InvalidInput, match="missing column 'ö'"):
        answer(predictor, "predict", NEW[:, :3], tuple(NAMES[:3]))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.int8, bool, object])
def test_any_numbers_are_taken(tmp_path, dtype):
    """Every datatype of numbers has the answers of the library; null is missing."""
    booster = BOOSTERS["numbers"]()
    rows = (np.nan_to_num(NEW) * 3).astype(dtype)
    wanted = rows.copy()
    if dtype is object:
        rows[2, 1], wanted[2, 1] = None, np.nan
        wanted = wanted.astype(float)

    assert same(asked(booster, wanted), answer(opened(booster, tmp_path), "predict", rows))


@pytest.mark.parametrize("wrong", [np.inf, 1e300])
@pytest.mark.parametrize("name", ["numbers", "linear"])
def test_an_infinite_number_is_the_callers_mistake(tmp_path, name, wrong):
    """XGBoost refuses what 32 bits do not hold, and so does every way of asking it."""
    with pytest.raises(InvalidInput, match="has an infinite number"):
        answer(opened(BOOSTERS[name](), tmp_path), "predict", np.full((2, 4), wrong))


@pytest.mark.parametrize(("rows", "said"), [((2, 3), r"\[2, 3\]"), ((4,), r"\[4\]")])
def test_another_width_is_refused(tmp_path, rows, said):
    """A table that is not as wide as the one of training is a mistake of the caller's."""
    with pytest.raises(InvalidInput, match=f"has shape {said}; Booster expects"):
        answer(opened(BOOSTERS["numbers"](), tmp_path), "predict", np.zeros(rows))


def test_a_table_without_rows_has_no_answers(tmp_path):
    """It has the shape and the datatype of others."""
    predictor = opened(BOOSTERS["softprob"](), tmp_path)

    assert same(np.empty((0, 3), np.float32), answer(predictor, "predict", np.empty((0, 4))))


@pytest.mark.parametrize("name", ["named", "vectors", "linear"])
def test_a_saved_booster_answers_the_same(tmp_path, name):
    """Saving into a store and opening the version changes no bit."""
    booster = BOOSTERS[name]()
    store = BundleStore(tmp_path)
    store.save("m", {"model": booster})
    (made,) = served(store.path("m", "v1"), NEW)

    assert (store.path("m", "v1") / "model.ubj").is_file()
    assert same(asked(booster, NEW), made)


def test_an_object_is_xgboosts_only_without_the_api_of_scikit_learn():
    """Estimators stay with scikit-learn's framework."""
    assert "xgboost" == framework_for(BOOSTERS["numbers"]())
    assert "sklearn" == framework_for(xgboost.XGBRegressor())


def test_what_was_not_trained_is_not_saved(tmp_path):
    """A booster without trees, and whatever is none, is refused by name."""
    save = framework_named("xgboost").save
    with pytest.raises(StoreError, match=r"component 'm' cannot be saved: "):
        save(xgboost.Booster(), tmp_path, "m")
    with pytest.raises(
        StoreError, match=r"'m' is a builtins\.dict; the framework 'xgboost' saves a"
    ):
        save({}, tmp_path, "m")


@pytest.mark.parametrize("suffix", [".ubj", ".json", ".bst"])
def test_a_bare_file_is_found_with_its_width(tmp_path, suffix):
    """The content decides whose a file is, and says how wide it is, at its end."""
    path = tmp_path / f"model{suffix}"
    path.write_bytes(bytes(BOOSTERS["softprob"]().save_raw("json" if suffix != ".ubj" else "ubj")))

    assert ("xgboost", "model") == framework_of_file(path)
    assert 4 == facts_of_file(path, "xgboost", "model").takes
    assert "xgboost" == infer_manifest(tmp_path, "m").components["model"].framework


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", b'{"auc": 0.9, "learner": 3}'),
        ("list.json", b"[1, 2]"),
        ("model.bst", b"tree\nversion=v4\n"),
    ],
)
def test_other_content_is_not_xgboosts(tmp_path, name, content):
    """JSON may be anything, and .bst LightGBM's."""
    (tmp_path / name).write_bytes(content)

    assert framework_of_file(tmp_path / name) in (None, ("lightgbm", "model"))


def test_plain_json_beside_a_model_is_ignored_and_listed(tmp_path):
    """What no framework opens is told, whatever its suffix."""
    BOOSTERS["numbers"]().save_model(tmp_path / "model.json")
    (tmp_path / "metrics.json").write_text(json.dumps({"auc": 0.9}))

    assert {"metrics.json": "plain data"} == ignored_files(tmp_path)


def test_a_scaler_and_a_booster_are_a_chain(tmp_path):
    """Files of two libraries are one model, with the answers of both in process."""
    scaler = StandardScaler().fit(X)
    booster = train(NUMBERS, rows=scaler.transform(X))
    joblib.dump(scaler, tmp_path / "scaler.pkl")
    booster.save_model(tmp_path / "model.ubj")
    (made,) = served(tmp_path, NEW)

    assert same(asked(booster, scaler.transform(NEW)), made)


def test_trees_are_predictable_and_batchable_and_sums_are_not(tmp_path):
    """Rows of trees are independent; what multiplies matrices promises nothing."""
    assert CallTraits(True, True) == opened(BOOSTERS["forest"](), tmp_path).call_traits("predict")
    assert CallTraits() == opened(BOOSTERS["linear"](), tmp_path).call_traits("predict")


@of_recorded_categories
def test_a_table_of_categories_is_not_run_inline(tmp_path):
    """It becomes a DataFrame first."""
    assert CallTraits(False, True) == opened(categories(), tmp_path).call_traits("predict")


def test_samples_are_taken(tmp_path):
    """The probe's tables are of the model's width, names and categories."""
    for booster in (BOOSTERS["named"](), categories()):
        predictor = opened(booster, tmp_path)
        for sample in predictor.samples("predict", 5):
            assert 5 == len(predictor.call("predict", sample, {})[0])


@pytest.mark.parametrize("name", ["softprob", "dart", "linear"])
def test_any_thread_may_ask(tmp_path, name):
    """Answers of calls side by side have the bits of calls alone."""
    booster = BOOSTERS[name]()
    predictor, wanted = opened(booster, tmp_path), asked(booster, NEW)
    with ThreadPoolExecutor(8) as pool:
        answers = [*pool.map(lambda _: answer(predictor, "predict", NEW), range(40))]

    assert all(same(wanted, found) for found in answers)


_THREADS = """
import os, sys, numpy as np
from pathlib import Path
from bundleserver.frameworks import LoadContext, framework_named
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy
from bundleserver.tensors import NamedTensor
trust = CodeTrust(pickles=PicklePolicy.ANY)
predictor = framework_named("xgboost").load(Path(sys.argv[1]), LoadContext(trust=trust))
before = len(os.listdir("/proc/self/task"))
rows = np.zeros((5000, 4))
predictor.call("predict", (NamedTensor("input-0", rows),), {})
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_a_call_uses_the_threads_of_the_container(tmp_path):
    """OpenMP's limit holds, whatever number of threads the model was trained with."""
    path = tmp_path / "model.pkl"
    booster = BOOSTERS["numbers"]()
    booster.set_param({"nthread": 7})
    path.write_bytes(pickle.dumps(booster))
    command = [sys.executable, "-c", _THREADS, str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    assert "0" == done.stdout.strip()


def test_a_registered_models_columns_are_enforced(tmp_path):
    """An MLflow signature names the columns of a booster that was trained without names."""
    predictor = opened(
        BOOSTERS["numbers"](), tmp_path, columns=dict.fromkeys("abcd", "FP64") | {"c": "INT64"}
    )

    assert ("a", "b", "c", "d") == predictor.methods["predict"].inputs[0].columns
    with pytest.raises(InvalidInput, match=r"column 'c' has the value 0\.5"):
        answer(predictor, "predict", np.full((1, 4), 0.5))


def test_an_estimator_in_a_pickle_stays_with_sklearn(tmp_path):
    """Pickles of XGBoost's scikit-learn API have all that the estimator knows."""
    path = tmp_path / "model.pkl"
    joblib.dump(ESTIMATORS["classes"](), path)

    assert ("sklearn", "model") == framework_of_file(path)
    assert isinstance(framework_named("sklearn").load(path, LoadContext()), SklearnPredictor)


@pytest.mark.skipif(INSTALLED < (3, 1, 0), reason="XGBoost imports pandas to ask what a table is")
def test_nothing_of_xgboost_is_imported_to_tell_whose_a_file_is(tmp_path):
    """A directory is looked at without the library, and opened without pandas."""
    BOOSTERS["numbers"]().save_model(tmp_path / "model.ubj")
    code = (
        "import sys; from pathlib import Path\n"
        "from bundleserver.frameworks import *\n"
        "path = Path(sys.argv[1]); found = framework_of_file(path)\n"
        "facts_of_file(path, *found); assert 'xgboost' not in sys.modules\n"
        "framework_named('xgboost').load(path, LoadContext()); assert 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "model.ubj")], check=True)
