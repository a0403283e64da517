"""Fitted scikit-learn estimators and pipelines, and whatever else has their API."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bundleserver.errors import LoadError
from bundleserver.frameworks.file_facts import FileRole, Opens
from bundleserver.frameworks.file_names import says_only_compressed
from bundleserver.frameworks.flavour import Flavour, number_columns
from bundleserver.frameworks.interface import Framework, has_class_of
from bundleserver.frameworks.pickles import PICKLE_SUFFIXES, held_in
from bundleserver.frameworks.sklearn.roles import facts_of

_BOOSTING = {"lightgbm": "LGBM", "catboost": "CatBoost"}
"""Libraries with native models, and the prefix of their scikit-learn estimators' names."""


def native_model(model: object) -> str | None:
    """Describe a native model of a boosting library; None for any other object."""
    for library, estimators in _BOOSTING.items():
        if has_class_of(model, library) and not hasattr(type(model), "get_params"):
            kind = type(model)
            return _native(f"{kind.__module__}.{kind.__qualname__}", library, estimators)
    return None


def _native(name: str, library: str, estimators: str) -> str:
    return (
        f"a {name}, which is not a scikit-learn estimator; save the estimator of "
        f"{library}'s scikit-learn API instead ({estimators}Classifier, {estimators}Regressor)"
    )


def _recognises(model: object) -> bool:
    """Ask whether an object is an estimator, fitted or not: by its base, or by its methods."""
    kind = type(model)
    if kind.__module__ == "catboost.core":
        return False  # another framework's; classes that extend it are pickled here
    bases = {f"{base.__module__}.{base.__qualname__}" for base in kind.__mro__}
    return "sklearn.base.BaseEstimator" in bases or (
        hasattr(kind, "fit")
        and hasattr(kind, "get_params")
        and (hasattr(kind, "predict") or hasattr(kind, "transform"))
    )


def _sniff(path: Path) -> FileRole | None:
    """Claim every pickle but plain data and the native models of boosting libraries.

    Raises:
        LoadError: the file has such a model.
    """
    held = held_in(path)
    if held.made_by is None:
        return None if says_only_compressed(path.name) else "model"
    if held.is_plain:
        return None
    library = held.made_by.module.partition(".")[0]
    estimators = _BOOSTING.get(library, "")
    if estimators not in held.made_by.qualname:
        raise LoadError(f"'{path}' has {_native(str(held.made_by), library, estimators)}")
    return "model" if facts_of(held).role in ("", "model") else "preprocessor"


def _logged_file(directory: Path, said: Mapping[str, object]) -> str | None:
    """Open pickles, joblib's and cloudpickle's included; skops has a format of its own."""
    is_pickle = said.get("serialization_format", "pickle") in ("pickle", "cloudpickle")
    return str(said.get("pickled_model", "")) or None if is_pickle else None


FRAMEWORK = Framework(
    name="sklearn",
    module="bundleserver.frameworks.sklearn.framework",
    library="sklearn",
    extra="sklearn",
    distributions=("scikit-learn", "joblib", "scipy"),
    suffixes=PICKLE_SUFFIXES,
    sniff=_sniff,
    facts=lambda path: facts_of(held_in(path)),
    recognises=_recognises,
    flavour=Flavour("sklearn", _logged_file, number_columns),
    # For one function that reads files in a format of its own: half a second, and 65 MiB.
    left_out=("pandas",),
    opens=Opens.READER,
)
