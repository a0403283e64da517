from __future__ import annotations

import sys
import threading
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.cluster import DBSCAN, KMeans
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.neighbors import KernelDensity, KNeighborsClassifier, LocalOutlierFactor
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    LabelEncoder,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)
from sklearn.svm import SVC, OneClassSVM
from sklearn.utils.validation import check_is_fitted
from statsmodels.regression.linear_model import OLS

from bundleserver.errors import InvalidInput, LoadError, StoreError
from bundleserver.frameworks import LoadContext
from bundleserver.frameworks.sklearn import framework
from bundleserver.tensors import NamedTensor, TensorSpec

rng = np.random.default_rng(0)
X = rng.normal(size=(80, 3))
Y = (X[:, 0] > 0).astype(int)
LABELS = np.where(X[:, 0] > 0.5, "fraud", np.where(X[:, 0] < -0.5, "fine", "unsure"))
NAMES = ["cpu", "memory", "io"]
FRAME = pd.DataFrame(X, columns=NAMES)
MIXED = FRAME.assign(region=np.where(Y, "north", "south"), count=np.arange(80))
TEXTS = ["good day", "bad night", "good night", "bad bad day"] * 5
MOOD = ["up", "down", "up", "down"] * 5
SOLO = LogisticRegression().fit(X, Y)


class Demanding(TransformerMixin, BaseEstimator):
    """A step of the user's own that complains in its own code."""

    def fit(self, X, y=None):
        self.seen = len(X)
        return self

    def transform(self, X):
        if np.any(np.asarray(X) > 99):
            raise ValueError("the plant is not calibrated for that")
        if np.any(np.asarray(X) < -99):
            raise KeyError("lost")
        return X


class Unusual(ClassifierMixin, BaseEstimator):
    """An estimator whose constructor scikit-learn cannot read."""

    def __init__(self, *args):
        self.args = args

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.n_features_in_ = 1
        return self

    def predict(self, X):
        return self.classes_[np.zeros(len(X), dtype=int)]


class PipelineOf14(Pipeline):
    """A pipeline that asks its last step whether it is fitted, as in scikit-learn 1.4."""

    def __sklearn_is_fitted__(self):
        check_is_fitted(self.steps[-1][1])
        return True


class OnlyPredicts:
    """A class that is no scikit-learn estimator but predicts."""

    def predict(self, X):
        return [float(row[0]) for row in X]


class Unpicklable(BaseEstimator, ClassifierMixin):
    """An estimator whose pickling raises."""

    def fit(self, X, y):
        self.lock_ = threading.Lock()
        return self

    def predict(self, X):
        return np.zeros(len(X))


def opened(directory: Path, model: object) -> framework.SklearnPredictor:
    """Save a model and open what was saved."""
    path, options = framework.save(model, directory, "model")
    return framework.load(path, LoadContext(options))


def dumped(directory: Path, thing: object) -> Path:
    """Write anything as joblib does, unchecked."""
    path = directory / "thing.joblib"
    joblib.dump(thing, path)
    return path


def tensor(values: object, name: str = "x", columns: tuple[str, ...] = ()) -> NamedTensor:
    """Name an array; strings are objects, as they come from a request."""
    array = np.asarray(values)
    return NamedTensor(name, array.astype(object) if array.dtype.kind == "U" else array, columns)


def table_of(frame: pd.DataFrame) -> list[NamedTensor]:
    """Make a tensor of each column."""
    return [tensor(frame[name].to_numpy(), name) for name in frame]


def preprocessing() -> ColumnTransformer:
    """Scale the numbers and encode the strings of MIXED."""
    return make_column_transformer(
        (StandardScaler(), ["cpu", "memory", "count"]), (OneHotEncoder(), ["region"])
    )


MODELS = {
    "forest": RandomForestClassifier(5, random_state=0).fit(X, Y),
    "string classes": LogisticRegression().fit(X, LABELS),
    "float32 weights": Ridge().fit(X.astype(np.float32), X[:, 1].astype(np.float32)),
    "regression": LinearRegression().fit(X, X[:, 1]),
    "regression of a column": LinearRegression().fit(X, X[:, [1]]),
    "regression of two": RandomForestRegressor(3, random_state=0).fit(X, X[:, :2]),
    "multi-output regression": MultiOutputRegressor(Ridge()).fit(X, X[:, :2]),
    "isolation forest": IsolationForest(n_estimators=10, random_state=0).fit(X),
    "one-class": OneClassSVM().fit(X),
    "novelty": LocalOutlierFactor(novelty=True).fit(X),
    "kmeans": KMeans(3, n_init=1, random_state=0).fit(X),
    "pca": PCA(2).fit(X),
    "scaler": StandardScaler().fit(X),
    "pipeline": make_pipeline(StandardScaler(), SVC()).fit(X, LABELS),
    "neighbours": KNeighborsClassifier().fit(X, Y),
    "density": KernelDensity().fit(X),
    "boosting": HistGradientBoostingClassifier(max_iter=5).fit(X, Y),
    "selection": SelectKBest(k=2).fit(X, Y),
    "union": FeatureUnion([("a", PCA(1)), ("b", StandardScaler())]).fit(X),
    "search": GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression()),
        {"logisticregression__C": [0.1, 1.0]},
        cv=2,
    ).fit(X, LABELS),
    "function": FunctionTransformer(np.square).fit(X),
    "imputed": make_pipeline(SimpleImputer(), LogisticRegression()).fit(X, Y),
    "own step": make_pipeline(Demanding(), LogisticRegression()).fit(X, Y),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_method_answers_as_the_model_in_process(tmp_path, name):
    """Each method gives the values and shape of the model itself, as its spec declares."""
    model = MODELS[name]
    predictor = opened(tmp_path, model)
    methods = [method for method in predictor.methods if method != "inverse_transform"]
    assert methods

    for method in methods:
        (answer,) = predictor.call(method, [tensor(X[:7])], {})
        expected = np.asarray(getattr(model, method)(X[:7]))
        np.testing.assert_array_equal(expected, answer)
        assert expected.shape == answer.shape
        declared = predictor.methods[method].outputs[0]
        np.testing.assert_array_equal(answer, declared.validate(answer, "the answer"))


@pytest.mark.parametrize(
    ("name", "method", "datatype", "shape"),
    [
        ("forest", "predict", "INT64", (-1,)),
        ("forest", "predict_proba", "FP64", (-1, 2)),
        ("forest", "apply", "INT64", (-1, 5)),
        ("string classes", "predict", "BYTES", (-1,)),
        ("string classes", "predict_proba", "FP64", (-1, 3)),
        ("regression", "predict", "FP64", (-1,)),
        ("regression of a column", "predict", "FP64", (-1, 1)),
        ("multi-output regression", "predict", "FP64", (-1, 2)),
        ("isolation forest", "predict", "INT64", (-1,)),
        ("isolation forest", "decision_function", "FP64", (-1,)),
        ("kmeans", "predict", "INT32", (-1,)),
        ("kmeans", "transform", "FP64", (-1, 3)),
        ("pca", "transform", "FP64", (-1, 2)),
        ("search", "predict", "BYTES", (-1,)),
        ("density", "score_samples", "FP64", (-1,)),
        ("own step", "predict", "INT64", (-1,)),
    ],
)
def test_outputs_are_declared_from_the_fitted_model(tmp_path, name, method, datatype, shape):
    """A method's output carries the datatype and width that the fitted model will give."""
    signature = opened(tmp_path, MODELS[name]).methods[method]

    assert (TensorSpec("output-0", datatype, shape),) == signature.outputs
    assert signature.rowwise


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (KMeans(2, n_init=1).fit(X), ["predict", "transform"]),
        (StandardScaler().fit(X), ["transform", "inverse_transform"]),
        (SVC().fit(X, Y), ["predict", "decision_function"]),
        (KernelDensity().fit(X), ["score_samples"]),
        (
            RandomForestClassifier(2).fit(X, Y),
            ["predict", "predict_proba", "predict_log_proba", "apply"],
        ),
    ],
)
def test_methods_are_those_the_model_has_default_first(tmp_path, model, expected):
    """The default is predict where there is one, else transform."""
    assert expected == list(opened(tmp_path, model).methods)


def test_inputs_are_declared_from_the_fitted_model(tmp_path):
    """Width and column names are the fitted ones; any numeric datatype may come."""
    (named,) = opened(tmp_path, StandardScaler().fit(FRAME)).methods["transform"].inputs
    (bare,) = opened(tmp_path, StandardScaler().fit(X)).methods["transform"].inputs
    pipeline = make_pipeline(CountVectorizer(), LogisticRegression()).fit(TEXTS, MOOD)
    (text,) = opened(tmp_path, pipeline).methods["predict"].inputs

    assert TensorSpec("input-0", None, (-1, 3), tuple(NAMES)) == named
    assert TensorSpec("input-0", None, (-1, 3)) == bare
    assert TensorSpec("input-0", "BYTES", (-1,)) == text


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.uint8, np.bool_])
@pytest.mark.parametrize("name", ["scaler", "regression", "selection", "float32 weights"])
def test_any_numeric_datatype_is_taken_and_the_declared_one_answered(tmp_path, name, dtype):
    """The output's datatype does not depend on the input's, and its values are the model's."""
    model = MODELS[name]
    predictor = opened(tmp_path, model)
    method = next(iter(predictor.methods))
    values = (X[:5] > 0).astype(dtype)

    (answer,) = predictor.call(method, [tensor(values)], {})

    np.testing.assert_array_equal(getattr(model, method)(values), answer)
    assert predictor.methods[method].outputs[0].validate(answer, "the answer") is answer


@pytest.mark.parametrize("order", [NAMES, ["io", "cpu", "memory"]])
def test_named_columns_are_found_by_name(tmp_path, order):
    """A tensor with column names, or a tensor per column, may come in any order."""
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(FRAME, Y)
    predictor = opened(tmp_path, model)
    together = tensor(FRAME[order].to_numpy(), columns=tuple(order))

    (from_one,) = predictor.call("predict_proba", [together], {})
    (from_many,) = predictor.call("predict_proba", table_of(FRAME[order]), {})
    (by_position,) = predictor.call("predict_proba", [tensor(X)], {})

    expected = model.predict_proba(FRAME)
    np.testing.assert_array_equal(expected, from_one)
    np.testing.assert_array_equal(expected, from_many)
    np.testing.assert_array_equal(expected, by_position)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (("cpu", "memory", "disk"), "missing column 'io' in input 'x'; .* 'memory', 'io'$"),
        (
            ("cpu", "Memori", "io"),
            "missing column 'memory' .*; did you mean 'memory' for 'Memori'?",
        ),
        (("cpu", "memory"), "missing column 'io' in input 'x'; .* 'cpu', 'memory', 'io'$"),
        (("cpu", "memory", "io", "io"), "duplicate column 'io'"),
    ],
)
def test_columns_that_differ_are_named(tmp_path, columns, message):
    """Missing, unknown and repeated columns are the caller's error, by name."""
    predictor = opened(tmp_path, StandardScaler().fit(FRAME))
    values = np.zeros((2, len(columns)))

    with pytest.raises(InvalidInput, match=message):
        predictor.call("transform", [tensor(values, columns=columns)], {})


def test_a_column_that_comes_as_its_own_tensor_must_be_known(tmp_path):
    """Tensors named after no column, or not all of them, are refused by name."""
    predictor = opened(tmp_path, StandardScaler().fit(FRAME))

    with pytest.raises(InvalidInput, match="missing column 'io' in the request"):
        predictor.call("transform", table_of(FRAME[["cpu", "memory"]]), {})


@pytest.mark.parametrize("final", [LogisticRegression(), RandomForestClassifier(5, random_state=0)])
def test_columns_of_mixed_types_keep_their_own(tmp_path, final):
    """A column transformer gets strings and numbers as it was fitted, from columns or from rows."""
    model = make_pipeline(preprocessing(), final).fit(MIXED, LABELS)
    predictor = opened(tmp_path, model)
    rows = NamedTensor("rows", MIXED.to_numpy(dtype=object), tuple(MIXED.columns))

    (from_columns,) = predictor.call("predict", table_of(MIXED[MIXED.columns[::-1]]), {})
    (from_rows,) = predictor.call("predict_proba", [rows], {})

    np.testing.assert_array_equal(model.predict(MIXED), from_columns)
    np.testing.assert_array_equal(model.predict_proba(MIXED), from_rows)
    assert all(type(label) is str for label in from_columns)
    assert TensorSpec("output-0", "BYTES", (-1,)) == predictor.methods["predict"].outputs[0]


def test_numbers_among_strings_keep_their_categories(tmp_path):
    """Integers that come in rows with strings are still the integers an encoder was fitted with."""
    frame = pd.DataFrame({"size": [1, 2, 3, 1], "colour": ["red", "red", "blue", "blue"]})
    model = OneHotEncoder().fit(frame)

    (answer,) = opened(tmp_path, model).call("transform", [tensor(frame.to_numpy(object))], {})

    np.testing.assert_array_equal(model.transform(frame).toarray(), answer)


def test_a_tensor_per_column_is_stacked_for_a_model_without_names(tmp_path):
    """Columns [n] and [n, 1] make a table in the order in which they come."""
    columns = [tensor(X[:, 0], "a"), tensor(X[:, [1]], "b"), tensor(X[:, 2], "c")]

    (answer,) = opened(tmp_path, SOLO).call("predict", columns, {})

    np.testing.assert_array_equal(SOLO.predict(X), answer)


def test_columns_that_make_no_table_are_refused(tmp_path):
    """Columns of different lengths, too few of them, or matrices for columns are the caller's."""
    predictor = opened(tmp_path, SOLO)
    a, b = tensor(X[:, 0], "a"), tensor(X[:, 1], "b")

    with pytest.raises(InvalidInput, match="differ in their number of rows: 'a' 80, 'b' 80, 'c' 9"):
        predictor.call("predict", [a, b, tensor(X[:9, 2], "c")], {})
    with pytest.raises(InvalidInput, match=r"got 2 inputs, .* LogisticRegression expects 3"):
        predictor.call("predict", [a, b], {})
    with pytest.raises(InvalidInput, match=r"'x' has shape \[80, 3\]; LogisticRegression expects"):
        predictor.call("predict", [a, b, tensor(X)], {})


@pytest.mark.parametrize("shape", [(4, 11), (4,), (3,), (2, 2, 3), ()])
def test_a_wrong_shape_is_refused_before_the_model_sees_it(tmp_path, shape):
    """The message holds the shape that came and the one that is taken."""
    with pytest.raises(InvalidInput) as refusal:
        opened(tmp_path, SOLO).call("predict", [tensor(np.zeros(shape))], {})

    expected = f"input 'x' has shape {list(shape)}; LogisticRegression expects [-1, 3]"
    assert expected == str(refusal.value)


def test_a_transformer_works_on_the_last_axis_of_sequences(tmp_path):
    """Sequences [n, t, f] are transformed row by row and keep their n and t."""
    model = PCA(2).fit(FRAME)
    predictor = opened(tmp_path, model)
    sequences = X[:24].reshape(4, 6, 3)

    (answer,) = predictor.call("transform", [tensor(sequences, columns=tuple(NAMES))], {})
    (empty,) = predictor.call("transform", [tensor(sequences[:0])], {})

    np.testing.assert_array_equal(model.transform(FRAME[:24]).reshape(4, 6, 2), answer)
    assert (0, 6, 2) == empty.shape
    with pytest.raises(InvalidInput, match=r"has shape \[4, 9, 2\]; PCA expects \[-1, 3\]"):
        predictor.call("transform", [tensor(X[:24].reshape(4, 9, 2))], {})


def test_a_scaler_scales_back(tmp_path):
    """inverse_transform undoes transform, and one column may come as a tensor [n]."""
    model = StandardScaler().fit(X[:, :1])
    predictor = opened(tmp_path, model)

    (scaled,) = predictor.call("transform", [tensor(X[:, 0])], {})
    (back,) = predictor.call("inverse_transform", [tensor(scaled)], {})

    np.testing.assert_array_equal(model.transform(X[:, :1]), scaled)
    np.testing.assert_array_equal(model.inverse_transform(scaled), back)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
@pytest.mark.parametrize("vectorizer", [CountVectorizer(), TfidfVectorizer()])
def test_text_models_take_a_list_of_strings(tmp_path, vectorizer, shape):
    """A pipeline that starts with text takes strings [n], or rows of one string."""
    model = make_pipeline(vectorizer, LogisticRegression()).fit(TEXTS, MOOD)
    predictor = opened(tmp_path, model)

    (answer,) = predictor.call("predict_proba", [tensor(np.reshape(TEXTS, shape))], {})

    np.testing.assert_array_equal(model.predict_proba(TEXTS), answer)
    assert TensorSpec("output-0", "BYTES", (-1,)) == predictor.methods["predict"].outputs[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, 2.0], "has values that are not strings; Pipeline expects BYTES"),
        ([["a", "b"]], r"has shape \[1, 2\]; Pipeline expects \[-1\]"),
    ],
)
def test_text_models_refuse_what_is_no_list_of_strings(tmp_path, values, message):
    """Numbers and tables of strings are the caller's error, not the vectorizer's."""
    model = make_pipeline(CountVectorizer(), LogisticRegression()).fit(TEXTS, MOOD)

    with pytest.raises(InvalidInput, match=message):
        opened(tmp_path, model).call("predict", [tensor(values)], {})


def test_a_vectorizer_answers_dense(tmp_path):
    """Sparse answers become arrays."""
    model = CountVectorizer().fit(TEXTS)

    (answer,) = opened(tmp_path, model).call("transform", [tensor(TEXTS)], {})

    np.testing.assert_array_equal(model.transform(TEXTS).toarray(), answer)


def test_a_label_encoder_turns_numbers_back_into_labels(tmp_path):
    """Transformers of one dimension get it as it is."""
    model = LabelEncoder().fit(LABELS)
    predictor = opened(tmp_path, model)

    (codes,) = predictor.call("transform", [tensor(LABELS)], {})
    (labels,) = predictor.call("inverse_transform", [tensor(codes)], {})

    np.testing.assert_array_equal(model.transform(LABELS), codes)
    assert LABELS.tolist() == labels.tolist()


@pytest.mark.parametrize(
    ("model", "columns"),
    [
        (StandardScaler().set_output(transform="pandas").fit(FRAME), FRAME),
        (preprocessing().set_params(sparse_threshold=1.0).fit(MIXED), MIXED),
        (SimpleImputer(strategy="most_frequent").fit(MIXED[["region"]]), MIXED[["region"]]),
    ],
    ids=["pandas output", "sparse output", "strings"],
)
def test_transforms_answer_arrays(tmp_path, model, columns):
    """DataFrames, sparse matrices and object arrays come out as plain arrays."""
    expected = model.transform(columns)
    rows = NamedTensor("rows", columns.to_numpy(), tuple(columns.columns))

    (answer,) = opened(tmp_path, model).call("transform", [rows], {})

    assert type(answer) is np.ndarray
    np.testing.assert_array_equal(getattr(expected, "toarray", lambda: expected)(), answer)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (["2024-01-01", "2024-06-01"], ["2024-01-01", "2024-06-01"]),
        ([b"no", b"yes"], ["no", "yes"]),
        ([b"\xff", b"ok"], [b"\xff", "ok"]),
    ],
)
def test_labels_answer_as_strings(tmp_path, classes, expected):
    """Dates and bytes answer as str; bytes that are no text stay bytes."""
    labels = np.array(classes, dtype="M8[D]" if classes[0] == "2024-01-01" else None)
    model = KNeighborsClassifier(1).fit([[0.0], [1.0]], labels)

    (answer,) = opened(tmp_path, model).call("predict", [tensor([[0.1], [0.9]])], {})

    assert expected == answer.tolist()


def test_probabilities_of_several_outputs_are_stacked(tmp_path):
    """predict_proba of equal outputs is [n, outputs, k]."""
    model = RandomForestClassifier(3, random_state=0).fit(X, np.c_[Y, 1 - Y, Y])
    expected = np.stack(model.predict_proba(X[:5]), axis=1)
    predictor = opened(tmp_path, model)

    (answer,) = predictor.call("predict_proba", [tensor(X[:5])], {})

    np.testing.assert_array_equal(expected, answer)
    assert (
        TensorSpec("output-0", "FP64", (-1, 3, 2))
        == (predictor.methods["predict_proba"].outputs[0])
    )


def test_probabilities_of_unequal_outputs_are_several_outputs(tmp_path):
    """Outputs with different numbers of classes fit no single tensor, so each is one."""
    model = MultiOutputClassifier(LogisticRegression()).fit(X, np.c_[Y, np.arange(80) % 3])

    outputs = opened(tmp_path, model).call("predict_proba", [tensor(X[:5])], {})

    for expected, output in zip(model.predict_proba(X[:5]), outputs, strict=True):
        np.testing.assert_array_equal(expected, output)


@pytest.mark.parametrize(
    ("model", "method", "dtype", "shape"),
    [
        (SOLO, "predict", np.int64, (0,)),
        (SOLO, "predict_proba", np.float64, (0, 2)),
        (MODELS["string classes"], "predict", object, (0,)),
        (MODELS["pca"], "transform", np.float64, (0, 2)),
    ],
)
def test_no_rows_answer_no_rows(tmp_path, model, method, dtype, shape):
    """An empty table gives an empty answer of the method's own datatype and width."""
    (answer,) = opened(tmp_path, model).call(method, [tensor(X[:0])], {})

    assert (dtype, shape) == (answer.dtype, answer.shape)


def test_no_rows_are_refused_where_the_answer_is_unknown(tmp_path):
    """An empty table is the caller's error where nobody knows what it would answer."""
    with pytest.raises(InvalidInput, match="input 'x' has no rows; send at least one"):
        opened(tmp_path, MODELS["function"]).call("transform", [tensor(X[:0])], {})


ENCODED = make_pipeline(OrdinalEncoder(), LogisticRegression()).fit(MIXED[["region"]], Y)


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        (SOLO, [[np.nan, 1, 1]], "LogisticRegression rejects the input: Input X contains NaN$"),
        (SOLO, [[np.inf, 1, 1]], "rejects the input: Input X contains infinity"),
        (SOLO, [["1", "2", "3"]], "'x' has datatype BYTES; LogisticRegression expects numbers"),
        (
            MODELS["search"],
            [["1", "2", "3"]],
            "'x' has datatype BYTES; GridSearchCV expects numbers",
        ),
        (ENCODED, [["west"]], r"Pipeline rejects the input: Found unknown categories \['west'\]"),
        (
            MODELS["imputed"],
            [["a", "b", "c"]],
            "column '0' has the string 'a'; Pipeline expects numbers",
        ),
        (MODELS["function"], [["a", "b", "c"]], "FunctionTransformer rejects the input: "),
        (LabelEncoder().fit(LABELS), ["?"], "rejects the input: y contains previously unseen"),
        (StandardScaler().fit(X[:, :1]), [[1.0], [np.inf]], "contains infinity"),
    ],
)
def test_a_value_that_the_model_refuses_is_the_callers(tmp_path, model, values, message):
    """What a library's own checks say becomes an InvalidInput of one line."""
    predictor = opened(tmp_path, model)

    with pytest.raises(InvalidInput, match=message) as refusal:
        predictor.call(next(iter(predictor.methods)), [tensor(values)], {})

    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("value", "error"), [(100.0, ValueError), (-100.0, KeyError)])
def test_what_code_inside_a_pipeline_raises_passes_unchanged(tmp_path, value, error):
    """An error of the model author's own step is not turned into the caller's."""
    predictor = opened(tmp_path, MODELS["own step"])

    with pytest.raises(error, match=r"calibrated|lost") as failure:
        predictor.call("predict", [tensor([[value, 0.0, 0.0]])], {})

    assert error is failure.type


def test_calls_run_at_the_same_time_without_warnings(tmp_path):
    """Threads that call one predictor together get their own answers, and nothing warns."""
    model = make_pipeline(StandardScaler(), RandomForestClassifier(5, n_jobs=2)).fit(FRAME, Y)
    predictor = opened(tmp_path, model)
    expected = [model.predict_proba(FRAME[i : i + 5]) for i in range(40)]
    start = threading.Barrier(4, timeout=30)

    def ask(worker: int) -> list[np.ndarray]:
        start.wait()
        return [
            predictor.call("predict_proba", [tensor(X[i : i + 5])], {})[0]
            for i in range(worker, 40, 4)
        ]

    with warnings.catch_warnings(record=True) as caught, ThreadPoolExecutor(4) as pool:
        warnings.simplefilter("always")
        answers = list(pool.map(ask, range(4)))

    assert [] == [str(warning.message) for warning in caught]
    for worker, got in enumerate(answers):
        np.testing.assert_allclose(expected[worker::4], got, rtol=1e-12)


def test_requests_do_not_warn(tmp_path):
    """Unknown categories that a model ignores, and log(0), do not fill the log."""
    encoder = OneHotEncoder(handle_unknown="warn").fit(MIXED[["region"]])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        opened(tmp_path, encoder).call("transform", [tensor([["west"]])], {})
        opened(tmp_path, MODELS["forest"]).call("predict_log_proba", [tensor(X)], {})

    assert [] == [str(warning.message) for warning in caught]


def test_a_model_that_only_predicts_is_served(tmp_path):
    """A class with predict needs nothing else; what it takes and gives stays open."""
    predictor = framework.load(dumped(tmp_path, OnlyPredicts()), LoadContext())

    (answer,) = predictor.call("predict", [tensor(X[:4])], {})

    np.testing.assert_array_equal(X[:4, 0], answer)
    assert (TensorSpec("input-0"),) == predictor.methods["predict"].inputs
    assert (TensorSpec("output-0"),) == predictor.methods["predict"].outputs


def test_an_own_step_without_widths_gets_named_columns(tmp_path):
    """Where nothing is known of the model, columns with names make a DataFrame."""
    model = FunctionTransformer(pd.DataFrame.sum, kw_args={"axis": 1}).fit([[1]])
    del model.n_features_in_
    columns = [tensor(X[:4, 0], "a"), tensor(X[:4, 1], "b")]

    (answer,) = opened(tmp_path, model).call("transform", columns, {})

    np.testing.assert_allclose(X[:4, :2].sum(axis=1), answer)


@pytest.mark.parametrize(
    "model",
    [
        Unusual(1, 2).fit(X, LABELS),
        GridSearchCV(
            VotingClassifier([("a", make_pipeline(OneHotEncoder(), LogisticRegression()))]),
            {"voting": ["hard", "soft"]},
            cv=2,
        ).fit(MIXED[["region"]], LABELS),
        VotingClassifier([("a", make_pipeline(OneHotEncoder(), LogisticRegression()))]).fit(
            MIXED[["region"]], LABELS
        ),
    ],
)
def test_a_model_that_cannot_be_asked_declares_the_datatype_of_its_labels(tmp_path, model):
    """Where strings may come or the code is the user's, only the labels' datatype is known."""
    predictor = opened(tmp_path, model)

    frame = MIXED[["region"]][:5]
    (answer,) = predictor.call("predict", [tensor(frame.to_numpy())], {})

    assert model.predict(frame).tolist() == answer.tolist()
    assert (TensorSpec("output-0", "BYTES"),) == predictor.methods["predict"].outputs


def test_categories_of_gradient_boosting_come_as_strings(tmp_path):
    """A model that was fitted with a column of categories takes their names."""
    frame = MIXED.astype({"region": "category"})
    boosting = HistGradientBoostingClassifier(categorical_features="from_dtype", max_iter=5)
    for model in (boosting, GridSearchCV(boosting, {"max_iter": [5]}, cv=2)):
        model.fit(frame, Y)

        (answer,) = opened(tmp_path, model).call("predict_proba", table_of(MIXED), {})

        np.testing.assert_array_equal(model.predict_proba(frame), answer)


@pytest.mark.parametrize("kind", [Pipeline, PipelineOf14])
def test_a_pipeline_may_end_with_passthrough(tmp_path, kind):
    """A last step that does nothing has nothing to be fitted."""
    model = kind([("scale", StandardScaler()), ("rest", "passthrough")]).fit(X)

    assert {"transform", "inverse_transform"} == {*opened(tmp_path, model).methods}


def test_several_inputs_or_a_scalar_for_a_model_of_one_are_refused(tmp_path):
    """A text model takes one tensor, and no model takes a scalar."""
    text = opened(tmp_path, CountVectorizer().fit(TEXTS))
    with pytest.raises(InvalidInput, match="got 2 inputs; CountVectorizer expects one, of strings"):
        text.call("transform", [tensor(TEXTS), tensor(TEXTS, "y")], {})
    labels = opened(tmp_path, LabelEncoder().fit(LABELS))
    with pytest.raises(InvalidInput, match=r"has shape \[\]; LabelEncoder expects \[-1, -1\]"):
        labels.call("transform", [tensor(1.0)], {})


NOT_SERVED = [
    (OLS(X[:, 0], X).fit(), "a statsmodels.*Wrapper; its framework is 'statsmodels', not"),
    (LogisticRegression(), "a LogisticRegression that is not fitted; fit it"),
    (make_pipeline(StandardScaler(), LogisticRegression()), "a Pipeline that is not fitted"),
    (
        PipelineOf14([("scale", StandardScaler()), ("rest", "passthrough")]),
        "a PipelineOf14 that is not fitted",
    ),
    (Demanding(), "a Demanding that is not fitted"),
    (DBSCAN().fit(X), "a DBSCAN, which cannot predict for new data: it has none of the methods"),
    (LocalOutlierFactor().fit(X), "a LocalOutlierFactor, which cannot predict for new data"),
    (LogisticRegression, "the class LogisticRegression itself; fit an instance"),
    ([1.5], "a list, which is not a fitted estimator: it has neither 'predict' nor 'transform'"),
    (X, "a numpy.ndarray, which is not a fitted estimator"),
    (FRAME, "a pandas.core.frame.DataFrame, which is not a fitted estimator"),
    (np.square, "a numpy.ufunc, which is not a fitted estimator"),
    (
        {"methods": ["ARIMA"], "weights": [1.0], "threshold": 0.5},
        "a dict; its framework is 'ensemble'",
    ),
    (
        {"scaler": MODELS["scaler"], "model": SOLO, "threshold": 0.5},
        r"a dict of several models; .*"
        r"\{\"scaler\": models\['scaler'\], \"model\": models\['model'\]\}",
    ),
    ((MODELS["scaler"], SOLO), r"a tuple of several models; .*\"part_1\": models\[1\]"),
]


@pytest.mark.parametrize(("thing", "message"), NOT_SERVED)
def test_load_says_what_a_file_holds_that_is_no_fitted_model(tmp_path, thing, message):
    """A file that opens but cannot be served is refused with what it holds and what to do."""
    path = dumped(tmp_path, thing)

    with pytest.raises(LoadError, match=f"^'{path}' has {message}"):
        framework.load(path, LoadContext())


@pytest.mark.parametrize(("thing", "message"), NOT_SERVED)
def test_save_refuses_what_load_would(tmp_path, thing, message):
    """What cannot be served is not saved, and nothing is left behind."""
    with pytest.raises(StoreError, match=f"^component 'model' is {message}"):
        framework.save(thing, tmp_path, "model")

    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Unpicklable().fit(X, Y), "cannot be pickled: cannot pickle '_thread.lock' object"),
    ],
)
def test_save_of_what_cannot_be_pickled_leaves_nothing_behind(tmp_path, model, message):
    """A lock in a model is named, and no half-written file stays."""
    with pytest.raises(StoreError, match=message):
        framework.save(model, tmp_path, "model")

    assert [] == list(tmp_path.iterdir())


def test_save_writes_code_of_the_notebook_with_the_model(tmp_path, monkeypatch):
    """A step defined in the notebook is written by value, and opens without the notebook."""
    step = type("LogScaler", (StandardScaler,), {"__module__": "__main__"})
    monkeypatch.setattr(sys.modules["__main__"], "LogScaler", step, raising=False)
    model = make_pipeline(step(), LogisticRegression()).fit(X, Y)

    path, options = framework.save(model, tmp_path, "model")

    monkeypatch.delattr(sys.modules["__main__"], "LogScaler")
    opened = framework.load(path, LoadContext(options))
    assert [path] == list(tmp_path.iterdir())
    assert [*model.predict(X)] == [*opened.call("predict", [NamedTensor("input-0", X)], {})[0]]


def test_save_writes_a_lambda_with_the_model(tmp_path):
    """A function without a name that others could import is written by value."""
    path, _ = framework.save(FunctionTransformer(lambda x: 2 * x).fit(X), tmp_path, "double")

    answer = framework.load(path, LoadContext()).call("transform", [NamedTensor("input-0", X)], {})
    assert (2 * X == answer[0]).all()


def test_save_says_what_to_install_for_code_of_the_notebook(tmp_path, monkeypatch):
    """Without cloudpickle a step of the notebook is named, with what writes its code."""
    step = type("LogScaler", (StandardScaler,), {"__module__": "__main__"})
    monkeypatch.setattr(sys.modules["__main__"], "LogScaler", step, raising=False)
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    model = make_pipeline(step(), LogisticRegression()).fit(X, Y)

    with pytest.raises(StoreError, match=r"uses __main__\.LogScaler, .*bundleserver\[notebook\]"):
        framework.save(model, tmp_path, "model")

    assert [] == list(tmp_path.iterdir())


def test_save_into_a_place_that_cannot_be_written_names_it(tmp_path):
    """A missing directory is a StoreError that names the file."""
    with pytest.raises(StoreError, match=r"cannot be written to '.*absent/model\.joblib'"):
        framework.save(SOLO, tmp_path / "absent", "model")


def test_save_writes_one_joblib_file_that_needs_no_options(tmp_path):
    """The file is named after its component."""
    assert (tmp_path / "scaler.joblib", {}) == framework.save(SOLO, tmp_path, "scaler")


def test_load_refuses_an_unknown_option(tmp_path):
    """An option that is not known is an error that names it, not something silently ignored."""
    path = dumped(tmp_path, SOLO)

    with pytest.raises(
        LoadError, match=r"options\.jobs is not a known option; known: 'accelerate'"
    ):
        framework.load(path, LoadContext({"jobs": 3}))


def test_close_lets_go_of_the_model(tmp_path):
    """The memory of a closed predictor's model is free again."""
    predictor = opened(tmp_path, SOLO)
    gone = threading.Event()
    weakref.finalize(predictor._model, gone.set)
    predictor.close()

    assert gone.is_set()
