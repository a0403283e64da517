"""The estimators of CatBoost, LightGBM and XGBoost, with their boosters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from tests.allow_list.honest.estimators import DATA, Model, fitted_on

_KINDS = ("two classes", "words", "numbers", "table of numbers", "missing", "sparse", "labels")


def boosted() -> Iterator[Model]:
    """Yield each estimator of the libraries on all data that it takes."""
    yield from _catboost()
    import lightgbm
    import xgboost

    few: dict[str, Any] = {"n_estimators": 3, "n_jobs": 1}
    kinds = {
        **{
            f"lightgbm {name} {kind}": getattr(lightgbm, name)(
                **few, boosting_type=kind, min_child_samples=2, verbose=-1, **more
            )
            for name in ("LGBMClassifier", "LGBMRegressor")
            for kind, more in {
                "gbdt": {},
                "dart": {},
                "rf": {"subsample": 0.5, "subsample_freq": 1},
                "goss": {},
            }.items()
        },
        **{
            f"xgboost {name} {booster}": getattr(xgboost, name)(**few, booster=booster)
            for name in ("XGBClassifier", "XGBRegressor")
            for booster in ("gbtree", "gblinear", "dart")
        },
        "xgboost XGBRFClassifier": xgboost.XGBRFClassifier(**few),
        "xgboost XGBRFRegressor": xgboost.XGBRFRegressor(**few),
    }
    for name, model in kinds.items():
        for of in _KINDS:
            if (made := fitted_on(_data(of), model)) is not None:
                yield f"{name} of {of}", made
    yield from _rankers(lightgbm, xgboost, few)
    X, y = DATA["two classes"]
    yield (
        "xgboost with stopping",
        xgboost.XGBClassifier(**few, early_stopping_rounds=2).fit(
            X, y, eval_set=[(X, y)], verbose=False
        ),
    )
    stops = [lightgbm.early_stopping(2, verbose=False)]
    yield (
        "lightgbm with stopping",
        lightgbm.LGBMClassifier(**few, verbose=-1).fit(X, y, eval_set=[(X, y)], callbacks=stops),
    )
    categories = pd.DataFrame({"a": X[:, 0], "b": pd.Categorical(["x", "y"] * 20)})
    yield "lightgbm of categories", lightgbm.LGBMClassifier(**few, verbose=-1).fit(categories, y)
    made = xgboost.XGBClassifier(**few, enable_categorical=True, tree_method="hist")
    if (found := fitted_on((categories, y), made)) is not None:
        yield "xgboost of categories", found


def _catboost() -> Iterator[Model]:
    import catboost

    few: dict[str, Any] = {"iterations": 3, "verbose": False, "allow_writing_files": False}
    X, y = DATA["two classes"]
    for name in ("CatBoost", "CatBoostClassifier", "CatBoostRegressor", "CatBoostRanker"):
        made = getattr(catboost, name)
        model = made(few) if name == "CatBoost" else made(**few, thread_count=1)
        more = {"group_id": [0] * len(y)} if name == "CatBoostRanker" else {}
        yield f"catboost {name}", model.fit(X, y, **more)
    model = catboost.CatBoostClassifier(**few)
    yield "catboost with an evaluation", model.fit(X, y, eval_set=[(X, y)])


def _data(of: str) -> tuple[Any, Any]:
    X, y = DATA[of]
    return (X, pd.factorize(y)[0]) if of == "words" else (X, y)


def _rankers(lightgbm: Any, xgboost: Any, few: dict[str, Any]) -> Iterator[Model]:
    X, y = DATA["two classes"]
    ranker = lightgbm.LGBMRanker(**few, min_child_samples=2, verbose=-1)
    yield "lightgbm ranker", ranker.fit(X, y, group=[len(y) // 2] * 2)
    yield "lightgbm booster", ranker.booster_
    ranker = xgboost.XGBRanker(**few)
    yield "xgboost ranker", ranker.fit(X, y, group=[len(y) // 2] * 2)
    yield "xgboost booster", ranker.get_booster()
