"""CatBoost models of every kind that is served, each with a table that it was trained on."""

from __future__ import annotations

from typing import Any

import catboost
import numpy as np
import pandas as pd

_RNG = np.random.default_rng(0)
ROWS = 90
X = _RNG.normal(size=(ROWS, 4))
BOTH = (X[:, 0] > 0).astype(int)
THREE = np.digitize(X[:, 1], [-0.5, 0.5])
FRAME = pd.DataFrame(X, columns=["cpu", "memory used", "io", "swap"])
PLAIN = {"iterations": 8, "verbose": False, "allow_writing_files": False, "thread_count": 1}
CITIES = pd.DataFrame(
    {
        "size": X[:, 0],
        "city": np.array(["Bern", "Köln", "Wien", "Graz"])[_RNG.integers(0, 4, ROWS)],
        "floor": _RNG.integers(0, 5, ROWS),
    }
)
IS_DEAR = ((CITIES["city"].isin(["Bern", "Graz"])) ^ (X[:, 0] > 0.4)).astype(int)
TALK = pd.DataFrame({"size": X[:, 0], "said": ["good day", "bad night", "so so"] * (ROWS // 3)})


def classifier(**given: Any) -> Any:
    """Return a classifier that writes no files."""
    return catboost.CatBoostClassifier(**{**PLAIN, **given})


def regressor(loss: str, target: Any = X[:, 0]) -> Any:
    """Return a fitted regressor."""
    return catboost.CatBoostRegressor(**PLAIN, loss_function=loss).fit(X, target)


def of_numbers() -> dict[str, Any]:
    """Fit models of numbers alone."""
    names = np.array(["fine", "fraud", "unsure"])
    ranker = catboost.CatBoostRanker(**PLAIN)
    return {
        "binary": classifier().fit(X, BOTH),
        "labels": classifier().fit(X, names[BOTH]),
        "booleans": classifier().fit(X, BOTH.astype(bool)),
        "fractions": classifier().fit(X, BOTH + 0.5),
        "deep": classifier(depth=10, iterations=3).fit(X, BOTH),
        "by-depth": classifier(grow_policy="Depthwise").fit(X, THREE),
        "by-leaf": classifier(grow_policy="Lossguide").fit(X, BOTH),
        "three": classifier(loss_function="MultiClass").fit(X, names[THREE]),
        "one-vs-all": classifier(loss_function="MultiClassOneVsAll").fit(X, THREE),
        "several": classifier(loss_function="MultiLogloss").fit(X, (X[:, :3] > 0).astype(int)),
        "more-classes": classifier(loss_function="MultiClass", classes_count=5).fit(X, THREE),
        "named": classifier().fit(FRAME, BOTH),
        "rmse": regressor("RMSE"),
        "uncertain": regressor("RMSEWithUncertainty"),
        "two-targets": regressor("MultiRMSE", X[:, :2]),
        "quantile": regressor("Quantile:alpha=0.3"),
        "quantiles": regressor("MultiQuantile:alpha=0.1,0.5,0.9"),
        "poisson": regressor("Poisson", np.abs(X[:, 0])),
        "tweedie": regressor("Tweedie:variance_power=1.5", np.abs(X[:, 0])),
        "ranker": ranker.fit(X, BOTH, group_id=np.repeat(np.arange(9), 10)),
        "base": catboost.CatBoost({**PLAIN, "loss_function": "MultiClass"}).fit(X, THREE),
    }


def of_categories(**given: Any) -> Any:
    """Fit a model with columns of strings and of integers."""
    return classifier(cat_features=["city", "floor"], **given).fit(CITIES, IS_DEAR)


def of_texts() -> Any:
    """Fit a model with a column of texts."""
    return classifier(text_features=["said"]).fit(TALK, BOTH)


def flat(answer: Any) -> np.ndarray[Any, Any]:
    """Return the library's answer as it is served: one column is ``[n]``."""
    array = np.asarray(answer)
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def asked(model: Any, method: str, table: Any) -> np.ndarray[Any, Any]:
    """Ask the library."""
    if method == "RawFormulaVal":
        return flat(model.predict(table, prediction_type=method))
    return flat(getattr(model, method)(table))
