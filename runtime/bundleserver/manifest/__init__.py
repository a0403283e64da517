"""The manifest of a bundle: which files it has, what runs on what, and how it was made.

``Manifest.from_json`` is the only way from JSON to these values; callers never see a raw dict.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, field, fields
from types import MappingProxyType
from typing import Any

import numpy as np

from bundleserver.documents.forms import Form, TooManyProblems
from bundleserver.documents.strict_json import pretty, read_object
from bundleserver.errors import ManifestError, Problem
from bundleserver.manifest.checks import manifest_problems
from bundleserver.manifest.forms import (
    BUNDLE,
    DEFAULT_RTOL,
    MANIFEST_VERSION,
    MODEL,
    MODEL_NAME,
    MODEL_NAME_IS,
    PYTHON,
    ManifestForm,
    manifest_schema,
)
from bundleserver.manifest.paths import CODE, MOST_CODE_FILES, MOST_CODE_LEVELS
from bundleserver.tensors import TensorSpec

__all__ = [
    "BUNDLE",
    "CODE",
    "DEFAULT_RTOL",
    "MANIFEST_NAME",
    "MANIFEST_VERSION",
    "MODEL",
    "MODEL_NAME_IS",
    "MOST_CODE_FILES",
    "MOST_CODE_LEVELS",
    "PYTHON",
    "CodeFile",
    "Component",
    "Example",
    "Manifest",
    "Requirements",
    "Step",
    "is_model_name",
    "manifest_schema",
]

MANIFEST_NAME = "manifest.json"
"""The file at the top of a bundle that makes it one."""


_MOST = {
    "components": 1_000,
    "code": MOST_CODE_FILES,
    "inputs": 10_000,
    "steps": 1_000,
    "outputs": 10_000,
    "examples": 1_000,
}


def is_model_name(name: str) -> bool:
    """Ask whether a model may have this name; such a name never leads out of its directory."""
    return re.fullmatch(MODEL_NAME, name) is not None


def _read_only(value: object, *names: str) -> None:
    """Copy a frozen dataclass's mappings into read-only ones."""
    for name in names:
        object.__setattr__(value, name, MappingProxyType(dict(getattr(value, name))))


@dataclass(frozen=True)
class Component:
    """One file of a bundle (or a bundle in it, or another model), opened by one framework."""

    name: str
    framework: str
    path: str | None = None
    sha256: str | None = None
    size: int | None = None
    model: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _read_only(self, "options")


@dataclass(frozen=True)
class CodeFile:
    """One file of the code that ships with a bundle; its path begins with ``code/``."""

    path: str
    sha256: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class Step:
    """One call: a component's method (None: its first), or a built-in operation."""

    component: str | None = None
    method: str | None = None
    op: str | None = None
    params: Mapping[str, object] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _read_only(self, "params")


@dataclass(frozen=True)
class Example:
    """One request and its expected outputs within ``rtol``; without outputs it only has to run."""

    inputs: Mapping[str, object]
    outputs: Mapping[str, object] = field(default_factory=dict)
    rtol: float = DEFAULT_RTOL
    parameters: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _read_only(self, "inputs", "outputs", "parameters")


@dataclass(frozen=True)
class Requirements:
    """What a bundle was saved with: Python's version, and each package's."""

    python: str | None = None
    packages: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _read_only(self, "packages")


@dataclass(frozen=True)
class Manifest:
    """What a bundle is; components keep the order of the file.

    ``inferred`` marks a manifest that was inferred from the directory, not read from a file.
    """

    name: str | None = None
    version: str | None = None
    components: Mapping[str, Component] = field(default_factory=dict)
    code: tuple[CodeFile, ...] = ()
    inputs: tuple[TensorSpec, ...] = ()
    steps: tuple[Step, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    examples: tuple[Example, ...] = ()
    metadata: Mapping[str, object] = field(default_factory=dict)
    requirements: Requirements = field(default_factory=Requirements)
    inferred: bool = False

    def __post_init__(self) -> None:
        _read_only(self, "components", "metadata")

    @classmethod
    def from_json(
        cls, data: bytes | str, where: str, frameworks: Collection[str] | None = None
    ) -> Manifest:
        """Parse and validate a ``manifest.json``.

        Args:
            data: the file's content.
            where: the file's path, for error messages.
            frameworks: those that can open a component; ``bundle`` and ``model`` always can.
                None allows any.

        Raises:
            ManifestError: it is not valid JSON, breaks the format, or names an unknown framework;
                lists every problem.
        """
        document, odd = read_object(data, where, ManifestError, _MOST)
        _refuse_newer(document.get("format"), where)
        try:
            problems = {**manifest_problems(document, frameworks), **odd}
        except TooManyProblems as error:
            raise ManifestError(where, [Problem("", str(error))]) from error
        if problems:
            raise ManifestError(where, tuple(problems.values()))
        return _manifest(ManifestForm.model_validate(document))

    def to_json(self) -> str:
        """Format the manifest without absent values; ``from_json`` parses it back equal.

        ``inferred`` is left out: a manifest in a file is no longer inferred.

        Raises:
            ManifestError: a value cannot be encoded as JSON (NaN, a Python object).
        """
        try:
            return pretty(self._document()) + "\n"
        except (TypeError, ValueError) as error:
            problem = Problem("", f"cannot be encoded as JSON: {error}")
            raise ManifestError(f"manifest '{self.name or MANIFEST_NAME}'", [problem]) from error

    def _document(self) -> dict[str, object]:
        written = {
            "name": self.name,
            "version": self.version,
            "components": {name: _written(c, "name") for name, c in self.components.items()},
            "code": [_written(file) for file in self.code],
            "inputs": [_written(spec, *_OPENED) for spec in self.inputs],
            "steps": [_written(step) for step in self.steps],
            "outputs": [_written(spec, *_OPENED) for spec in self.outputs],
            "examples": [_written(example) for example in self.examples],
            "metadata": _plain(self.metadata),
            "requirements": _written(self.requirements),
        }
        present = {key: value for key, value in written.items() if value not in (None, [], {})}
        return {"format": MANIFEST_VERSION, **present}


_OPENED = tuple(entry.name for entry in fields(TensorSpec)[4:])
"""What only opened components know of a tensor."""


def _refuse_newer(number: object, where: str) -> None:
    """Reject a newer format before validating anything else, as its rules are not known here."""
    match = re.fullmatch(r"bundle/v([0-9]{1,9})", number) if isinstance(number, str) else None
    if match and int(match[1]) > int(MANIFEST_VERSION.removeprefix("bundle/v")):
        what = f"is '{number}', written by a newer bundleserver; expected '{MANIFEST_VERSION}'"
        raise ManifestError(where, [Problem("format", f"{what}; upgrade this server")])


def _manifest(form: ManifestForm) -> Manifest:
    return Manifest(
        name=form.name,
        version=form.version,
        components={
            name: Component(name, **_values(component))
            for name, component in form.components.items()
        },
        code=tuple(CodeFile(**_values(file)) for file in form.code),
        inputs=tuple(TensorSpec(**_values(tensor)) for tensor in form.inputs),
        steps=tuple(Step(**_values(step)) for step in form.steps),
        outputs=tuple(TensorSpec(**_values(tensor)) for tensor in form.outputs),
        examples=tuple(Example(**_values(example)) for example in form.examples),
        metadata=form.metadata.model_dump(exclude_unset=True),
        requirements=Requirements(**_values(form.requirements)),
    )


def _values(form: Form) -> dict[str, Any]:
    """Return a form's fields, which the value's are named after, with tuples for arrays."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in form}


def _written(
    value: Component | CodeFile | Step | Example | Requirements | TensorSpec, *left_out: str
) -> dict[str, object]:
    """Convert a value's fields to JSON in their order, without defaults."""
    return {
        entry.name: _plain(getattr(value, entry.name))
        for entry in fields(value)
        if entry.name not in left_out
        and getattr(value, entry.name)
        != ({} if entry.default_factory is not MISSING else entry.default)
    }


def _plain(value: object) -> object:
    """Convert values from a notebook to JSON values."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
