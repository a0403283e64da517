from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from bundleserver.errors import InvalidInput, LoadError
from bundleserver.frameworks import LoadContext
from bundleserver.frameworks.fast.comparing import draw_rows
from bundleserver.frameworks.fast.timing import BATCH_SIZES, MEASURING_SECONDS, choose_ways
from bundleserver.frameworks.sklearn import framework
from bundleserver.frameworks.sklearn.fast.engines import (
    TreeEnsembleShortcut,
    accelerate,
    use_one_thread,
)
from bundleserver.frameworks.sklearn.fast.tree_ensembles import take_apart
from bundleserver.frameworks.sklearn.fast.tree_sums import (
    MAX_NODES,
    Tree,
    TreeSum,
    direct_engine,
    treelite_engine,
)
from bundleserver.tensors import NamedTensor

rng = np.random.default_rng(0)
X = rng.normal(size=(300, 4)) * [1, 10, 0.1, 1000]
Y = (X[:, 0] * 10 + X[:, 1] > 2).astype(int)
KINDS = np.array(["low", "mid", "high"])[np.digitize(X[:, 0], [-0.5, 0.5])]
VALUE = X[:, 0] * 3 + rng.normal(size=300)
NAMES = ["cpu", "memory", "io", "disk"]
FRAME = pd.DataFrame(X, columns=NAMES)
GAPS = np.where(rng.random(X.shape) < 0.1, np.nan, X)

FORESTS = {
    "forest of classes": RandomForestClassifier(20, random_state=0).fit(X, Y),
    "forest of words": RandomForestClassifier(20, max_depth=3, random_state=0).fit(X, KINDS),
    "forest of numbers": RandomForestRegressor(20, random_state=0).fit(X, VALUE),
    "forest with gaps": RandomForestClassifier(20, random_state=0).fit(GAPS, Y),
    "extra trees": ExtraTreesClassifier(20, random_state=0).fit(X, KINDS),
    "extra trees of numbers": ExtraTreesRegressor(20, random_state=0).fit(X, VALUE),
    "isolation": IsolationForest(n_estimators=20, random_state=0).fit(X),
    "isolation of two columns": IsolationForest(
        n_estimators=20, max_features=2, contamination=0.1, random_state=0
    ).fit(X),
    "isolation of one row": IsolationForest(n_estimators=5, random_state=0).fit(X[:1]),
    "named columns": IsolationForest(n_estimators=20, random_state=0).fit(FRAME),
}
BOOSTED = {
    "boosted classes": GradientBoostingClassifier(n_estimators=20).fit(X, Y),
    "boosted words": GradientBoostingClassifier(n_estimators=10).fit(X, KINDS),
    "boosted by exponential": GradientBoostingClassifier(
        n_estimators=10, loss="exponential", init="zero"
    ).fit(X, Y),
    "boosted numbers": GradientBoostingRegressor(n_estimators=20).fit(X, VALUE),
    "boosted quantile": GradientBoostingRegressor(n_estimators=10, loss="quantile").fit(X, VALUE),
    "histogram classes": HistGradientBoostingClassifier(max_iter=20).fit(X, Y),
    "histogram words": HistGradientBoostingClassifier(max_iter=10).fit(X, KINDS),
    "histogram numbers": HistGradientBoostingRegressor(max_iter=20).fit(X, VALUE),
    "histogram counts": HistGradientBoostingRegressor(max_iter=10, loss="poisson").fit(X, Y + 1.0),
}
ENSEMBLES = {**FORESTS, **BOOSTED}
UNKNOWN = {
    "several outputs": RandomForestRegressor(3).fit(X, X[:, :2]),
    "start from another model": GradientBoostingClassifier(
        n_estimators=3, init=LogisticRegression()
    ).fit(X, Y),
    "categories": HistGradientBoostingRegressor(max_iter=3, categorical_features=[3]).fit(
        np.column_stack([X[:, :3], Y]), VALUE
    ),
    "no ensemble": DummyClassifier().fit(X, Y),
}


class MyForest(IsolationForest):
    """A subclass that answers otherwise."""

    def decision_function(self, X):
        return super().decision_function(X) + 1


def opened(model, tmp_path, **options):
    """Save a model and open what was saved."""
    path, _ = framework.save(model, tmp_path, "model")
    return framework.load(path, LoadContext(options))


def tensor(values):
    """Name an array."""
    return (NamedTensor("x", np.asarray(values)),)


def as_fitted(model, rows):
    """Give rows the column names that the model was fitted with."""
    return pd.DataFrame(rows, columns=NAMES) if hasattr(model, "feature_names_in_") else rows


def with_engine(model, make):
    """Answer any number of rows by one engine."""
    ensemble = take_apart(model)
    columns = tuple(getattr(model, "feature_names_in_", ()))
    return TreeEnsembleShortcut(ensemble, columns, ((None, make(ensemble.total)),), {})


CASES = [
    *((name, direct_engine) for name in FORESTS),
    *((name, treelite_engine) for name in ENSEMBLES),
]


@pytest.mark.parametrize(("name", "make"), CASES)
def test_an_engine_answers_every_method_to_the_bit(name, make):
    """On thresholds, a last bit beside them and far away, no answer differs from the library's."""
    model = ENSEMBLES[name]
    shortcut = with_engine(model, make)
    rows = as_fitted(
        model, draw_rows(shortcut.ensemble.total.trees, shortcut.ensemble.total.width, 2000)
    )
    with np.errstate(all="ignore"):
        native = {method: getattr(model, method)(rows) for method in shortcut.ensemble.finish}
        quick = {method: shortcut.answer(method, rows) for method in native}

    assert {m: (a.dtype, a.shape) for m, a in native.items()} == {
        m: (a.dtype, a.shape) for m, a in quick.items()
    }
    assert {m: a.tobytes() for m, a in native.items()} == {m: a.tobytes() for m, a in quick.items()}


def test_a_row_on_the_boundary_keeps_its_label():
    """A row whose score is exactly the offset has the label that the library gives it."""
    model = IsolationForest(n_estimators=20, random_state=0).fit(X)
    model.offset_ = float(model.score_samples(X[:1])[0])

    for make in (direct_engine, treelite_engine):
        labels = with_engine(model, make).answer("predict", X)
        assert model.predict(X).tolist() == labels.tolist()
    assert 0.0 == model.decision_function(X[:1])[0]


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("name", ["isolation", "forest of words", "histogram numbers"])
def test_numbers_of_any_kind_are_rounded_as_the_library_rounds_them(name, kind):
    """The datatype in which numbers come does not make the two ways differ."""
    model = ENSEMBLES[name]
    rows = np.abs(X * 7).astype(kind)

    assert model.predict(rows).tolist() == (
        with_engine(model, treelite_engine).answer("predict", rows).tolist()
    )


def test_large_whole_numbers_are_rounded_once():
    """A whole number beyond 2**53 becomes the FP32 that the library makes of it."""
    rows = np.full((4, 4), 2**60 + 2**36 + 1)
    model = RandomForestRegressor(5, random_state=0).fit(
        rows + np.arange(4)[:, None] * 2**37, [1, 2, 3, 4]
    )

    for make in (direct_engine, treelite_engine):
        quick = with_engine(model, make).answer("predict", rows)
        assert model.predict(rows).tobytes() == quick.tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("name", ENSEMBLES)
def test_what_is_not_finite_meets_the_library(name, value, tmp_path):
    """NaN, infinities and what FP32 cannot hold are taken or refused as without acceleration."""
    rows = X[:3].copy()
    rows[1, 2] = value
    outcomes = []
    for option in ("auto", "off"):
        predictor = opened(ENSEMBLES[name], tmp_path, accelerate=option)
        try:
            outcomes.append(predictor.call("predict", tensor(rows), {})[0].tolist())
        except InvalidInput as error:
            outcomes.append(str(error))

    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("name", ["isolation", "named columns", "boosted words"])
def test_a_table_of_another_width_is_refused_as_ever(name, tmp_path):
    """Acceleration does not loosen what a model takes."""
    predictor = opened(ENSEMBLES[name], tmp_path)

    with pytest.raises(InvalidInput, match=r"has shape \[2, 3\]; \w+ expects \[-1, 4\]"):
        predictor.call("predict", tensor(X[:2, :3]), {})


def test_columns_are_put_in_the_order_of_the_model(tmp_path):
    """Columns that come in another order are the same table."""
    predictor = opened(FORESTS["named columns"], tmp_path)
    columns = [NamedTensor(name, FRAME[name].to_numpy()) for name in reversed(NAMES)]

    assert (
        FORESTS["named columns"].predict(FRAME).tolist()
        == predictor.call("predict", columns, {})[0].tolist()
    )


def test_a_frame_of_other_columns_meets_the_library():
    """A shortcut never answers for columns that it cannot tell to be the model's."""
    shortcut = with_engine(FORESTS["named columns"], direct_engine)

    assert shortcut.answer("predict", FRAME) is not None
    assert shortcut.answer("predict", FRAME[NAMES[::-1]]) is None
    assert shortcut.answer("predict", FRAME.astype(object)) is None
    assert shortcut.answer("apply", FRAME) is None


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_model_that_is_not_known_stays_native(name, tmp_path):
    """What cannot be taken apart answers by its own code, and metadata claims nothing."""
    predictor = opened(UNKNOWN[name], tmp_path)
    rows = np.column_stack([X[:, :3], Y])

    assert {} == predictor.metadata
    assert (
        UNKNOWN[name].predict(rows).tolist()
        == predictor.call("predict", tensor(rows), {})[0].tolist()
    )


def test_a_subclass_stays_native():
    """A class that may have changed a step is not taken for the library's own."""
    model = MyForest(n_estimators=5, random_state=0).fit(X)

    assert accelerate(model) is None


def test_an_engine_that_answers_otherwise_is_not_used(caplog):
    """Trees that no longer give the model's answers are found at load, and the log says so."""
    model = IsolationForest(n_estimators=5, random_state=0).fit(X)
    model._average_path_length_per_tree = [
        lengths + 1e-9 for lengths in model._average_path_length_per_tree
    ]
    model.score_samples = IsolationForest(n_estimators=5, random_state=0).fit(X).score_samples
    with caplog.at_level("INFO"):
        shortcut = accelerate(model)

    assert shortcut is None
    assert "is not accelerated by direct" in caplog.text
    assert "is not accelerated by treelite" in caplog.text


def test_a_model_that_cannot_be_read_stays_native():
    """A model that lacks what this version of the library has is served by its own code."""
    model = IsolationForest(n_estimators=5, random_state=0).fit(X)
    del model._decision_path_lengths

    assert accelerate(model) is None


def test_a_forest_says_how_it_is_accelerated(tmp_path):
    """Metadata names methods, engines by batch size and the proof; JSON can carry it."""
    predictor = opened(FORESTS["isolation"], tmp_path)
    told = predictor.metadata["accelerated"]

    assert ["predict", "decision_function", "score_samples"] == told["methods"]
    assert "bit for bit on 256 random rows" == told["equal"]
    assert {row["engine"] for row in told["engines"]} <= {"treelite", "direct", "native"}
    assert told["engines"][-1]["rows_at_most"] is None


def test_without_treelite_the_trees_are_asked_directly(monkeypatch, tmp_path):
    """The extra is optional: a forest is still accelerated, boosted trees are native."""
    monkeypatch.setitem(sys.modules, "treelite", None)
    forest = opened(FORESTS["isolation"], tmp_path)
    boosted = opened(BOOSTED["boosted classes"], tmp_path)

    assert treelite_engine(take_apart(FORESTS["isolation"]).total) is None
    assert "treelite" not in str(forest.metadata)
    assert {} == boosted.metadata
    assert (
        FORESTS["isolation"].predict(X).tolist()
        == forest.call("predict", tensor(X), {})[0].tolist()
    )


def test_off_leaves_the_model_as_it_was_saved(tmp_path):
    """With the option off nothing is replaced, the model's own number of jobs neither."""
    model = RandomForestClassifier(5, n_jobs=2, random_state=0).fit(X, Y)
    native, quick = (opened(model, tmp_path, accelerate=value) for value in ("off", "auto"))

    assert {} == native.metadata
    assert 2 == native._model.n_jobs
    assert 1 == quick._model.n_jobs


@pytest.mark.parametrize("value", ["on", True, None, 1])
def test_another_value_of_the_option_is_refused(value, tmp_path):
    """The option has two values; another is an error that shows it."""
    with pytest.raises(LoadError, match=r"options.accelerate is .*; expected 'auto' or 'off'"):
        opened(FORESTS["isolation"], tmp_path, accelerate=value)


PIPELINES = {
    "scaler and forest": make_pipeline(StandardScaler(), IsolationForest(n_estimators=10)).fit(X),
    "named": make_pipeline(MinMaxScaler(), IsolationForest(n_estimators=10)).fit(FRAME),
    "frames between": make_pipeline(StandardScaler(), RandomForestClassifier(10))
    .set_output(transform="pandas")
    .fit(FRAME, Y),
    "imputer": make_pipeline(SimpleImputer(), StandardScaler(), RandomForestClassifier(10)).fit(
        GAPS, KINDS
    ),
    "nested": make_pipeline(
        make_pipeline("passthrough", StandardScaler()), GradientBoostingClassifier(n_estimators=5)
    ).fit(X, Y),
    "one step": make_pipeline(IsolationForest(n_estimators=10)).fit(X),
    "scalers": make_pipeline(StandardScaler(), MinMaxScaler(clip=True)).fit(X),
    "scaler and line": make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y),
}


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("count", [1, 300])
def test_a_pipeline_answers_every_method_to_the_bit(name, count, tmp_path):
    """Every step by its shortcut gives what the pipeline gives."""
    model = PIPELINES[name]
    predictor = opened(model, tmp_path)
    native = opened(model, tmp_path, accelerate="off")

    assert "accelerated" in predictor.metadata
    for method in predictor.methods:
        asked = tensor(X[:count])
        assert (
            native.call(method, asked, {})[0].tolist()
            == predictor.call(method, asked, {})[0].tolist()
        )


def test_a_pipeline_that_ends_in_nothing_stays_native():
    """Without a last step there is no answer to hurry."""
    steps = [("scaler", StandardScaler()), ("nothing", "passthrough")]

    assert accelerate(Pipeline(steps).fit(X)) is None


def test_a_pipeline_refuses_what_its_steps_refuse(tmp_path):
    """A value that a step refuses is the caller's, with and without acceleration."""
    rows = np.where(np.eye(4), np.inf, 1.0)
    said = []
    for option in ("auto", "off"):
        predictor = opened(PIPELINES["scaler and forest"], tmp_path, accelerate=option)
        with pytest.raises(InvalidInput) as caught:
            predictor.call("predict", tensor(rows), {})
        said.append(str(caught.value))

    assert said[0] == said[1]


SCALERS = {
    "standard": StandardScaler().fit(X),
    "no mean": StandardScaler(with_mean=False).fit(X),
    "no scale": StandardScaler(with_std=False).fit(X),
    "constant column": StandardScaler().fit(np.where([1, 0, 0, 0], 5.0, X)),
    "min max": MinMaxScaler().fit(X),
    "clipped": MinMaxScaler((-1, 2), clip=True).fit(X),
}


@pytest.mark.parametrize("name", SCALERS)
@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64])
def test_a_scaler_answers_to_the_bit(name, kind, tmp_path):
    """A scaler's shortcut rounds as the scaler does, whatever numbers come."""
    rows = (X * 3).astype(kind)
    predictor = opened(SCALERS[name], tmp_path)
    answer = predictor.call("transform", tensor(rows), {})[0]

    assert "accelerated" in predictor.metadata
    assert SCALERS[name].transform(rows).astype(np.float64).tobytes() == answer.tobytes()


def test_a_scaler_leaves_the_request_as_it_came(tmp_path):
    """The caller's array may be a view of the request's body: it is not written to."""
    rows = X.copy()
    rows.setflags(write=False)
    opened(SCALERS["standard"], tmp_path).call("transform", tensor(rows), {})

    assert X.tobytes() == rows.tobytes()


def test_a_scaler_takes_missing_values_as_ever(tmp_path):
    """NaN passes through a scaler; an infinity is refused."""
    predictor = opened(SCALERS["standard"], tmp_path)

    assert (
        SCALERS["standard"].transform(GAPS).tobytes()
        == predictor.call("transform", tensor(GAPS), {})[0].tobytes()
    )
    with pytest.raises(InvalidInput, match="infinity"):
        predictor.call("transform", tensor(GAPS * np.inf), {})


def test_a_forest_inside_a_vote_runs_in_one_thread():
    """The forests that a vote or a pipeline asks do not start threads for every request."""
    forest = RandomForestClassifier(3, n_jobs=4)
    model = make_pipeline(StandardScaler(), VotingClassifier([("forest", forest)])).fit(X, Y)
    use_one_thread(model)

    assert 1 == model[-1].estimators_[0].n_jobs


@pytest.mark.parametrize("name", ["isolation", "boosted words"])
def test_threads_share_an_engine(name):
    """Many threads that ask at once get what one gets."""
    shortcut = with_engine(ENSEMBLES[name], treelite_engine)
    expected = shortcut.answer("decision_function", X).tobytes()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: shortcut.answer("decision_function", X), range(64)))

    assert {expected} == {answer.tobytes() for answer in answers}


def test_an_ensemble_that_is_too_large_is_not_copied():
    """Beyond a million nodes the copy would cost more memory than its speed is worth."""
    nodes = np.broadcast_to(-1, MAX_NODES + 1)
    total = TreeSum((Tree(nodes, nodes, nodes, nodes, nodes),), 1, 4, np.float32)

    assert treelite_engine(total) is None


class Clock:
    """A clock that ways move: each takes the time that a table of costs says."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def way(self, fixed, per_row):
        def call(size):
            self.now += fixed + per_row * size

        return call


CHOICES = [
    ({"direct": (1e-4, 1e-6), "treelite": (1e-5, 1e-5)}, (1, "treelite"), (None, "direct")),
    ({"treelite": (1e-5, 1e-5)}, (128, "treelite"), (None, None)),
    ({"direct": (1e-4, 1e-6)}, (None, "direct")),
    ({"direct": (4.5e-3, 2e-6)}, (None, None)),
    ({}, (None, None)),
]


@pytest.mark.parametrize(("costs", "expected"), [(row[0], row[1:]) for row in CHOICES])
def test_each_batch_size_gets_its_fastest_way(costs, expected):
    """A way is used up to where it stops being clearly faster than the others and the model."""
    clock = Clock()
    ways = {name: clock.way(*cost) for name, cost in costs.items()}

    assert expected == choose_ways(clock.way(5e-3, 2e-6), ways, lambda size: size, "direct", clock)


def test_measuring_ends_in_time():
    """A slow model is not timed at sizes that take long; what leads goes on leading."""
    clock, sizes = Clock(), []
    ways = {"treelite": clock.way(1e-4, 0)}
    choices = choose_ways(
        clock.way(MEASURING_SECONDS, 0), ways, lambda size: sizes.append(size) or size, "", clock
    )

    assert [BATCH_SIZES[0]] == sizes
    assert ((1, "treelite"), (None, None)) == choices


@pytest.mark.parametrize(("seconds", "times"), [(1e-3, 1), (3e-4, 3)])
def test_a_model_is_timed_again_only_where_that_may_matter(seconds, times):
    """A model that takes many times as long as the best way runs once for each size."""
    clock, asked = Clock(), []
    native = clock.way(seconds, 0)

    def counted(size):
        asked.append(size)
        return native(size)

    choose_ways(counted, {"treelite": clock.way(1e-4, 0)}, lambda size: size, None, clock)

    assert times == asked.count(BATCH_SIZES[0])


def test_trees_that_read_other_columns_are_not_accelerated() -> None:
    """A tree is called without the library's checks only if it reads the table's columns."""
    rows = np.random.default_rng(4).normal(size=(40, 2))
    forest = RandomForestRegressor(3, random_state=1).fit(rows, rows[:, 0])
    assert take_apart(forest) is not None
    wide = np.hstack([rows, rows])
    forest.estimators_[1] = RandomForestRegressor(1).fit(wide, rows[:, 0]).estimators_[0]
    with pytest.raises(ValueError, match="a tree reads 4 columns; expected 2"):
        take_apart(forest)
    assert accelerate(forest) is None
