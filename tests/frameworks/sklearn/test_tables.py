"""Tables of mixed columns: gaps, unused columns, categories, and samples."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.ensemble import (
    BaggingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import CategoricalNB, MultinomialNB
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    LabelEncoder,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
    TargetEncoder,
)

from bundleserver.errors import InvalidInput
from bundleserver.frameworks.sklearn.framework import SklearnPredictor
from bundleserver.tensors import NamedTensor
from bundleserver.tensors.signature import Signature

ROWS = 120
rng = np.random.default_rng(21)
TABLE = pd.DataFrame(
    {
        "id": np.arange(ROWS),
        "load": rng.normal(size=ROWS),
        "age": rng.integers(18, 80, ROWS).astype(float),
        "zone": rng.choice(["north", "south", "east"], ROWS).astype(object),
        "code": rng.choice(["01", "2", "1e3"], ROWS).astype(object),
        "size": rng.choice([1, 2, 5], ROWS),
        "vip": rng.choice([True, False], ROWS),
        "say": rng.choice(["all is well", "it burns", "so so"], ROWS).astype(object),
        "note": "x",
    }
)
TABLE.loc[::7, "zone"] = np.nan
TABLE.loc[::5, "age"] = np.nan
TARGET = (TABLE["load"] > 0).astype(int).to_numpy()
USED = ("load", "age", "zone", "code", "size", "vip", "say")
IGNORING = OneHotEncoder(handle_unknown="ignore")


def lowered(frame: pd.DataFrame) -> pd.DataFrame:
    """Lower strings as a user's own function does."""
    return frame.apply(lambda column: column.str.lower())


def zone_of(frame: pd.DataFrame) -> list[str]:
    """Select a column as a user's own function does."""
    return ["zone"]


def split(**more: object) -> ColumnTransformer:
    """Use every column but two, each as its kind asks for."""
    text = make_pipeline(SimpleImputer(strategy="most_frequent"), IGNORING)
    return ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["load", "age"]),
            ("text", text, ["zone"]),
            ("others", OneHotEncoder(), ["code", "size", "vip"]),
            ("words", TfidfVectorizer(), "say"),
        ],
        **more,
    )


def classifier(first: object = None, last: object = None) -> object:
    """Make a pipeline of a split and a classifier."""
    return make_pipeline(
        split() if first is None else first, LogisticRegression() if last is None else last
    )


def of(*parts: tuple[str, object, object]) -> object:
    """Make a pipeline that splits by these parts."""
    return classifier(ColumnTransformer(list(parts)))


NESTED = ColumnTransformer([("inner", SimpleImputer(), ["age"])])
MODELS = {
    "alone": (classifier(), USED),
    "search": (GridSearchCV(classifier(), {"logisticregression__C": [1.0]}, cv=2), USED),
    "voting": (
        VotingClassifier(
            [("a", classifier()), ("b", classifier(last=RandomForestClassifier(3)))], voting="soft"
        ),
        USED,
    ),
    "stacking": (StackingClassifier([("a", classifier())], cv=2), USED),
    "calibrated": (CalibratedClassifierCV(classifier(), cv=2), USED),
    "union": (
        classifier(
            FeatureUnion(
                [("a", NESTED), ("b", ColumnTransformer([("s", StandardScaler(), ["load"])]))]
            )
        ),
        ("load", "age"),
    ),
    "nested": (
        of(("in", NESTED, ["age", "note"]), ("p", "passthrough", ["load"]), ("z", IGNORING, [3])),
        ("load", "age", "zone"),
    ),
    "slice": (of(("n", SimpleImputer(), slice(1, 3)), ("c", IGNORING, [3])), USED[:3]),
    "mask": (of(("n", SimpleImputer(), [False, True, True, *[False] * 6])), USED[:2]),
    "callable": (of(("z", IGNORING, zone_of)), ("zone",)),
    "selector": (of(("s", OneHotEncoder(), make_column_selector("size"))), ("size",)),
    "target": (of(("t", TargetEncoder(cv=2), ["zone", "code"])), ("zone", "code")),
    "function": (
        of(("f", make_pipeline(FunctionTransformer(lowered), IGNORING), ["zone"])),
        ("zone",),
    ),
    "ordinal": (
        of(
            ("o", OrdinalEncoder(encoded_missing_value=-1), ["zone", "vip"]),
            ("k", KBinsDiscretizer(3, encode="ordinal"), ["load"]),
            ("h", HashingVectorizer(n_features=8), "code"),
        ),
        ("load", "zone", "code", "vip"),
    ),
}


def served(model: object) -> tuple[SklearnPredictor, Signature]:
    """Open a fitted model as an inferred bundle does."""
    predictor = SklearnPredictor(model)
    method = "predict_proba" if "predict_proba" in predictor.methods else "predict"
    found = predictor.methods[method]
    return predictor, Signature(found.inputs, found.outputs, lenient=True)


def ask(model: object, rows: list[object]) -> np.ndarray:
    """Answer V1 rows as an inferred bundle does."""
    predictor, signature = served(model)
    inputs = list(signature.validate_rows(rows, "m").values())
    method = "predict_proba" if "predict_proba" in predictor.methods else "predict"
    return predictor.call(method, inputs, {})[0]


def as_json(frame: pd.DataFrame) -> list[dict[str, object]]:
    """Make plain rows, with None for gaps."""
    plain = frame.astype(object).where(frame.notna(), None)
    return plain.to_dict("records")


@pytest.fixture(scope="module", params=MODELS)
def fitted(request):
    """Return a fitted model, and the columns that it uses."""
    model, used = MODELS[request.param]
    return model.fit(TABLE, TARGET), used


def test_a_table_is_answered_as_in_the_notebook(fitted):
    """Rows of objects and rows of lists give what the model gives for its DataFrame."""
    model, _ = fitted
    rows = as_json(TABLE[:30])

    np.testing.assert_allclose(model.predict_proba(TABLE[:30]), ask(model, rows))
    np.testing.assert_allclose(
        model.predict_proba(TABLE[:30]), ask(model, [list(row.values()) for row in rows])
    )


def test_only_the_columns_that_are_used_are_required(fitted):
    """Others may be missing, unknown, in any order, and in some of the rows only."""
    model, used = fitted
    rows = as_json(TABLE[:30])
    few = [{name: row[name] for name in reversed(used)} for row in rows]
    more = [{**row, "unknown": [1, 2]} if i % 2 else row for i, row in enumerate(few)]

    spec = served(model)[1].inputs[0]
    assert used == spec.required_columns
    np.testing.assert_allclose(model.predict_proba(TABLE[:30]), ask(model, few))
    np.testing.assert_allclose(model.predict_proba(TABLE[:30]), ask(model, more))
    for name in used:
        with pytest.raises(InvalidInput, match=f"missing column '{name}'|no inputs|expects"):
            ask(model, [{key: row[key] for key in used if key != name} or {"x": 1} for row in few])


values = {
    "load": st.floats(-3, 3) | st.integers(-3, 3),
    "age": st.none() | st.integers(18, 80) | st.floats(18, 80),
    "zone": st.none() | st.sampled_from(["north", "south", "east", "nowhere", "12"]),
    "code": st.sampled_from(["01", "2", "1e3"]),
    "size": st.sampled_from([1, 2, 5, 5.0]),
    "vip": st.booleans() | st.sampled_from([0, 1]),
    "say": st.sampled_from(["it burns", "", "7"]),
    "id": st.none() | st.integers(),
    "note": st.none() | st.text(max_size=3) | st.booleans() | st.integers(),
}
ALL = classifier().fit(TABLE, TARGET)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.fixed_dictionaries(values), min_size=2, max_size=5))
def test_a_row_has_one_answer_whatever_is_beside_it(rows):
    """Gaps, kinds of numbers and strings of other rows never change a row's answer."""
    together = ask(ALL, rows)
    as_lists = ask(ALL, [[row[name] for name in TABLE] for row in rows])

    np.testing.assert_allclose(together, np.concatenate([ask(ALL, [row]) for row in rows]))
    np.testing.assert_allclose(together, as_lists)


def test_an_array_of_objects_has_kinds_too():
    """A model that was fitted without names knows its columns by position."""
    columns = [("z", IGNORING, [0]), ("a", SimpleImputer(), [1])]
    given_columns = TABLE[["zone", "age"]]
    model = classifier(ColumnTransformer(columns)).fit(given_columns.to_numpy(object), TARGET)
    rows = [list(row.values()) for row in as_json(given_columns[:30])]

    alone = np.concatenate([ask(model, [row]) for row in rows])

    np.testing.assert_allclose(model.predict_proba(given_columns.to_numpy(object)[:30]), alone)


def test_the_gap_is_what_it_was_in_training():
    """A model that was fitted with None for missing values gets None."""
    frame = pd.DataFrame({"zone": ["a", None, "b", None] * 5}, dtype=object)
    imputer = SimpleImputer(missing_values=None, strategy="most_frequent")
    for model in (make_pipeline(imputer, IGNORING), OneHotEncoder()):
        model.fit(frame)
        predictor = SklearnPredictor(model)
        table = NamedTensor("zone", np.array([None, "b"], object))

        (answer,) = predictor.call("transform", [table], {})

        np.testing.assert_array_equal(model.transform(frame[1:3]).toarray(), answer)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"age": "30"}, "column 'age' has the string '30'; Pipeline expects numbers"),
        ({"zone": 3}, "column 'zone' has the number 3; Pipeline expects strings"),
        ({"zone": True}, "column 'zone' has true; Pipeline expects strings"),
        ({"vip": 2}, "column 'vip' has the number 2; Pipeline expects booleans"),
        ({"vip": "yes"}, "column 'vip' has the string 'yes'; Pipeline expects booleans"),
        ({"say": {"a": 1}}, "column 'say' has a value of the type dict; Pipeline expects strings"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_its_column(row, message):
    """The message has the column, what came and what is expected."""
    (full,) = as_json(TABLE[:1])

    with pytest.raises(InvalidInput, match=message):
        ask(ALL, [{**full, **row}])


def test_a_misspelt_column_is_named_with_what_was_meant():
    """A required column that is missing is found among the unknown ones."""
    (row,) = as_json(TABLE[1:2])
    row["Zone "] = row.pop("zone")

    with pytest.raises(InvalidInput, match=r"missing column 'zone' .* mean 'zone' for 'Zone '"):
        ask(ALL, [row])


def test_dates_of_this_process_stay_dates():
    """A column of dates that a notebook passes is one of dates for the user's own function."""

    class Dated:
        def predict(self, table):
            return table["day"].dt.year.to_numpy()

    days = list(pd.to_datetime(["2024-02-01", "2025-01-01"]))

    assert [2024, 2025] == ask(Dated(), [{"day": day, "x": 1} for day in days]).tolist()


def test_estimators_that_check_their_table_require_all_of_it():
    """Bagging makes an array of its table, so that no column may be missing."""
    frame = TABLE[["load", "size"]]
    model = BaggingClassifier(LogisticRegression(), 2).fit(frame, TARGET)

    with pytest.raises(InvalidInput, match="missing column 'size'"):
        ask(model, [{"load": 1.0}])


def test_a_target_that_is_transformed_changes_nothing_of_the_columns():
    """The regressor behind a transformed target gets the request's columns."""
    inner = make_pipeline(ColumnTransformer([("z", IGNORING, ["zone"])]), LinearRegression())
    model = TransformedTargetRegressor(inner).fit(TABLE, TABLE["load"])

    np.testing.assert_allclose(model.predict(TABLE[:5]), ask(model, as_json(TABLE[["zone"]][:5])))


def test_categories_of_gradient_boosting_have_gaps_and_unknown_values():
    """A category that was never seen is a missing one, as the library has it."""
    frame = TABLE[["load", "zone", "size"]].astype({"zone": "category", "size": "category"})
    model = HistGradientBoostingClassifier(categorical_features="from_dtype", max_iter=5)
    model.fit(frame, TARGET)
    rows = as_json(TABLE[["load", "zone", "size"]][:20])

    alone = np.concatenate([ask(model, [row]) for row in rows])

    np.testing.assert_allclose(model.predict_proba(frame[:20]), alone)
    unseen, gap = ({**rows[1], "zone": zone} for zone in ("nowhere", None))
    np.testing.assert_allclose(ask(model, [gap]), ask(model, [unseen]))


class Recorded(BaseEstimator):
    """An estimator that has what LightGBM's keeps, and answers with the categories it is given."""

    __module__ = "lightgbm.sklearn"

    def __init__(self):
        self.n_features_in_ = 2
        self.feature_names_in_ = np.array(["load", "zone"])
        self.pandas_categorical = [["b", "a"]]
        self.params = {"categorical_column": [1]}
        self.booster_ = self

    def fit(self, table):
        return self

    def predict(self, table):
        return np.array([list(table["zone"].cat.categories)] * len(table), dtype=object)


def test_columns_of_categories_have_all_that_were_recorded():
    """The order of training is kept, and unknown values are left to the library."""
    model = Recorded()

    answer = ask(model, [{"load": 1, "zone": None}, {"load": 1, "zone": "c"}])

    assert ["b", "a", "c"] == answer[0].tolist()
    assert ("FP64", "BYTES") == served(model)[1].inputs[0].column_datatypes


def test_datatypes_are_said_where_columns_differ():
    """Each column has a datatype of the protocol; a table of numbers says nothing."""
    spec = served(ALL)[1].inputs[0]
    known = dict(zip(spec.columns, spec.column_datatypes, strict=True))

    assert {"load": "FP64", "zone": "BYTES", "size": "INT64", "vip": "BOOL", "say": "BYTES"} == {
        name: known[name] for name in ("load", "zone", "size", "vip", "say")
    }
    plain = LogisticRegression().fit(TABLE[["load", "size"]], TARGET)
    assert () == served(plain)[1].inputs[0].column_datatypes


def test_numbers_with_booleans_and_nulls_are_numbers():
    """JSON's true and null are values of an estimator of numbers."""
    model = HistGradientBoostingClassifier(max_iter=3).fit(TABLE[["load", "vip"]], TARGET)

    expected = model.predict_proba(pd.DataFrame({"load": [np.nan], "vip": [1.0]}))
    np.testing.assert_array_equal(expected, ask(model, [[None, True]]))
    np.testing.assert_array_equal(expected, ask(model, [{"vip": True, "load": None}]))


def test_bytes_keep_their_last_nuls():
    """Bytes of a model's output come out as they are, also beside strings."""

    class Speaks:
        def predict(self, table):
            return [b"a\0", "b", b"\xff\0"]

    (answer,) = SklearnPredictor(Speaks()).call("predict", [NamedTensor("x", np.zeros((3, 1)))], {})

    assert ["a\0", "b", b"\xff\0"] == answer.tolist()


TEXTS = ["good day", "bad night", "good night", "bad bad day"]
SAMPLED = {
    "numbers": (LinearRegression().fit(TABLE[["load"]], TARGET), "predict"),
    "mixed": (ALL, "predict"),
    "texts": (make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TEXTS, [1, 0, 1, 0]), ""),
    "labels": (LabelEncoder().fit(["x", "y"]), "transform"),
    "codes": (LabelEncoder().fit(["x", "y"]), "inverse_transform"),
    "counts": (MultinomialNB().fit([[1, 0], [0, 3]], [0, 1]), "predict"),
    "kinds": (CategoricalNB().fit([[1, 0], [0, 1]], [0, 1]), "predict"),
    "back": (StandardScaler().fit(TABLE[["load", "size"]]), "inverse_transform"),
    "strict categories": (OrdinalEncoder().fit(TABLE[["code", "vip"]]), "transform"),
}


@pytest.mark.parametrize("name", SAMPLED)
def test_samples_are_taken_by_the_model(name):
    """One of the samples at least is answered, and has as many rows as asked for."""
    model, method = SAMPLED[name]
    predictor = SklearnPredictor(model)
    method = method or next(iter(predictor.methods))
    answered = 0

    for sample in predictor.samples(method, 3):
        assert 3 == len(sample[0].values)
        try:
            predictor.call(method, sample, {})
        except (InvalidInput, IndexError):
            continue
        answered += 1

    assert answered


def test_nothing_is_sampled_of_which_nothing_is_known():
    """An estimator without any fitted width has no samples; fitted weights tell it."""

    class Plain:
        def predict(self, table):
            return table[:, 0]

    plain = Plain()
    assert [] == list(SklearnPredictor(plain).samples("predict", 2))
    plain.coef_ = np.zeros(4)
    assert (2, 4) == SklearnPredictor(plain).samples("predict", 2)[0][0].values.shape
