"""The table of frameworks, and what every framework promises.

A framework is one module with the three functions of :class:`FrameworkModule`, and one row in
``_BUILT_IN``. Another distribution adds one with an entry point in the group
``bundleserver.frameworks`` whose value is a :class:`Framework`. A framework's module, and its
library, is imported when a bundle needs it and not before.
"""

from __future__ import annotations

import difflib
import functools
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, cast

from bundleserver.errors import FrameworkError
from bundleserver.frameworks.lean_imports import without
from bundleserver.tensors import Array, NamedTensor
from bundleserver.tensors.signature import Signature


class Predictor(Protocol):
    """One opened component: named methods over arrays.

    Called from worker threads, several at a time.
    """

    @property
    def methods(self) -> Mapping[str, Signature]:
        """The methods, each with what it takes and gives; the first is the default."""

    def call(
        self, method: str, inputs: Sequence[NamedTensor], parameters: Mapping[str, object]
    ) -> Sequence[Array]:
        """Run one method on the inputs, given by position, and return its outputs by position.

        Raises:
            InvalidInput: the model refuses a value (the caller's to mend).
            Exception: anything else is the model's own failure and is passed on as it is.
        """

    def close(self) -> None:
        """Give back what the component holds; no call comes after."""


@dataclass(frozen=True)
class LoadContext:
    """What a framework may know while it opens a file: its options and where to put tensors."""

    options: Mapping[str, object] = field(default_factory=dict)
    device: str = "cpu"


class FrameworkModule(Protocol):
    """The three functions of a framework's module."""

    def load(self, path: Path, context: LoadContext) -> Predictor:
        """Open one file.

        Raises:
            LoadError: names the file, what is wrong with it and what to do.
        """

    def save(self, model: object, directory: Path, stem: str) -> tuple[Path, dict[str, object]]:
        """Write a fitted object as ``directory/stem.<suffix>``; return the file and options."""

    def recognises(self, model: object) -> bool:
        """Ask whether this framework saves that object."""


@dataclass(frozen=True)
class Framework:
    """One row of the table.

    ``roots`` are the top-level packages whose classes belong to it, ``extra`` the extra that
    installs its library, ``distributions`` the packages whose versions a bundle records,
    ``left_out`` those that the library imports where they are there, and does well without.
    """

    name: str
    module: str
    roots: tuple[str, ...]
    extra: str
    distributions: tuple[str, ...]
    left_out: tuple[str, ...] = ()


ENTRY_POINT_GROUP = "bundleserver.frameworks"

BUNDLE = "bundle"
"""A component that is itself a bundle, in a sub-directory."""

MODEL = "model"
"""A component that is another model served by the same process."""

_BUILT_IN = (
    Framework(
        "prophet",
        "bundleserver.frameworks.prophet.framework",
        ("prophet",),
        "prophet",
        ("prophet", "pandas"),
    ),
    Framework(
        "statsmodels",
        "bundleserver.frameworks.statsmodels.framework",
        ("statsmodels",),
        "statsmodels",
        ("statsmodels", "pandas", "scipy"),
    ),
    Framework("torch", "bundleserver.frameworks.torch.framework", ("torch",), "torch", ("torch",)),
    Framework("ensemble", "bundleserver.frameworks.voting.framework", (), "sklearn", ()),
    Framework(
        "sklearn",
        "bundleserver.frameworks.sklearn.framework",
        ("sklearn", "xgboost", "lightgbm", "catboost"),
        "sklearn",
        ("scikit-learn", "joblib", "scipy"),
        # For one function that reads files in a format of its own: half a second, and 65 MiB.
        left_out=("pandas",),
    ),
    Framework(
        "pyfunc", "bundleserver.frameworks.pyfunc.framework", (), "mlflow", ("mlflow-skinny",)
    ),
)


@functools.cache
def frameworks() -> Mapping[str, Framework]:
    """Return every framework by name: the built-in ones, then those of installed entry points."""
    rows = {row.name: row for row in _BUILT_IN}
    for point in metadata.entry_points(group=ENTRY_POINT_GROUP):
        row = point.load()
        if not isinstance(row, Framework):
            raise FrameworkError(
                f"entry point '{point.name}' of group '{ENTRY_POINT_GROUP}' is a "
                f"{type(row).__name__}; expected a bundleserver.frameworks.Framework"
            )
        rows.setdefault(row.name, row)
    return MappingProxyType(rows)


def framework_names() -> tuple[str, ...]:
    """Return every name that a manifest's ``framework`` may have."""
    return (*sorted(frameworks()), BUNDLE, MODEL)


def framework_module(name: str) -> FrameworkModule:
    """Import the module of a framework, and make sure that its library can be imported.

    Raises:
        FrameworkError: the name is unknown, or the library is not installed.
    """
    row = frameworks().get(name)
    if row is None:
        near = difflib.get_close_matches(name, frameworks(), n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        known = ", ".join(f"'{known}'" for known in sorted(frameworks()))
        raise FrameworkError(f"framework is '{name}'; expected one of {known}{hint}")
    try:
        with without(row.left_out):
            module = importlib.import_module(row.module)
    except ModuleNotFoundError as error:
        raise _not_installed(row, error.name) from error
    # Some modules import their library with the first file only.
    if row.roots and not any(find_spec(root) for root in row.roots):
        raise _not_installed(row, row.roots[0])
    return cast(FrameworkModule, module)


def _not_installed(row: Framework, package: str | None) -> FrameworkError:
    return FrameworkError(
        f"framework '{row.name}' needs the package '{package}', which is not installed; install "
        f"it with: pip install 'bundleserver[{row.extra}]'"
    )


def framework_of_class(module: str) -> str | None:
    """Name the framework to which a class belongs, from the module that defines it.

    ``statsmodels.tsa.arima.model`` belongs to ``statsmodels``; an unknown root gives None.
    """
    root = module.partition(".")[0]
    return next((name for name, row in frameworks().items() if root in row.roots), None)


def framework_for(model: object) -> str | None:
    """Name the framework that saves a fitted object, or None.

    The object's class and its bases decide; their libraries are imported already, no other is.
    """
    if isinstance(model, dict):
        return "ensemble" if {"methods", "weights"} <= model.keys() else None
    for base in type(model).__mro__:
        name = framework_of_class(base.__module__)
        if name is not None:
            return name
    return None
