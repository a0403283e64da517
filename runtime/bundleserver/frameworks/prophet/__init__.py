"""Prophet models."""

from __future__ import annotations

from pathlib import Path

from bundleserver.frameworks.file_facts import FileFacts, FileRole, Opens
from bundleserver.frameworks.file_names import suffix_of
from bundleserver.frameworks.flavour import Flavour
from bundleserver.frameworks.interface import Framework, has_class_of
from bundleserver.frameworks.pickles import PICKLE_SUFFIXES, top_package
from bundleserver.frameworks.regular_files import open_regular

_HEAD_BYTES = 65_536


def _sniff(path: Path) -> FileRole | None:
    """Recognise a model's JSON by two of its first keys."""
    if suffix_of(path.name) != ".json":
        return "model" if top_package(path) == "prophet" else None
    with open_regular(path) as file:
        head = file.read(_HEAD_BYTES)
    return "model" if b"changepoint_prior_scale" in head and b"growth" in head else None


FRAMEWORK = Framework(
    name="prophet",
    module="bundleserver.frameworks.prophet.framework",
    library="prophet",
    extra="prophet",
    distributions=("prophet", "pandas"),
    suffixes=PICKLE_SUFFIXES | {".json"},
    sniff=_sniff,
    facts=lambda path: FileFacts("a Prophet model", "model"),
    recognises=lambda model: has_class_of(model, "prophet"),
    # A forecast has dates and regressors by name, as MLflow's signatures have them.
    flavour=Flavour(
        "prophet", lambda directory, said: str(said.get("data", "")), lambda file, columns: {}
    ),
    opens=Opens.READER,
)
