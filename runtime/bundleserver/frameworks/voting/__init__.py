"""Ensembles that combine the votes of named members."""

from __future__ import annotations

from pathlib import Path

from bundleserver.frameworks.file_facts import FileFacts, FileRole, Opens
from bundleserver.frameworks.file_names import suffix_of
from bundleserver.frameworks.interface import Framework
from bundleserver.frameworks.pickles import PICKLE_SUFFIXES, ClassName, held_in
from bundleserver.frameworks.regular_files import open_regular

_HEAD_BYTES = 65_536
_DICTS = (ClassName("builtins", "dict"), ClassName("collections", "OrderedDict"))


def _recognises(model: object) -> bool:
    """Ask whether an object is the dict of an ensemble's configuration."""
    return isinstance(model, dict) and {"methods", "weights"} <= model.keys()


def _sniff(path: Path) -> FileRole | None:
    """Recognise a configuration by its keys; a dict without weights by its file's name too."""
    if suffix_of(path.name) == ".json":
        with open_regular(path) as file:
            head = file.read(_HEAD_BYTES)
        return "model" if b'"methods"' in head and b'"weights"' in head else None
    held = held_in(path)
    is_named = any(word in path.stem.lower() for word in ("config", "ensemble"))
    wanted = {"methods"} if is_named else {"methods", "weights"}
    is_dict = held.made_by in _DICTS
    return "model" if is_dict and wanted <= held.keys else None


FRAMEWORK = Framework(
    name="ensemble",
    module="bundleserver.frameworks.voting.framework",
    extra="sklearn",
    suffixes=PICKLE_SUFFIXES | {".json"},
    sniff=_sniff,
    facts=lambda path: FileFacts("an ensemble's configuration", "model"),
    recognises=_recognises,
    opens=Opens.READER,
)
