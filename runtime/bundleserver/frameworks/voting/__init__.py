"""Ensembles that combine the votes of named members."""

from __future__ import annotations

from pathlib import Path

from bundleserver.frameworks.interface import FileRole, Framework
from bundleserver.frameworks.pickles import PICKLE_SUFFIXES, ClassName, top_class

_HEAD_BYTES = 65_536


def _recognises(model: object) -> bool:
    """Ask whether an object is the dict of an ensemble's configuration."""
    return isinstance(model, dict) and {"methods", "weights"} <= model.keys()


def _sniff(path: Path) -> FileRole | None:
    """Recognise a configuration by its keys in JSON, or by a pickled dict and the file's name."""
    if path.suffix.lower() == ".json":
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        return "model" if b'"methods"' in head and b'"weights"' in head else None
    is_named = any(word in path.stem.lower() for word in ("config", "ensemble"))
    return "model" if is_named and top_class(path) == ClassName("builtins", "dict") else None


FRAMEWORK = Framework(
    name="ensemble",
    module="bundleserver.frameworks.voting.framework",
    extra="sklearn",
    suffixes=PICKLE_SUFFIXES | {".json"},
    sniff=_sniff,
    recognises=_recognises,
)
