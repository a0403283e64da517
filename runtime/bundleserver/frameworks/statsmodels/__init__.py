"""Saved results of statsmodels: time series and regressions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bundleserver.frameworks.file_facts import FileFacts, Opens
from bundleserver.frameworks.flavour import Flavour, LoggedColumn
from bundleserver.frameworks.interface import Framework, has_class_of
from bundleserver.frameworks.pickles import PICKLE_SUFFIXES, top_class, top_package

_MLFLOWS_OWN = frozenset({"start", "end"})
"""MLflow's inputs of a forecast, where ours are of the forecast contract."""


def _options(file: Path, columns: Sequence[LoggedColumn]) -> Mapping[str, object] | None:
    """Leave MLflow's own forecasts to it, and regressions on anything but numbers."""
    held = top_class(file)
    if held is not None and held.module.startswith("statsmodels.tsa."):
        return None if {column.name for column in columns} >= _MLFLOWS_OWN else {}
    is_plain = all(column.type == "double" and column.required for column in columns)
    return {} if is_plain else None


FRAMEWORK = Framework(
    name="statsmodels",
    module="bundleserver.frameworks.statsmodels.framework",
    library="statsmodels",
    extra="statsmodels",
    distributions=("statsmodels", "pandas", "patsy", "scipy"),
    suffixes=PICKLE_SUFFIXES,
    sniff=lambda path: "model" if top_package(path) == "statsmodels" else None,
    facts=lambda path: FileFacts("a statsmodels result", "model"),
    recognises=lambda model: has_class_of(model, "statsmodels"),
    flavour=Flavour("statsmodels", lambda directory, said: str(said.get("data", "")), _options),
    opens=Opens.READER,
)
