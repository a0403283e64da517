"""Estimators inside of each other, and with functions, kernels, scores and splits."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy import special, stats
from sklearn import (
    calibration,
    ensemble,
    feature_selection,
    gaussian_process,
    metrics,
    model_selection,
    multiclass,
    multioutput,
    neighbors,
    pipeline,
    preprocessing,
)
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.gaussian_process import kernels
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from tests.allow_list.honest.estimators import DATA, Model, fitted_on

_FUNCTIONS = (
    *("log", "log1p", "log2", "log10", "exp", "expm1", "exp2", "sqrt", "square", "absolute"),
    *("sin", "cos", "tan", "arcsin", "arccos", "arctan", "tanh", "arcsinh", "sinh", "cosh"),
    *("sign", "cbrt", "reciprocal", "negative", "rint", "floor", "ceil", "trunc", "isnan"),
    *("isfinite", "degrees", "radians", "nan_to_num", "clip", "round", "around", "asarray"),
)


def combined() -> Iterator[Model]:
    """Yield pipelines, searches, ensembles and the like."""
    models: dict[str, tuple[str, Any]] = {
        "pipeline": ("two classes", pipeline.make_pipeline(*_scaled(LogisticRegression()))),
        "cached pipeline of a table": ("table", pipeline.make_pipeline(*_scaled(SVC()))),
        "columns": ("table", pipeline.make_pipeline(_columns(), LogisticRegression())),
        "columns of text": ("columns of text", pipeline.make_pipeline(_texts(), SGDClassifier())),
        "selected columns": ("columns of text", _selected()),
        "pandas out": ("table", _columns().set_output(transform="pandas")),
        "hashed words": (
            "texts",
            pipeline.make_pipeline(HashingVectorizer(n_features=64), SGDClassifier()),
        ),
        "words and topics": (
            "texts",
            pipeline.make_pipeline(CountVectorizer(), TruncatedSVD(2), SVC(probability=False)),
        ),
        "union": (
            "two classes",
            pipeline.make_union(PCA(2), preprocessing.PolynomialFeatures(2)),
        ),
        "stacked": (
            "words",
            ensemble.StackingClassifier(
                [("t", DecisionTreeClassifier()), ("r", LogisticRegression())], cv=2
            ),
        ),
        "stacked numbers": (
            "numbers",
            ensemble.StackingRegressor([("t", DecisionTreeRegressor()), ("r", Ridge())], cv=2),
        ),
        "voting": (
            "words",
            ensemble.VotingClassifier(
                [("t", DecisionTreeClassifier()), ("r", LogisticRegression())], voting="soft"
            ),
        ),
        "voting numbers": ("numbers", ensemble.VotingRegressor([("r", Ridge())])),
        "one of many": ("words", multiclass.OneVsRestClassifier(SVC())),
        "one against one": ("words", multiclass.OneVsOneClassifier(LogisticRegression())),
        "codes": ("words", multiclass.OutputCodeClassifier(LogisticRegression())),
        "several": ("two targets", multioutput.MultiOutputRegressor(Ridge())),
        "chained": ("two targets", multioutput.RegressorChain(Ridge())),
        "target": (
            "numbers",
            TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1),
        ),
        "scaled target": (
            "numbers",
            TransformedTargetRegressor(Ridge(), transformer=preprocessing.StandardScaler()),
        ),
        "by importance": (
            "two classes",
            feature_selection.SelectFromModel(LogisticRegression()),
        ),
        "boosted trees": ("two classes", ensemble.AdaBoostClassifier(DecisionTreeClassifier())),
        "bag": ("two classes", ensemble.BaggingClassifier(SVC(), n_estimators=2)),
    }
    for method in ("sigmoid", "isotonic"):
        models[f"calibrated {method}"] = (
            "two classes",
            calibration.CalibratedClassifierCV(LogisticRegression(), method=method, cv=2),
        )
    yield from _fitted(models)
    numbers, classes = DATA["two classes"]
    categories = pd.DataFrame({"a": numbers[:, 0], "b": pd.Categorical(["x", "y"] * 20)})
    for kind in (ensemble.HistGradientBoostingClassifier, ensemble.HistGradientBoostingRegressor):
        trees = kind(max_iter=3, categorical_features=["b"])
        if (found := fitted_on((categories, classes), trees)) is not None:
            yield f"categories {kind.__name__}", found
    search = model_selection.GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2)
    for name, made in _fitted({"search": ("two classes", search)}):
        yield from ((name, made), ("best of a search", made.best_estimator_))  # type: ignore[attr-defined]


def with_parts() -> Iterator[Model]:
    """Yield models with each function, kernel, score, split and distance of the libraries."""
    yield from _fitted(
        {
            f"function {name}": (
                "two classes",
                preprocessing.FunctionTransformer(getattr(np, name)),
            )
            for name in _FUNCTIONS
        }
    )
    yield from _fitted(
        {
            f"{way} by {score}": (
                data,
                getattr(feature_selection, way)(getattr(feature_selection, score)),
            )
            for way in ("SelectKBest", "SelectPercentile", "SelectFpr", "SelectFdr", "SelectFwe")
            for score in (
                *(["chi2", "f_classif", "f_regression", "mutual_info_classif"]),
                *(["mutual_info_regression", "r_regression"]),
            )
            for data in ("two classes", "numbers")
        }
    )
    yield from _fitted(
        {
            f"function {name} of scipy": (
                "two classes",
                preprocessing.FunctionTransformer(getattr(special, name)),
            )
            for name in ("expit", "log1p", "logit")
        }
    )
    yield from _fitted(
        {
            f"kernel {name}": ("two classes", SVC(kernel=getattr(metrics.pairwise, name)))
            for name in (
                *("additive_chi2_kernel", "chi2_kernel", "cosine_distances", "cosine_similarity"),
                *("euclidean_distances", "laplacian_kernel", "linear_kernel", "rbf_kernel"),
                *("manhattan_distances", "polynomial_kernel", "sigmoid_kernel"),
            )
        }
    )
    yield from _fitted(
        {
            f"words by {name}": ("texts", CountVectorizer(preprocessor=getattr(str, name)))
            for name in ("casefold", "lower", "strip", "upper")
        }
    )
    yield from _fitted({"words apart": ("texts", CountVectorizer(tokenizer=str.split))})
    yield from _others()
    yield from _kernels()
    yield from _searches()
    yield from _distances()


def _others() -> Iterator[Model]:
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401  # it adds the next
    from sklearn.frozen import FrozenEstimator
    from sklearn.impute import IterativeImputer

    yield "imputed in turns", IterativeImputer(max_iter=2).fit(DATA["missing"][0])
    frozen = FrozenEstimator(LogisticRegression().fit(*DATA["two classes"]))
    yield "frozen", frozen
    yield "calibrated frozen", calibration.CalibratedClassifierCV(frozen).fit(*DATA["two classes"])
    for kind in (np.number, np.floating, np.integer):
        chosen = make_column_selector(dtype_include=kind)
        columns = ColumnTransformer([("n", preprocessing.StandardScaler(), chosen)])
        if (made := fitted_on(DATA["table"], columns)) is not None:
            yield f"columns of {kind.__name__}", made
    positions = DATA["two classes"][0][:, :2] / 4
    model = neighbors.KNeighborsRegressor(2, metric="haversine", algorithm="ball_tree")
    yield "neighbors on a globe", model.fit(positions, positions[:, 0])
    for name, drawn in {
        "loguniform": stats.loguniform(0.01, 1.0),
        "uniform": stats.uniform(0.1, 1.0),
    }.items():
        search = model_selection.RandomizedSearchCV(Ridge(), {"alpha": drawn}, n_iter=2, cv=2)
        yield f"a search that draws {name}", search.fit(*DATA["numbers"])
    search = model_selection.RandomizedSearchCV(
        DecisionTreeRegressor(), {"max_depth": stats.randint(1, 4)}, n_iter=2, cv=2
    )
    yield "a search that draws numbers", search.fit(*DATA["numbers"])


def _scaled(model: Any) -> tuple[Any, ...]:
    return SimpleImputer(), preprocessing.StandardScaler(), model


def _columns() -> Any:
    return ColumnTransformer(
        [
            ("n", preprocessing.StandardScaler(), ["a", "b"]),
            ("p", preprocessing.KBinsDiscretizer(3, encode="ordinal"), ["c"]),
            ("x", "passthrough", slice(3, 4)),
        ]
    )


def _texts() -> Any:
    return ColumnTransformer(
        [("o", preprocessing.OneHotEncoder(), ["a"]), ("w", TfidfVectorizer(), "b")],
        remainder="drop",
    )


def _selected() -> Any:
    chosen = make_column_selector(dtype_include=object)
    return ColumnTransformer([("o", preprocessing.OrdinalEncoder(), chosen)], remainder="drop")


def _fitted(models: dict[str, tuple[str, Any]]) -> Iterator[Model]:
    for name, (data, model) in models.items():
        if (made := fitted_on(DATA[data], model)) is not None:
            yield name, made


def _kernels() -> Iterator[Model]:
    of = [
        kind()
        for _, kind in inspect.getmembers(kernels, inspect.isclass)
        if issubclass(kind, kernels.Kernel)
        and kind.__module__ == kernels.__name__
        and not inspect.isabstract(kind)
        and kind not in (kernels.CompoundKernel, kernels.Sum, kernels.Product)
        and kind not in (kernels.Exponentiation, kernels.KernelOperator)
    ]
    for kernel in (*of, of[0] + of[1], of[0] * of[1], kernels.RBF() ** 2.0):
        for name, kind, data in (
            ("regressor", gaussian_process.GaussianProcessRegressor, "numbers"),
            ("classifier", gaussian_process.GaussianProcessClassifier, "words"),
        ):
            made = fitted_on(DATA[data], kind(kernel, optimizer=None))
            if made is not None:
                yield f"process {name} {type(kernel).__name__}", made


def _searches() -> Iterator[Model]:
    for scoring in metrics.get_scorer_names():
        for name, data, model in (
            ("classifier", "two classes", LogisticRegression()),
            ("regressor", "numbers", Ridge()),
        ):
            search = model_selection.GridSearchCV(model, {}, scoring=scoring, cv=2)
            if (made := fitted_on(DATA[data], search)) is not None:
                yield f"search {scoring} {name}", made
    for name in model_selection.__all__:
        kind = getattr(model_selection, name)
        if not (inspect.isclass(kind) and hasattr(kind, "split")):
            continue
        try:
            splits = kind(2) if name.startswith("LeaveP") else kind()
        except TypeError:
            continue
        search = model_selection.GridSearchCV(Ridge(), {"alpha": [1.0]}, cv=splits)
        if (made := fitted_on(DATA["numbers"], search)) is not None:
            yield f"search by {name}", made
    made = model_selection.RandomizedSearchCV(Ridge(), {"alpha": [1.0, 2.0]}, n_iter=2, cv=2)
    yield "random search", made.fit(*DATA["numbers"])


def _distances() -> Iterator[Model]:
    named = {"minkowski": {"p": 3}, "seuclidean": {"V": np.ones(4)}}
    named |= {"mahalanobis": {"VI": np.eye(4)}}
    for algorithm, kind in (("ball_tree", neighbors.BallTree), ("kd_tree", neighbors.KDTree)):
        for metric in kind.valid_metrics:
            for data in ("two classes", "single precision"):
                model = neighbors.KNeighborsClassifier(
                    2, algorithm=algorithm, metric=metric, metric_params=named.get(metric)
                )
                if (made := fitted_on(DATA[data], model)) is not None:
                    yield f"{algorithm} {metric} of {data}", made
    yield "a tree of points", neighbors.KDTree(DATA["two classes"][0])
    yield "density", neighbors.KernelDensity().fit(DATA["two classes"][0])
    yield "a table", pd.DataFrame(DATA["table"][0])
