"""Boosters in treelite answer as their libraries do, or are not used."""

import lightgbm
import numpy as np
import pytest
import xgboost

from bundleserver.frameworks.fast import boosted

rng = np.random.default_rng(3)
X = rng.normal(size=(600, 6)).astype(np.float32)
ROWS = np.where(rng.random((200, 6)) < 0.1, np.nan, rng.normal(size=(200, 6)) * 3)
TARGETS = {
    "binary:logistic": X[:, 0] + X[:, 1] ** 2 > 0.7,
    "reg:squarederror": X[:, 0] * 3 + 5,
    "multi:softprob": rng.integers(0, 4, 600),
    "count:poisson": rng.poisson(3, 600),
    "binary": X[:, 0] > 0.1,
    "regression": X[:, 0],
}


def of_xgboost(objective, **more):
    """Train a booster; return it with its native answers."""
    classes = {"num_class": 4} if objective.startswith("multi") else {}
    data = xgboost.DMatrix(X, TARGETS[objective])
    booster = xgboost.train({"objective": objective, "nthread": 1, **classes, **more}, data, 20)
    booster.set_param({"nthread": 1})

    def answers(kind):
        return lambda rows: booster.inplace_predict(np.asarray(rows, np.float32), predict_type=kind)

    return booster, {"predict": answers("value"), "output_margin": answers("margin")}


def of_lightgbm(objective, **more):
    """Train a booster; return it with its native answers."""
    classes = {"num_class": 4} if objective.startswith("multi") else {}
    parameters = {"objective": objective, "verbose": -1, "num_threads": 1, **classes, **more}
    booster = lightgbm.train(parameters, lightgbm.Dataset(X, TARGETS[objective]), 20)
    return booster, {
        "predict": lambda rows: booster.predict(rows, num_threads=1),
        "raw_score": lambda rows: booster.predict(rows, raw_score=True, num_threads=1),
    }


@pytest.fixture(autouse=True)
def decided_by_equality(monkeypatch):
    """Use treelite for every size: what is faster depends on the machine."""
    monkeypatch.setattr(boosted, "choose_ways", lambda *_, **__: ((200, "treelite"), (None, None)))


@pytest.mark.parametrize("objective", [name for name in TARGETS if ":" in name])
def test_xgboost_is_answered_to_the_bit(objective):
    """With its base score first, as the library adds it; missing values go the trained way."""
    booster, native = of_xgboost(objective)

    shortcut = boosted.of_xgboost(booster, 6, native)

    for method in ("predict", "output_margin"):
        answer = shortcut.answer(method, ROWS)
        assert native[method](ROWS).dtype == answer.dtype
        assert native[method](ROWS).tobytes() == answer.tobytes()


@pytest.mark.parametrize("objective", [name for name in TARGETS if ":" not in name])
def test_lightgbm_is_answered_to_the_bit(objective):
    """Missing values go the trained way."""
    booster, native = of_lightgbm(objective)

    shortcut = boosted.of_lightgbm(booster, 6, native)

    for method in ("predict", "raw_score"):
        assert native[method](ROWS).tobytes() == shortcut.answer(method, ROWS).tobytes()


def test_what_differs_in_one_bit_is_not_used():
    """A library that answers otherwise is never replaced."""
    booster, native = of_xgboost("reg:squarederror")
    other = {
        name: lambda rows, f=f: np.nextafter(f(rows), np.float32(9)) for name, f in native.items()
    }

    assert boosted.of_xgboost(booster, 6, other) is None


def test_sums_that_differ_are_not_used_for_what_hides_it():
    """A sigmoid of sums far away is the same for many of them."""
    booster, native = of_xgboost("binary:logistic")
    margin = native["output_margin"]
    other = {**native, "output_margin": lambda rows: np.nextafter(margin(rows), np.float32(9))}

    assert boosted.of_xgboost(booster, 6, native) is not None
    assert boosted.of_xgboost(booster, 6, other) is None


def test_dart_and_linear_boosters_stay_native():
    """Their answers are not sums of leaves as they stand."""
    for kind in ("dart", "gblinear"):
        booster, native = of_xgboost(
            "reg:squarederror", booster=kind, **({"rate_drop": 0.5} if kind == "dart" else {})
        )
        shortcut = boosted.of_xgboost(booster, 6, native)
        for method in shortcut.methods if shortcut else ():
            assert native[method](ROWS).tobytes() == shortcut.answer(method, ROWS).tobytes()


def test_more_rows_and_infinite_ones_are_left_to_the_library():
    """The limit is what was measured; infinity is the library's to refuse."""
    booster, native = of_xgboost("reg:squarederror")
    shortcut = boosted.of_xgboost(booster, 6, native)

    assert shortcut.answer("predict", np.zeros((200, 6))) is not None
    assert shortcut.answer("predict", np.zeros((201, 6))) is None
    assert shortcut.answer("predict", np.full((1, 6), np.inf)) is None
    assert shortcut.answer("predict", np.empty((0, 6))) is None
    assert shortcut.answer("another", np.zeros((1, 6))) is None
