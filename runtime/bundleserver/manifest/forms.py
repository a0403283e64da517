"""The written form of a manifest, object by object: its keys, their types, its JSON Schema.

Single values are validated here, combinations of values in ``manifest.checks``. Callers of
:class:`bundleserver.manifest.Manifest` never see these forms.
"""

from __future__ import annotations

import copy
from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from bundleserver.documents.forms import ABSENT, Form, form_schema, must
from bundleserver.manifest.packages import (
    MOST_VERSION_CHARACTERS,
    PACKAGE_NAME,
    VERSION_CHARACTERS,
    is_version,
)
from bundleserver.manifest.paths import (
    CODE,
    INSIDE,
    MOST_CODE_LEVELS,
    MOST_NAME_BYTES,
    MOST_PATH_BYTES,
    is_code_path,
    is_inside,
)
from bundleserver.operations import OPERATIONS
from bundleserver.tensors import NUMPY_DTYPES
from bundleserver.versions import is_version_label

MANIFEST_VERSION = "bundle/v1"
"""The version of the format, which each manifest states as its ``format``.

Compatibility: a server accepts every manifest of its format version that an older server accepted,
with the same meaning. Additions need no new version: an optional key whose absence means what it
meant before, a framework, an operation, a datatype, a wider range of a value. An older server
rejects a manifest that uses the addition, and names it; it never ignores what it does not know. A
new version is needed when a key changes its meaning or default, is removed, or becomes required. A
server that supports ``bundle/v2`` keeps supporting ``bundle/v1``; one that does not only reports
that it is too old.

To change the version: change it here, keep the forms of the old one under a name of their own, let
``Manifest.from_json`` parse either into the same values, and keep an old manifest in a test.
"""

BUNDLE = "bundle"
"""The framework that opens a sub-directory which is itself a bundle."""

MODEL = "model"
"""The framework that refers to another model served by the same process."""

PYTHON = "python"
"""The framework that opens a class in a file of the bundle's own code."""

DEFAULT_RTOL = 1e-6
"""The relative tolerance of an example that has none of its own."""

COMPONENT_NAME = r"^[A-Za-z_][A-Za-z0-9_-]*$"
MODEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
MODEL_NAME_IS = "a letter or digit, then letters, digits, '.', '_', '-'"
_VERSION = r"^v?[0-9][A-Za-z0-9._+-]*$"
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ][0-9:.]+([Zz]|[+-][0-9:]+)?)?$"
_DATETIME = TypeAdapter(datetime)


def _is_moment(text: str) -> bool:
    try:
        _DATETIME.validate_python(text)
    except ValueError:
        return False
    return True


_Json = dict[str, object]
_TensorName = Annotated[str, Field(min_length=1, description="the name of a tensor")]

_PackageVersion = Annotated[
    str,
    Field(
        description="one version by PEP 440: '1.2', '2.6.0+cpu'",
        json_schema_extra={"pattern": VERSION_CHARACTERS, "maxLength": MOST_VERSION_CHARACTERS},
    ),
    must(is_version),
]


class ComponentForm(Form):
    """One file of a bundle, opened by one framework."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"framework": {"const": MODEL}}, "required": ["framework"]},
            "then": {
                "properties": {"path": False, "sha256": False, "size": False},
                "required": ["model"],
            },
            "else": {"properties": {"model": False}, "required": ["path"]},
        }
    )

    framework: str = Field(min_length=1, description="the framework that opens the file")
    path: Annotated[str, must(is_inside)] = Field(
        default=ABSENT,
        description="a relative path inside the bundle, with '/' and without '..', of at most "
        f"{MOST_PATH_BYTES} bytes, and {MOST_NAME_BYTES} for each name",
        json_schema_extra={"pattern": INSIDE, "maxLength": MOST_PATH_BYTES},
    )
    sha256: str = Field(
        default=ABSENT,
        pattern="^[0-9a-f]{64}$",
        description="the file's SHA-256 digest: 64 lower-case hexadecimal digits",
    )
    size: int = Field(default=ABSENT, ge=0, description="the file's size in bytes: an integer")
    model: str = Field(
        default=ABSENT, min_length=1, description="the name of another model of the same server"
    )
    options: _Json = Field(
        default_factory=dict, description="an object with the framework's own settings"
    )


class CodeFileForm(Form):
    """One file of the code that ships with a bundle."""

    path: Annotated[str, must(is_code_path)] = Field(
        description=f"a path that begins with '{CODE}/', without '.' and '..', of at most "
        f"{MOST_CODE_LEVELS} directories",
        json_schema_extra={"pattern": f"^{CODE}/", "maxLength": MOST_PATH_BYTES},
    )
    sha256: str = Field(
        default=ABSENT,
        pattern="^[0-9a-f]{64}$",
        description="the file's SHA-256 digest: 64 lower-case hexadecimal digits",
    )
    size: int = Field(default=ABSENT, ge=0, description="the file's size in bytes: an integer")


class TensorForm(Form):
    """One input or output of a bundle."""

    name: _TensorName
    datatype: Annotated[str, must(lambda name: name in NUMPY_DTYPES)] = Field(
        default=ABSENT,
        description="a datatype of the Open Inference Protocol",
        json_schema_extra={"enum": list(NUMPY_DTYPES)},
    )
    shape: list[
        Annotated[
            int,
            Field(
                ge=-1,
                lt=2**63,
                description="a size: a positive integer, or -1 for any",
                json_schema_extra={"not": {"const": 0}},
            ),
            must(lambda size: size != 0),
        ]
    ] = Field(default=ABSENT, description="an array of sizes, one per dimension; -1 is any")
    columns: list[Annotated[str, Field(min_length=1, description="the name of a column")]] = Field(
        default_factory=list,
        description="an array of names, one per entry of the last dimension",
        json_schema_extra={"uniqueItems": True},
    )


class StepForm(Form):
    """One call of a component's method or a built-in operation, from tensors to tensors."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {
                    "properties": {"op": False, "params": {"maxProperties": 0}},
                    "required": ["component"],
                },
                {"properties": {"component": False, "method": False}, "required": ["op"]},
            ],
            "allOf": [operation.schema() for operation in OPERATIONS.values()],
        }
    )

    component: str = Field(default=ABSENT, min_length=1, description="the name of a component")
    method: str = Field(default=ABSENT, min_length=1, description="the name of a method")
    op: Annotated[str, must(lambda name: name in OPERATIONS)] = Field(
        default=ABSENT, json_schema_extra={"enum": list(OPERATIONS)}
    )
    params: _Json = Field(
        default_factory=dict, description="an object with the operation's settings"
    )
    inputs: list[_TensorName] = Field(
        min_length=1, description="an array of one or more tensor names"
    )
    outputs: list[_TensorName] = Field(
        min_length=1,
        description="an array of one or more tensor names",
        json_schema_extra={"uniqueItems": True},
    )


class ExampleForm(Form):
    """One request and the response when the bundle was saved; run before a version is ready."""

    inputs: _Json = Field(description="an object with the values of each input")
    outputs: _Json = Field(
        default_factory=dict, description="an object with the expected values of each output"
    )
    rtol: float = Field(
        default=DEFAULT_RTOL,
        ge=0,
        description="the relative tolerance: a non-negative number",
    )
    parameters: _Json = Field(
        default_factory=dict, description="an object with the request's parameters"
    )


class MetadataForm(Form):
    """What is known about the training; other keys are free."""

    model_config = ConfigDict(extra="allow")

    trained_at: Annotated[
        str,
        Field(
            pattern=_DATE,
            description="an ISO 8601 date and time: '2025-12-09T10:00:00Z'",
        ),
        must(_is_moment),
    ] = ABSENT
    metrics: _Json = Field(default=ABSENT, description="an object with a value per metric")
    training_data: _Json = Field(
        default=ABSENT, description="an object: uri, version, sha256, rows"
    )
    source: _Json = Field(default=ABSENT, description="an object: repository, commit, notebook")
    tags: _Json = Field(default=ABSENT, description="an object with a value per tag")


class RequirementsForm(Form):
    """What the bundle was saved with; a difference is a warning."""

    python: str = Field(default=ABSENT, min_length=1, description="a Python version: '3.11'")
    packages: dict[str, _PackageVersion] = Field(
        default_factory=dict,
        description="an object with a version per package",
        json_schema_extra={"propertyNames": {"pattern": PACKAGE_NAME}},
    )


class ManifestForm(Form):
    """A directory of files that is served as one model."""

    format: Literal["bundle/v1"]
    name: str = Field(
        default=ABSENT,
        pattern=MODEL_NAME,
        description=f"a model's name: {MODEL_NAME_IS}",
    )
    version: Annotated[str, must(is_version_label)] = Field(
        default=ABSENT,
        description="a version label: a digit, or v and a digit, then letters, digits, '.', '_', "
        "'+', '-', 64 characters at most",
        json_schema_extra={"pattern": _VERSION, "maxLength": 64},
    )
    components: dict[str, ComponentForm] = Field(
        min_length=1,
        description="an object with one or more components, by name",
        json_schema_extra={"propertyNames": {"pattern": COMPONENT_NAME}},
    )
    code: list[CodeFileForm] = Field(
        default_factory=list, description="an array with the files of the bundle's own code"
    )
    inputs: list[TensorForm] = Field(default_factory=list, description="an array of tensors")
    steps: list[StepForm] = Field(default_factory=list, description="an array of steps")
    outputs: list[TensorForm] = Field(default_factory=list, description="an array of tensors")
    examples: list[ExampleForm] = Field(default_factory=list, description="an array of examples")
    metadata: MetadataForm = Field(default_factory=MetadataForm)
    requirements: RequirementsForm = Field(default_factory=RequirementsForm)


def manifest_schema() -> dict[str, object]:
    """Return the JSON Schema (draft 2020-12) of a manifest.

    It covers single objects. Whether tensors, components and examples agree is beyond a schema;
    ``bundleserver validate`` checks that.
    """
    schema = {**copy.deepcopy(form_schema(ManifestForm)), "title": f"{MANIFEST_VERSION} manifest"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
