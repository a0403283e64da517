"""CatBoost's models: in its own files, ``.cbm``, and in pickles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bundleserver.frameworks.cbm import MAGIC, Damaged, Model, read_model
from bundleserver.frameworks.cbm.loss import class_of_file
from bundleserver.frameworks.file_facts import FileFacts, FileRole, Opens
from bundleserver.frameworks.file_names import suffix_of
from bundleserver.frameworks.flavour import Flavour, LoggedColumn
from bundleserver.frameworks.interface import Framework
from bundleserver.frameworks.pickles import PICKLE_SUFFIXES, held_in
from bundleserver.frameworks.regular_files import open_regular

CLASSES = ("CatBoost", "CatBoostClassifier", "CatBoostRegressor", "CatBoostRanker")
"""The library's classes of models."""

SUFFIX = ".cbm"
_MODULE = "catboost.core"
_NUMBERS = {"double": "FP64", "long": "INT64", "integer": "INT32"}
"""Types of MLflow's columns that are enforced here as there."""


def is_own_file(path: Path) -> bool:
    """Ask whether a file begins as the library's own do."""
    with open_regular(path) as file:
        return file.read(len(MAGIC)) == MAGIC


def _recognises(model: object) -> bool:
    """Ask whether an object is a model of the library, and of no class that extends its own."""
    return type(model).__module__ == _MODULE and type(model).__name__ in CLASSES


def _sniff(path: Path) -> FileRole | None:
    """Claim files of the library's own format, and pickles of its models."""
    if suffix_of(path.name) == SUFFIX:
        return "model"  # a file without the first bytes is refused with what is wrong with it
    made_by = held_in(path).made_by
    is_model = made_by is not None and made_by.module == _MODULE and made_by.qualname in CLASSES
    return "model" if is_model else None


def _facts(path: Path) -> FileFacts | None:
    """Return the width that a file of the library's own format says."""
    if suffix_of(path.name) != SUFFIX and not is_own_file(path):
        return FileFacts(held_in(path).what, "model")
    try:
        model = _read(path)
    except Damaged:
        return FileFacts("a damaged CatBoost model", "model")
    return FileFacts(f"a {class_of_file(model)}", "model", takes=model.width or None)


def _read(path: Path) -> Model:
    with open_regular(path) as file:
        return read_model(file.read())


def _logged_file(directory: Path, said: Mapping[str, object]) -> str | None:
    """Open models in the library's own format whose class the file tells."""
    name = str(said.get("data", ""))
    if said.get("save_format", "cbm") != "cbm" or not name:
        return None
    if Path(name).name != name:
        return name  # whoever opens it says what such a path is
    try:
        told = class_of_file(_read(directory / name))
    except (Damaged, OSError):
        return name  # opening it says what is wrong
    return name if told == said.get("model_type", told) else None


def _options(file: Path, columns: Sequence[LoggedColumn]) -> Mapping[str, object] | None:
    """Enforce columns of numbers with names; MLflow enforces all other columns."""
    datatypes = {column.name: _NUMBERS.get(column.type) for column in columns if column.required}
    if not all(datatypes.values()) or len(datatypes) < len(columns) or "" in datatypes:
        return None
    return {"columns": datatypes} if columns else {}


FRAMEWORK = Framework(
    name="catboost",
    module="bundleserver.frameworks.catboost.framework",
    library="catboost",
    extra="catboost",
    distributions=("catboost",),
    suffixes=PICKLE_SUFFIXES | {SUFFIX},
    sniff=_sniff,
    facts=_facts,
    recognises=_recognises,
    flavour=Flavour("catboost", _logged_file, _options),
    # Pictures and widgets of notebooks.
    left_out=("graphviz", "ipywidgets", "IPython", "matplotlib", "plotly", "traitlets"),
    opens=Opens.READER,
)
