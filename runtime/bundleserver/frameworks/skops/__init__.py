"""Fitted scikit-learn estimators and pipelines in skops' format, which needs no pickle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bundleserver.errors import LoadError
from bundleserver.frameworks.file_facts import FileFacts, FileRole, Opens
from bundleserver.frameworks.file_names import suffix_of
from bundleserver.frameworks.flavour import Flavour, LoggedColumn
from bundleserver.frameworks.interface import Framework
from bundleserver.frameworks.sklearn.roles import facts_of, logged_columns
from bundleserver.frameworks.skops.outline import held_in

SUFFIX = ".skops"


def _sniff(path: Path) -> FileRole | None:
    """Claim what is no plain data; what is damaged is a model, and opening it says why."""
    try:
        held = held_in(path)
    except LoadError:
        return "model"
    if held.is_plain:
        return None
    return "model" if facts_of(held).role in ("", "model") else "preprocessor"


def _logged_file(directory: Path, said: Mapping[str, object]) -> str | None:
    """Open what MLflow wrote with skops."""
    is_skops = said.get("serialization_format") == "skops"
    name = said.get("pickled_model")
    if name is None and suffix_of(str(said.get("data"))) == SUFFIX:
        name = said["data"]  # LightGBM's flavour, of estimators
    return str(name or "") or None if is_skops else None


def _facts(path: Path) -> FileFacts | None:
    try:
        return facts_of(held_in(path))
    except LoadError:
        return None


def _options(file: Path, columns: Sequence[LoggedColumn]) -> Mapping[str, object] | None:
    return logged_columns(_facts(file), columns, file)


FRAMEWORK = Framework(
    name="skops",
    module="bundleserver.frameworks.skops.framework",
    library="skops",
    extra="skops",
    distributions=("scikit-learn", "skops", "scipy"),
    suffixes=frozenset({SUFFIX}),
    sniff=_sniff,
    facts=_facts,
    flavour=Flavour("sklearn", _logged_file, _options, ("lightgbm",)),
    # skops looks through all of scikit-learn, which has adapters for these.
    left_out=("pandas", "torch", "cupy", "dask", "jax"),
    opens=Opens.READER,
)
