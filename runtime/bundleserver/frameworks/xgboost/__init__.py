"""XGBoost's own models: files in its two formats, and pickles of a booster."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from bundleserver.frameworks.file_facts import FileFacts, FileRole, Opens
from bundleserver.frameworks.file_names import suffix_of
from bundleserver.frameworks.flavour import Flavour, number_columns
from bundleserver.frameworks.interface import Framework, has_class_of
from bundleserver.frameworks.pickles import PICKLE_SUFFIXES, ClassName, held_in
from bundleserver.frameworks.regular_files import open_regular

_SUFFIXES = frozenset({".ubj", ".json", ".bst"})
_LOGGED = frozenset({".json", ".ubj", ".xgb"})

_JSON = re.compile(rb'\s*\{\s*"(learner|version)"\s*:')
_BOOSTERS = (ClassName("xgboost.core", "Booster"), ClassName("xgboost", "Booster"))
_OF_LIGHTGBM = b"tree"
_WIDTH = re.compile(rb'num_feature(?:"\s*:\s*"|SL\0{7}.)(\d{1,10})', re.DOTALL)
_HEAD_BYTES = 4096
_TAIL_BYTES = 65_536


def _sniff(path: Path) -> FileRole | None:
    """Claim .ubj; of .json what is a model; .bst unless it is LightGBM's; pickles of a booster."""
    suffix = suffix_of(path.name)
    if suffix not in _SUFFIXES:
        made_by = held_in(path).made_by
        return "model" if made_by in _BOOSTERS else None
    if suffix == ".ubj":
        return "model"
    with open_regular(path) as file:
        head = file.read(_HEAD_BYTES)
    is_own = _JSON.match(head) if suffix == ".json" else not head.startswith(_OF_LIGHTGBM)
    return "model" if is_own else None


def _facts(path: Path) -> FileFacts:
    """Read the number of columns from the end of a file, where XGBoost writes it."""
    found = []
    if suffix_of(path.name) in _SUFFIXES:
        with open_regular(path) as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
            tail = file.read(_TAIL_BYTES)
        found = _WIDTH.findall(tail[max(0, tail.rfind(b"learner_model_param")) :])
    return FileFacts("an XGBoost model", "model", takes=int(found[0]) if found else None)


def _logged_file(directory: Path, said: Mapping[str, object]) -> str | None:
    """Open what MLflow saved in a format of XGBoost's own."""
    data = str(said.get("data", ""))
    return data if suffix_of(data) in _LOGGED else None


def _recognises(model: object) -> bool:
    """Ask whether an object is a booster; scikit-learn's framework saves the estimators."""
    return has_class_of(model, "xgboost") and type(model).__qualname__ == "Booster"


FRAMEWORK = Framework(
    name="xgboost",
    module="bundleserver.frameworks.xgboost.framework",
    library="xgboost",
    extra="xgboost",
    distributions=("xgboost-cpu", "xgboost"),
    suffixes=_SUFFIXES | PICKLE_SUFFIXES,
    sniff=_sniff,
    facts=_facts,
    recognises=_recognises,
    flavour=Flavour("xgboost", _logged_file, number_columns),
    # For scikit-learn, which XGBoost imports: half a second, and 65 MiB.
    left_out=("pandas",),
    opens=Opens.READER,
)
