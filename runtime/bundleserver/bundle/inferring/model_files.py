"""The model files of a directory without a manifest: what each is, and what it does there.

The frameworks say whose a file is and what its class does; nothing is unpickled. The name decides
only what the class leaves open: whose it is, and whether a scaler is one of the target.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bundleserver.bundle.inferring.first_bytes import refuse_other_suffix, what_is_ignored
from bundleserver.bundle.inferring.mlmodel_files import said_of_models_below
from bundleserver.errors import BundleError
from bundleserver.frameworks import (
    FileFacts,
    FileRole,
    facts_of_file,
    framework_of_file,
    is_model_file_name,
    model_suffixes,
)
from bundleserver.frameworks.file_names import stem_of, suffix_of
from bundleserver.frameworks.pickles import PICKLE_SUFFIXES, held_in

TRANSFORMING = ("preprocessor", "encoder", "scaler")
"""Roles by name that come before a model, in the order in which they run."""

TARGETS = ("target", "target sets")
"""Roles of what transforms a model's target."""

_PREDICTING = ("model", "autoencoder", "config")
_ROLE_WORDS = frozenset((*_PREDICTING, *TRANSFORMING))
_KINDS = _ROLE_WORDS | {"imputer", "normalizer", "pca", "selector", "transformer", "vectorizer"}
_OF_TARGET = frozenset({"y", "target", "targets", "label", "labels", "output", "outputs"})
_OF_FEATURES = frozenset({"x", "feature", "features", "input", "inputs"})


@dataclass(frozen=True)
class ModelFile:
    """A file that holds a model or a transformer.

    Attributes:
        name: the file's name.
        stem: whose it is: ``forest`` of ``forest_scaler.pkl``; empty if the name does not say.
        role: what it does.
        framework: who opens it.
        facts: what can be told of its object.
        says_features: its name says that it is for a model's features.
    """

    name: str
    stem: str
    role: str
    framework: str
    facts: FileFacts
    says_features: bool = False

    @property
    def predicts(self) -> bool:
        """Whether it is a model."""
        return self.role in _PREDICTING

    @property
    def is_of_target(self) -> bool:
        """Whether it transforms a model's target."""
        return self.role in TARGETS

    @property
    def description(self) -> str:
        """Its name and what it is, for messages."""
        width = self.facts.takes
        columns = "" if width is None else f" of {width} column{'s' if width > 1 else ''}"
        target = ", by its name for the target" if self._is_named_for_target else ""
        return f"'{self.name}' ({self.facts.what}{columns}{target})"

    @property
    def _is_named_for_target(self) -> bool:
        return self.is_of_target and self.facts.role not in TARGETS


@dataclass(frozen=True)
class Found:
    """What a directory holds: its model files, and data beside them with what each is."""

    files: Sequence[ModelFile]
    ignored: Mapping[str, str] = field(default_factory=dict)


def find_files(directory: Path, only: Collection[str] = ()) -> Found:
    """Find the files that hold models, and those that look so and hold plain data.

    Args:
        directory: where the files are; its sub-directories are ignored.
        only: names of the files to use; all if empty.

    Raises:
        BundleError: the directory or a file cannot be read, or there is no model file.
    """
    present = _listing(directory)
    missing = [name for name in only if name not in present]
    if missing:
        raise BundleError(f"{directory} has no file '{missing[0]}'; it has: {listed(present)}")
    chosen = [name for name in present if not only or name in only]
    found = {name: _model_file(directory / name) for name in chosen if is_model_file_name(name)}
    ignored = {name: _what(directory / name) for name, file in found.items() if file is None}
    files = [file for file in found.values() if file is not None]
    if not files:
        raise BundleError(_no_model(directory, chosen, ignored))
    return Found(files, ignored)


def _what(path: Path) -> str:
    """Say what a file is that no framework opens."""
    is_pickle = suffix_of(path.name) in PICKLE_SUFFIXES
    return held_in(path).what if is_pickle else what_is_ignored(path)


def listed(names: Sequence[str]) -> str:
    """Quote names for a message, ten at most."""
    return joined([f"'{name}'" for name in names])


def joined(phrases: Sequence[str]) -> str:
    """Join phrases for a message, ten at most."""
    shown = ", ".join(phrases[:10])
    return f"{shown} and {len(phrases) - 10} more" if len(phrases) > 10 else shown or "nothing"


def _listing(directory: Path) -> list[str]:
    try:
        return sorted(
            entry.name
            for entry in directory.iterdir()
            if not entry.name.startswith((".", "_")) and not entry.is_dir()
        )
    except OSError as error:
        raise BundleError(f"{directory} cannot be listed: {error.strerror or error}") from error


def _no_model(directory: Path, names: Sequence[str], ignored: Mapping[str, str]) -> str:
    described = [f"'{name}'" + (f" ({ignored[name]})" if name in ignored else "") for name in names]
    found = f"holds only {joined(described)}" if names else "is empty"
    suffixes = ", ".join("*" + suffix for suffix in sorted(model_suffixes()))
    said = f"{directory} {found}; expected manifest.json, or a model file ({suffixes})"
    return said + said_of_models_below(directory)


def _model_file(path: Path) -> ModelFile | None:
    if not path.is_file():
        # Without this a scaler could be left out silently.
        raise BundleError(
            f"'{path}' is a broken link or not a regular file; put the file itself there"
        )
    found = framework_of_file(path)
    if found is None:
        return None
    framework, content = found
    refuse_other_suffix(path, framework)
    facts = facts_of_file(path, framework, content)
    words = _words(stem_of(path.name))
    plain = [word.rstrip("0123456789") for word in words]
    stem = [w for w, p in zip(words, plain, strict=True) if p not in _KINDS | _OF_FEATURES]
    return ModelFile(
        path.name,
        "_".join(stem),
        _role(facts, content, plain),
        framework,
        facts,
        says_features=not _OF_FEATURES.isdisjoint(plain),
    )


def _role(facts: FileFacts, content: FileRole, words: Sequence[str]) -> str:
    """Say what a file does: by its class, else by its name, else by its content."""
    named = next((word for word in reversed(words) if word in _ROLE_WORDS), None)
    if facts.role == "model":
        return named if named in _PREDICTING else "model"
    if facts.role in TARGETS:
        return facts.role
    if facts.role == "feature encoder":
        return "encoder"
    role = facts.role or named or content
    if role not in _PREDICTING and not _OF_TARGET.isdisjoint(words):
        return "target"
    is_certain = role in TRANSFORMING or named not in TRANSFORMING
    return role if is_certain else str(named)


def _words(stem: str) -> list[str]:
    """Split ``scaler_y``, ``scalerY`` and ``yscaler`` into their words."""
    separated = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", stem).lower()
    words = re.split(r"[^a-z0-9]+", separated)
    return [part for word in words if word for part in _parts(word)]


def _parts(word: str) -> list[str]:
    for kind in _KINDS:
        for rest in (word.removeprefix(kind), word.removesuffix(kind)):
            if rest != word and rest.rstrip("0123456789") in _OF_TARGET | _OF_FEATURES:
                return [rest, kind] if word.endswith(kind) else [kind, rest]
    return [word]
