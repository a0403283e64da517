"""GTIL through its C interface answers as treelite's own function does."""

import gc

import numpy as np
import pytest
import treelite
from sklearn.ensemble import GradientBoostingClassifier, RandomForestRegressor

from bundleserver.frameworks.fast import gtil

X = np.random.default_rng(0).normal(size=(300, 4))
FORESTS = {
    1: RandomForestRegressor(20, random_state=0).fit(X, X[:, 0]),
    2: RandomForestRegressor(20, random_state=0).fit(X, X[:, :2]),
    3: GradientBoostingClassifier(n_estimators=9, init="zero").fit(
        X, np.digitize(X[:, 0], [-1, 1])
    ),
}
VERSIONS = pytest.mark.parametrize("version", [treelite.__version__, "5.0.0"])


def imported(columns):
    """Import the forest that answers so many columns."""
    return treelite.sklearn.import_model(FORESTS[columns])


@VERSIONS
@pytest.mark.parametrize("columns", FORESTS)
@pytest.mark.parametrize("count", [0, 1, 2, 300])
def test_sums_are_those_of_treelite(columns, count, version, monkeypatch):
    """Whatever the number of rows and columns; unknown versions are called as they document it."""
    monkeypatch.setattr(treelite, "__version__", version)
    model = imported(columns)

    sums = gtil.predictor(model, 4, columns)(X[:count])

    expected = treelite.gtil.predict(model, X[:count], nthread=1, pred_margin=True)
    assert (count, columns) == sums.shape
    assert expected.tobytes() == sums.tobytes()


@pytest.mark.parametrize(
    "rows",
    [X.astype(np.float32), np.asfortranarray(X), X[::-2], np.broadcast_to(X[0], X.shape)],
    ids=["single", "by column", "strided", "one row"],
)
def test_rows_may_lie_in_memory_as_they_like(rows):
    """What GTIL cannot read in place is copied for it."""
    predict = gtil.predictor(imported(2), 4, 2)

    assert predict(np.array(rows, np.float64)).tobytes() == predict(rows).tobytes()


def test_a_model_of_another_width_is_refused():
    """Its rows would be read beyond their end."""
    with pytest.raises(ValueError, match="model has 4 float64 columns"):
        gtil.predictor(imported(1), 3, 1)


def test_a_model_of_other_columns_is_refused():
    """Its answers would be written beyond their end."""
    with pytest.raises(ValueError, match="reshape"):
        gtil.predictor(imported(2), 4, 1)


def test_a_failed_call_says_why(monkeypatch):
    """What the C library refuses is raised in its own words."""
    monkeypatch.setattr(gtil, "_SUMS", b'{"predict_type": "magic", "nthread": 1}')

    with pytest.raises(treelite.TreeliteError, match="magic"):
        gtil.predictor(imported(1), 4, 1)


def test_a_model_that_is_let_go_is_freed():
    """Nothing holds on to a predictor once nobody may call it."""
    predict = gtil.predictor(imported(1), 4, 1)
    alive = sum(isinstance(each, treelite.Model) for each in gc.get_objects())

    del predict

    gc.collect()
    assert alive - 1 == sum(isinstance(each, treelite.Model) for each in gc.get_objects())
