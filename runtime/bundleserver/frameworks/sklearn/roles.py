"""What an estimator in a pickle does, and its widths, by its class and without opening it.

A class decides before the name of its file: ``TargetEncoder`` transforms features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bundleserver.frameworks.file_facts import FileFacts
from bundleserver.frameworks.flavour import LoggedColumn, number_columns
from bundleserver.frameworks.pickles import ClassName, Held

_TARGETS = {
    "LabelEncoder": "target",
    "LabelBinarizer": "target",
    "MultiLabelBinarizer": "target sets",
}

_ENDS = {
    "Scaler": "scaler",
    "Normalizer": "scaler",
    "QuantileTransformer": "scaler",
    "PowerTransformer": "scaler",
    "Imputer": "imputer",
    "MissingIndicator": "imputer",
    "TargetEncoder": "feature encoder",
    "Encoder": "encoder",
    "Vectorizer": "vectorizer",
    "FeatureHasher": "vectorizer",
    "TfidfTransformer": "vectorizer",
    "Transformer": "preprocessor",
    "FeatureUnion": "preprocessor",
    "FeatureAgglomeration": "reducer",
    "Isomap": "reducer",
    "LocallyLinearEmbedding": "reducer",
    "NeighborhoodComponentsAnalysis": "reducer",
    "BernoulliRBM": "reducer",
}
"""How the names of transformers end, and what they are."""

_MODULES = {
    "sklearn.preprocessing": "preprocessor",
    "sklearn.feature_extraction": "vectorizer",
    "sklearn.feature_selection": "selector",
    "sklearn.decomposition": "reducer",
    "sklearn.random_projection": "reducer",
    "sklearn.kernel_approximation": "reducer",
    "category_encoders": "encoder",
}
"""Modules of transformers."""

_MODELS = ("sklearn", "xgboost", "lightgbm", "catboost")
"""Libraries in which everything else is a model."""

_KEEPING = frozenset(
    {
        "StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler", "Normalizer",
        "QuantileTransformer", "PowerTransformer", "OrdinalEncoder",
    }
)  # fmt: skip
"""Transformers with as many columns after as before."""

_COUNTS = ("n_components_", "n_output_features_", "n_features_out_")
"""Attributes that count the columns of a result."""


def logged_columns(
    facts: FileFacts | None, columns: Sequence[LoggedColumn], file: Path
) -> Mapping[str, object] | None:
    """Return the options for an MLflow signature's columns; None: only MLflow enforces them.

    LightGBM's estimators know names with spaces by others, and MLflow hands them on as they are.
    """
    modules = facts.modules if facts is not None else ()
    of_lightgbm = any(module.partition(".")[0] == "lightgbm" for module in modules)
    if of_lightgbm and any(" " in column.name for column in columns):
        return None
    return number_columns(file, columns)


def facts_of(held: Held) -> FileFacts:
    """Return what a pickled estimator does, as far as its class says, and its widths."""
    last = _last(held)
    role = _role(last.made_by)
    if last is not held and role not in ("", "model", *_TARGETS.values()):
        role = "preprocessor"
    saved_with = {"scikit-learn": held.sklearn_versions} if held.sklearn_versions else {}
    takes = _width(_first(held), "n_features_in_")
    modules = frozenset(name.module for name in held.named)
    return FileFacts(held.what, role, takes, _gives(last), saved_with, modules)


def _role(kind: ClassName | None) -> str:
    if kind is None:
        return ""
    name = kind.qualname.rpartition(".")[2]
    if kind.module.startswith("sklearn.preprocessing") and name in _TARGETS:
        return _TARGETS[name]
    ends = (role for end, role in _ENDS.items() if name.endswith(end))
    modules = (role for module, role in _MODULES.items() if kind.module.startswith(module))
    package = kind.module.partition(".")[0]
    if package in _MODELS:
        return next(ends, next(modules, "model"))
    known = next(modules, "")
    return known and next(ends, known)


def _first(held: Held) -> Held:
    """Follow pipelines and searches to the estimator that gets the input."""
    return _first(held.parts[0]) if held.parts else held


def _last(held: Held) -> Held:
    """Follow pipelines and searches to the estimator that returns the output."""
    return _last(held.parts[-1]) if held.parts else held


def _gives(held: Held) -> int | None:
    name = held.made_by.qualname if held.made_by else ""
    if name in _KEEPING:
        return _width(held, "n_features_in_")
    if "vocabulary_" in held.lengths:
        return held.lengths["vocabulary_"]
    return next(filter(None, (_width(held, count) for count in _COUNTS)), None)


def _width(held: Held, attribute: str) -> int | None:
    """Return a width; 0, which CatBoost's have after unpickling, is unknown."""
    return held.numbers.get(attribute) or None
