"""Saved results of statsmodels: time series and regressions."""

from __future__ import annotations

from bundleserver.frameworks.interface import FileFacts, Flavour, Framework, has_class_of
from bundleserver.frameworks.pickles import PICKLE_SUFFIXES, top_package

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
    flavour=Flavour("statsmodels", lambda directory, said: str(said.get("data", ""))),
)
