"""MLflow's flavours: which of MLflow's models a framework opens from their own files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_NUMBERS = {"double": "FP64", "long": "INT64", "integer": "INT32"}
"""Types of MLflow's columns that tables of numbers have too."""


class LoggedColumn(NamedTuple):
    """An input column of an MLflow signature; ``type`` is MLflow's, such as ``long``."""

    name: str
    type: str
    required: bool


def only_without_columns(
    file: Path, columns: Sequence[LoggedColumn]
) -> Mapping[str, object] | None:
    """Leave columns to MLflow."""
    return None if columns else {}


def number_columns(file: Path, columns: Sequence[LoggedColumn]) -> Mapping[str, object] | None:
    """Enforce columns of numbers with names; MLflow enforces all other columns."""
    datatypes = {column.name: _NUMBERS.get(column.type) for column in columns if column.required}
    if not all(datatypes.values()) or len(datatypes) < len(columns) or "" in datatypes:
        return None
    return {"columns": datatypes} if columns else {}


@dataclass(frozen=True)
class Flavour:
    """An MLflow flavour, and which of its models the framework opens as MLflow does.

    Attributes:
        name: MLflow's name of it.
        others: names of flavours that write the same files, and answer with the same method.
        file_of: returns the file, relative to the model's directory, from that directory and the
            flavour's section of ``MLmodel``; None: only MLflow opens this model.
        options_of: returns the component's options, from the file and the columns of the model's
            signature; None: only MLflow enforces them.
    """

    name: str
    file_of: Callable[[Path, Mapping[str, object]], str | None]
    options_of: Callable[[Path, Sequence[LoggedColumn]], Mapping[str, object] | None] = (
        only_without_columns
    )
    others: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All names, its own first."""
        return (self.name, *self.others)
