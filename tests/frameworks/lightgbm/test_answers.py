"""What is served of a booster is what the library answers in process, to the bit."""

from __future__ import annotations

import functools
import pickle
from contextlib import closing

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from bundleserver import BundleStore
from bundleserver.bundle.opening import open_bundle
from bundleserver.errors import InvalidInput, StoreError
from bundleserver.frameworks import LoadContext, framework_of_file
from bundleserver.frameworks.lightgbm import framework
from bundleserver.frameworks.sklearn import framework as estimators
from bundleserver.tensors import NamedTensor
from tests.frameworks.lightgbm.trained import KINDS, OF_CATEGORIES, ROWS, TABLE, TARGET, X, train

PROBABILITIES = {"binary", "multiclass", "one versus all", "forest", "classes of categories"}


@pytest.fixture(scope="module")
def trained():
    """Train each kind once."""
    return functools.cache(lambda kind: KINDS[kind]())


def opened(booster, directory):
    """Save a booster as a notebook does and open its file as the server does."""
    path, options = framework.save(booster, directory, "model")
    return framework.load(path, LoadContext(options=options))


def tensors(rows):
    """Make a request of a table: one tensor of numbers, or a column each."""
    if isinstance(rows, np.ndarray):
        return [NamedTensor("x", rows)]
    return [NamedTensor(name, _values(column), (name,)) for name, column in rows.items()]


def _values(column):
    if column.dtype.kind in "biuf":
        return column.to_numpy()
    return np.array([None if pd.isna(v) else v for v in column], dtype=object)


def ask(predictor, rows, method="predict"):
    """Call one method."""
    [answer] = predictor.call(method, tensors(rows), {})
    return answer


@pytest.mark.parametrize("kind", KINDS)
def test_answers_equal_the_librarys_to_the_bit(kind, trained, tmp_path):
    """Each kind of booster, by each way in which it is stored."""
    booster, rows = trained(kind)
    expected = booster.predict(rows)
    raw = booster.predict(rows, raw_score=True)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(booster))
    booster.save_model(tmp_path / "bare.bst")

    for predictor in (
        opened(booster, tmp_path),
        framework.load(tmp_path / "model.pkl", LoadContext()),
        framework.load(tmp_path / "bare.bst", LoadContext()),
    ):
        answer = ask(predictor, rows)
        assert answer.tobytes() == expected.tobytes()
        assert answer.shape == expected.shape
        assert ask(predictor, rows, "raw_score").tobytes() == raw.tobytes()
        spec = predictor.methods["predict"].outputs[0]
        assert ("FP64", (-1, *expected.shape[1:])) == (spec.datatype, spec.shape)
        one = rows[:1] if isinstance(rows, np.ndarray) else rows.iloc[:1]
        assert ask(predictor, one).tobytes() == booster.predict(one).tobytes()
        assert (kind in PROBABILITIES) == ("predict_proba" in predictor.methods)


@pytest.mark.parametrize("kind", sorted(PROBABILITIES))
def test_probabilities_have_a_column_for_each_class(kind, trained, tmp_path):
    """Two classes too, as LGBMClassifier gives them."""
    booster, rows = trained(kind)
    given = booster.predict(rows)
    expected = given if given.ndim > 1 else np.vstack((1.0 - given, given)).transpose()

    answer = ask(opened(booster, tmp_path), rows, "predict_proba")

    assert np.ascontiguousarray(expected).tobytes() == answer.tobytes()
    assert expected.shape == answer.shape


@pytest.mark.parametrize("kind", ["regression", "categories", "linear", "multiclass"])
def test_a_bundle_of_a_booster_answers_alike(kind, trained, tmp_path):
    """Saved by the store, and a bare directory: read, probed and called as the server does."""
    booster, rows = trained(kind)
    store = BundleStore(tmp_path / "store")
    store.save("saved", {"model": booster})
    (tmp_path / "bare").mkdir()
    booster.save_model(tmp_path / "bare" / "model.txt")
    (tmp_path / "bare" / "requirements.txt").write_text("lightgbm==4.6.0\n")

    for directory in (tmp_path / "store" / "saved" / "v1", tmp_path / "bare"):
        with closing(open_bundle(directory)) as bundle:
            bound = bundle.signature.validate_tensors(tensors(rows), "the test")
            [answer] = bundle.predict(bound, {}).values()
        assert booster.predict(rows).tobytes() == np.asarray(answer).tobytes()


def test_names_with_spaces_may_come_as_trained(trained, tmp_path):
    """LightGBM records ``_`` for a space; both names mean the column, and come one at a time."""
    booster, rows = trained("categories")
    predictor = opened(booster, tmp_path)
    recorded = rows.rename(columns={"net amount": "net_amount"})
    expected = booster.predict(rows).tobytes()

    assert "net_amount" == predictor.methods["predict"].inputs[0].columns[0]
    assert expected == ask(predictor, rows).tobytes()
    assert expected == ask(predictor, recorded).tobytes()
    assert expected == ask(predictor, rows[rows.columns[::-1]]).tobytes()
    with pytest.raises(InvalidInput, match="missing column 'city'"):
        ask(predictor, rows.drop(columns="city"))
    both = recorded.assign(**{"net amount": 5.0})
    with pytest.raises(InvalidInput, match="'net_amount' and 'net amount' both mean"):
        ask(predictor, both)


def test_a_category_that_is_not_known_is_missing(trained, tmp_path):
    """As for the library, which finds no number of it; other kinds of values are refused."""
    booster, rows = trained("categories")
    predictor = opened(booster, tmp_path)
    odd = rows.head(3).assign(city=pd.Categorical(["Rom", "Oslo", None]))

    assert booster.predict(odd).tobytes() == ask(predictor, odd).tobytes()
    wrong = rows.head(2).assign(city=[1.5, 2.5])
    with pytest.raises(InvalidInput, match=r"column 'city' has the number 1\.5.*expects strings"):
        ask(predictor, wrong)


ORDERED = TABLE.assign(level=TABLE["level"].cat.as_ordered())
AMONG_FLAGS = ORDERED.assign(count=TABLE["count"] % 2)


def test_ordered_categories_come_as_their_values_if_the_file_tells(tmp_path):
    """No other column has a range that numbers of categories have, so it is known which it is."""
    booster, _ = train(OF_CATEGORIES, ORDERED, objective="regression")
    predictor = opened(booster, tmp_path)
    odd = ORDERED.head(3).assign(level=pd.Categorical([10, 77, 40], ordered=True))

    assert "categories" not in predictor.metadata
    assert booster.predict(ORDERED).tobytes() == ask(predictor, ORDERED).tobytes()
    assert booster.predict(odd).tobytes() == ask(predictor, odd).tobytes()


def test_ordered_categories_come_as_their_numbers_if_it_does_not(tmp_path, caplog):
    """Another column may be the one, so nothing is guessed, and saving says so."""
    booster, _ = train(OF_CATEGORIES, AMONG_FLAGS, objective="regression")
    codes = AMONG_FLAGS.assign(
        **{
            name: AMONG_FLAGS[name].cat.codes.replace({-1: np.nan}).astype(float)
            for name in ("city", "level", "is_new")
        }
    )
    predictor = opened(booster, tmp_path)

    assert "numbers" == predictor.metadata["categories"]
    assert booster.predict(AMONG_FLAGS).tobytes() == ask(predictor, codes).tobytes()
    assert "columns of categories take their numbers" in caplog.text


def test_ordered_categories_of_an_estimator(tmp_path):
    """They are served as the library predicts, or refused with what to do."""
    table = ORDERED.rename(columns={"net amount": "net_amount"})
    model = lgb.LGBMRegressor(n_estimators=4, verbose=-1).fit(table, OF_CATEGORIES)
    path, options = estimators.save(model, tmp_path, "model")
    predictor = estimators.load(path, LoadContext(options=options))
    expected = model.predict(table)

    assert expected.tobytes() == ask(predictor, table).tobytes()
    model = lgb.LGBMRegressor(n_estimators=4, verbose=-1).fit(AMONG_FLAGS, OF_CATEGORIES)
    for saved in (model, Pipeline([("as it is", "passthrough"), ("model", model)])):
        with pytest.raises(StoreError, match=r"does not tell in which columns; .*as_unordered"):
            estimators.save(saved, tmp_path, "other")


def test_an_estimator_that_is_not_fitted_is_not_saved(tmp_path):
    """It says so itself."""
    with pytest.raises(StoreError, match="LGBMClassifier that is not fitted"):
        estimators.save(lgb.LGBMClassifier(), tmp_path, "model")


def test_integers_count_as_in_a_data_frame(tmp_path):
    """Large ones are not rounded to 32 bits, whatever else is in a request."""
    large = np.arange(ROWS)[:, np.newaxis] + (1 << 24)
    booster, _ = train(np.arange(ROWS) % 2 * 1.0, large.astype(float), objective="regression")
    predictor = opened(booster, tmp_path)

    assert booster.predict(large.astype(float)).tobytes() == ask(predictor, large).tobytes()


def test_nulls_and_gaps_are_missing(trained, tmp_path):
    """A null of JSON is a NaN; no rows have no answers."""
    booster, _ = trained("regression")
    predictor = opened(booster, tmp_path)
    rows = np.array([[1.0, None, 2.0, None], [None] * 4], dtype=object)

    assert booster.predict(rows.astype(float)).tobytes() == ask(predictor, rows).tobytes()
    assert (0,) == ask(predictor, X[:0]).shape
    with pytest.raises(InvalidInput, match=r"shape \[2, 3\].*expects \[-1, 4\]"):
        ask(predictor, X[:2, :3])
    with pytest.raises(InvalidInput, match="expects numbers"):
        ask(predictor, np.full((1, 4), "a", dtype=object))


@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_taken_and_rows_are_independent(kind, trained, tmp_path):
    """The probe's tables have what training saw; each row has the bits that it has alone."""
    booster, _ = trained(kind)
    predictor = opened(booster, tmp_path)

    for table in predictor.samples("predict", 5):
        [answer] = predictor.call("predict", table, {})
        assert 5 == len(answer)
    assert predictor.call_traits("predict").batchable
    assert {"objective", "trees"} <= predictor.metadata.keys()


def test_estimators_stay_with_scikit_learns_framework(tmp_path):
    """A pickled LGBMRegressor is opened as any estimator; its booster is not."""
    estimator = lgb.LGBMRegressor(n_estimators=2, verbose=-1).fit(X, TARGET)
    (tmp_path / "estimator.pkl").write_bytes(pickle.dumps(estimator))
    (tmp_path / "booster.pkl").write_bytes(pickle.dumps(estimator.booster_))

    assert ("sklearn", "model") == framework_of_file(tmp_path / "estimator.pkl")
    assert ("lightgbm", "model") == framework_of_file(tmp_path / "booster.pkl")


def test_examples_are_recorded_under_the_trained_names(trained, tmp_path):
    """A table of training is an example, though the text has other names of its columns."""
    booster, rows = trained("categories")
    some = rows.dropna().head(3)

    BundleStore(tmp_path).save("m", {"model": booster}, examples=some)

    with closing(open_bundle(tmp_path / "m" / "v1")) as bundle:
        [example] = bundle.manifest.examples
        assert booster.predict(some).tolist() == example.outputs["output-0"]
