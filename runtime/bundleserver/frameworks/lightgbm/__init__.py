"""Boosters of LightGBM: text files, and pickles of ``lightgbm.Booster``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bundleserver.frameworks.file_facts import FileFacts, FileRole, Opens
from bundleserver.frameworks.file_names import suffix_of
from bundleserver.frameworks.flavour import Flavour, number_columns
from bundleserver.frameworks.interface import Framework, has_class_of
from bundleserver.frameworks.lightgbm_text.model import START, width_in
from bundleserver.frameworks.pickles import PICKLE_SUFFIXES, top_class
from bundleserver.frameworks.regular_files import open_regular

_HEAD_BYTES = 65_536
_OWN = ".lgb"
"""The suffix of nothing else; other texts are models by their first line."""

_BOOSTER = "lightgbm.basic.Booster"


def _head(path: Path, size: int) -> bytes:
    with open_regular(path) as file:
        return file.read(size)


def _sniff(path: Path) -> FileRole | None:
    """Claim texts of LightGBM, and pickles of its boosters; its estimators are scikit-learn's."""
    suffix = suffix_of(path.name)
    if suffix in PICKLE_SUFFIXES:
        return "model" if str(top_class(path)) == _BOOSTER else None
    head = _head(path, len(START) + 1)
    if suffix == ".bst":  # XGBoost's too
        return "model" if head.startswith(START.strip()) else None
    is_text = head.splitlines()[:1] == [START.strip()]
    return "model" if is_text or suffix == _OWN else None


def _facts(path: Path) -> FileFacts:
    is_text = suffix_of(path.name) not in PICKLE_SUFFIXES
    width = width_in(_head(path, _HEAD_BYTES)) if is_text else None
    return FileFacts("a LightGBM booster", "model", takes=width)


def _recognises(model: object) -> bool:
    """Ask whether an object is a booster; what has scikit-learn's API is scikit-learn's."""
    return has_class_of(model, "lightgbm") and not hasattr(type(model), "get_params")


def _logged_file(directory: Path, said: Mapping[str, object]) -> str | None:
    """Open native boosters; estimators of the scikit-learn API are pickles of MLflow's own."""
    is_native = said.get("model_class", _BOOSTER) == _BOOSTER
    return str(said.get("data", "")) or None if is_native else None


FRAMEWORK = Framework(
    name="lightgbm",
    module="bundleserver.frameworks.lightgbm.framework",
    library="lightgbm",
    extra="lightgbm",
    distributions=("lightgbm",),
    suffixes=PICKLE_SUFFIXES | {".txt", ".bst", _OWN},
    sniff=_sniff,
    facts=_facts,
    recognises=_recognises,
    flavour=Flavour("lightgbm", _logged_file, number_columns),
    # It plots trees, and trains in clusters.
    left_out=("dask", "datatable", "distributed", "graphviz", "matplotlib"),
    opens=Opens.READER,
)
