"""Fitted scikit-learn estimators and pipelines, and whatever else has their API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bundleserver.frameworks.file_facts import FileRole, Opens
from bundleserver.frameworks.file_names import says_only_compressed, suffix_of
from bundleserver.frameworks.flavour import Flavour, LoggedColumn
from bundleserver.frameworks.interface import Framework
from bundleserver.frameworks.pickles import PICKLE_SUFFIXES, held_in
from bundleserver.frameworks.sklearn.roles import facts_of, logged_columns


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
    """Claim every pickle but plain data."""
    held = held_in(path)
    if held.made_by is None:
        return None if says_only_compressed(path.name) else "model"
    if held.is_plain:
        return None
    return "model" if facts_of(held).role in ("", "model") else "preprocessor"


def _logged_file(directory: Path, said: Mapping[str, object]) -> str | None:
    """Open pickles, joblib's and cloudpickle's included; skops has a format of its own."""
    is_pickle = said.get("serialization_format", "pickle") in ("pickle", "cloudpickle")
    name = said.get("pickled_model")
    if name is None and suffix_of(str(said.get("data"))) in PICKLE_SUFFIXES:
        name = said["data"]  # LightGBM's flavour, of estimators
    return str(name or "") or None if is_pickle else None


def _options(file: Path, columns: Sequence[LoggedColumn]) -> Mapping[str, object] | None:
    return logged_columns(facts_of(held_in(file)), columns, file)


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
    flavour=Flavour("sklearn", _logged_file, _options, ("lightgbm",)),
    # For one function that reads files in a format of its own: half a second, and 65 MiB.
    left_out=("pandas",),
    opens=Opens.READER,
)
