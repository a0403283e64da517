"""The form of a version: which fields its inputs have, and how a row is made of them.

``form.js`` makes the fields and the bodies of requests from it; values travel as strings, so that
no digit of a number is lost in a browser.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum

from bundleserver.tensors import TensorSpec
from bundleserver.tensors.signature import Signature

MOST_FIELDS = 50
"""Fields of a row; inputs that would have more are one field for JSON."""

_KINDS = {"BYTES": "string", "BOOL": "boolean"}


class Layout(str, Enum):
    """What the fields of one input are to a row."""

    COLUMNS = "columns"
    """Named columns, which V1 has as an object."""
    VALUES = "values"
    """Positions of an array."""
    VALUE = "value"
    """The only value."""
    JSON = "json"
    """One field with a JSON value."""
    SCALAR = "scalar"
    """One value for the request: a horizon."""
    LIST = "list"
    """A list for the request: dates, regressors, a history."""


@dataclass(frozen=True)
class Field:
    """One field: its label, and the datatype of its values.

    Attributes:
        kind: how its text is read: ``number``, ``integer``, ``boolean``, ``string``, ``json``, or
            ``any``, where the datatype is not known.
        optional: it may stay empty, and is not sent then.
        nullable: it may be missing: null.
        choices: strings that the model knows, as suggestions.
    """

    name: str
    datatype: str | None
    kind: str
    optional: bool = False
    nullable: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class FormInput:
    """One input: its fields, and how they make its tensor.

    Attributes:
        split: V2 has a tensor for each of its columns, since they differ in datatype.
        columns: those columns, each with its datatype, where they are too many for fields.
    """

    name: str
    datatype: str | None
    shape: tuple[int, ...] | None
    layout: Layout
    fields: tuple[Field, ...]
    optional: bool = False
    split: bool = False
    columns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Form:
    """The form of one version.

    Attributes:
        rows: an example, ready to be sent: for each row a text for each field, input by input;
            None is a missing value.
        parameters: the parameters that its requests may have.
        forecast: the facts of a forecaster, such as ``max_horizon``; None for any other model.
        refused: inputs that similar models have and this one does not, each with the reason.
    """

    model: str
    version: str
    rowwise: bool
    inputs: tuple[FormInput, ...]
    outputs: tuple[str, ...]
    methods: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    forecast: Mapping[str, object] | None = None
    refused: Mapping[str, str] | None = None
    rows: tuple[tuple[tuple[str | None, ...], ...], ...] = ()

    def document(self) -> dict[str, object]:
        """Return it as a JSON value."""
        return asdict(self)


def form_inputs(signature: Signature) -> tuple[FormInput, ...]:
    """Return the fields of a signature's inputs, :data:`MOST_FIELDS` at most for a row."""
    if not signature.rowwise:
        return tuple(_whole(spec) for spec in signature.inputs)
    left, made = MOST_FIELDS, []
    for spec in signature.inputs:
        form_input = _of_row(spec, left, is_only=len(signature.inputs) == 1)
        left -= len(form_input.fields)
        made.append(form_input)
    return tuple(made)


def with_choices(form_input: FormInput, choices: Sequence[Sequence[str]]) -> FormInput:
    """Add suggestions, one list for each field."""
    fields = tuple(
        replace(field, choices=tuple(known)) if field.kind in ("string", "any") else field
        for field, known in zip(form_input.fields, choices, strict=True)
    )
    return replace(form_input, fields=fields)


def _of_row(spec: TensorSpec, left: int, *, is_only: bool) -> FormInput:
    """Return an input whose first axis is the batch, as fields of one row.

    Only a table that is the only input may come as an object of its columns.
    """
    shape, count = spec.shape, _width(spec)
    if count is None or count > max(left, 1):
        return _as_json(spec)
    names = spec.columns or tuple(f"{spec.name}[{i}]" for i in range(count))
    datatypes = spec.column_datatypes or (spec.datatype or spec.likely,) * count
    known = spec.kinds_known and (spec.datatype or spec.column_datatypes)
    required, nullable = spec.required_columns or names, spec.nullable
    fields = tuple(
        Field(name, datatype, _kind(datatype if known else None), name not in required, nullable)
        for name, datatype in zip(names, datatypes, strict=True)
    )
    is_table = is_only and spec.columns and spec.columns != (spec.name,)
    layout = Layout.COLUMNS if is_table else Layout.VALUES
    if shape is not None and len(shape) == 1:
        layout = Layout.VALUE
        fields = (replace(fields[0], name=spec.name, optional=spec.optional),)
    elif spec.optional:
        fields = tuple(replace(field, optional=True) for field in fields)
    is_split = layout is Layout.COLUMNS and len(set(spec.column_datatypes)) > 1
    about = (spec.name, spec.datatype or spec.likely, shape)
    return FormInput(*about, layout, fields, spec.optional, is_split)


def _width(spec: TensorSpec) -> int | None:
    """Return how many values a row of an input has; None where that is not a flat, known number."""
    if spec.columns:
        is_unique = len(set(spec.columns)) == len(spec.columns)
        return len(spec.columns) if is_unique else None
    shape = spec.shape
    if shape is None or not 1 <= len(shape) <= 2 or -1 in shape[1:]:
        return None
    return shape[1] if len(shape) == 2 else 1


def _as_json(spec: TensorSpec) -> FormInput:
    datatype = spec.datatype or spec.likely
    field = Field(spec.name, datatype, "json", spec.optional)
    about = (spec.name, datatype, spec.shape, Layout.JSON, (field,), spec.optional)
    if len(set(spec.column_datatypes)) <= 1:
        return FormInput(*about)
    return FormInput(*about, True, tuple(zip(spec.columns, spec.column_datatypes, strict=True)))


def _whole(spec: TensorSpec) -> FormInput:
    """Return an input that has no rows, such as those of a forecaster."""
    datatype, shape = spec.datatype or spec.likely, spec.shape
    if shape is None or len(shape) > 1:
        return _as_json(spec)
    layout = Layout.SCALAR if shape in ((), (1,)) else Layout.LIST
    field = Field(spec.name, datatype, _kind(spec.datatype), spec.optional)
    return FormInput(spec.name, datatype, shape, layout, (field,), spec.optional)


def _kind(datatype: str | None) -> str:
    if datatype is None:
        return "any"
    return _KINDS.get(datatype) or ("number" if datatype.startswith("FP") else "integer")
