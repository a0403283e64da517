"""What can be told of a model file without opening it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

FileRole = Literal["model", "preprocessor"]
"""What a file's object does in a bundle: it predicts, or it transforms a model's inputs."""


@dataclass(frozen=True)
class FileFacts:
    """What can be told of a file's object without opening it.

    Attributes:
        what: the object for messages: ``a StandardScaler``.
        role: what its class does: ``model``; ``target`` (it transforms a model's target) or
            ``target sets`` (and back to a set for each row, which is not a tensor); or the kind of
            a transformer, such as ``scaler``, which may be of the target too if its name says so,
            as ``feature encoder`` is never; empty if its class does not tell.
        takes: how many columns it takes, if known.
        gives: how many columns it returns, if known.
        libraries: the versions of libraries that the file names, by distribution: those that wrote
            it.
        modules: those whose classes and functions the file names.
    """

    what: str
    role: str = ""
    takes: int | None = None
    gives: int | None = None
    libraries: Mapping[str, frozenset[str]] = field(default_factory=dict)
    modules: frozenset[str] = frozenset()


class Opens(Enum):
    """What a framework opens of a component's file."""

    CONTENT = "content"
    """The content, whatever the path."""

    READER = "reader"
    """The content, and only through ``open_regular``, which need not be given a copy."""

    NAME = "name"
    """The content, by a name with the file's suffix, and perhaps files beside it."""

    DIRECTORY = "directory"
    """The whole directory of the file."""
