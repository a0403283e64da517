"""What stands in a form's fields at first: an example of the manifest, else made-up values."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence

import numpy as np

from bundleserver.serving.page.form import Field, FormInput, Layout
from bundleserver.tensors import Array, NamedTensor

MOST_EXAMPLE_VALUES = 10_000
"""The largest value of a row that is shown as an example; a longer one is no help."""

HORIZON_STEPS = 12
"""The steps of a forecast's example."""

_MOST_CHOICES = 50
_LONGEST_CHOICE = 200

Row = tuple[tuple[str | None, ...], ...]
"""A text for each field of each input; None for a missing value, which is null."""


def example_row(
    inputs: Sequence[FormInput], sample: Sequence[NamedTensor], *, rounded: bool
) -> Row:
    """Return the texts of a sample's first row; empty ones where it has no value.

    ``rounded``: numbers are made up, so that six digits are enough.
    """
    tensors = {tensor.name: tensor for tensor in sample}
    return tuple(_texts(each, tensors, rounded) for each in inputs)


def choices_of(form_input: FormInput, sample: Sequence[NamedTensor]) -> list[list[str]]:
    """Return the different strings that a sample has for each field of a row."""
    tensors = {tensor.name: tensor for tensor in sample}
    found = [_column(form_input, at, tensors) for at in range(len(form_input.fields))]
    return [_different(values) if values is not None else [] for values in found]


def forecast_row(inputs: Sequence[FormInput], sample: Sequence[NamedTensor], most: int) -> Row:
    """Return the example of a forecaster: a horizon where it takes one, else the sample's dates.

    The value that a sample has of a regressor is repeated for each step.
    """
    tensors = {tensor.name: tensor for tensor in sample}
    by_horizon = "horizon" in tensors
    steps = min(HORIZON_STEPS, most) if by_horizon else 1
    texts: list[tuple[str | None, ...]] = []
    for each in inputs:
        field = each.fields[0]
        values = tensors[each.name].values.reshape(-1) if each.name in tensors else np.array([])
        if each.name == "horizon" and by_horizon:
            texts.append((str(steps),))
        elif len(values) == 1 and each.layout is Layout.LIST:
            texts.append(("\n".join([_text(values[0], field, rounded=False) or ""] * steps),))
        else:
            lines = (_text(value, field, rounded=False) or "" for value in values)
            texts.append(("\n".join(lines),))
    return tuple(texts)


def _texts(
    each: FormInput, tensors: dict[str, NamedTensor], rounded: bool
) -> tuple[str | None, ...]:
    if each.layout is Layout.JSON:
        return (_json_text(tensors.get(each.name), rounded),)
    columns = (_column(each, at, tensors) for at in range(len(each.fields)))
    return tuple(
        "" if values is None or not len(values) else _text(values[0], field, rounded=rounded)
        for field, values in zip(each.fields, columns, strict=True)
    )


def _column(each: FormInput, at: int, tensors: dict[str, NamedTensor]) -> Array | None:
    """Return the values of one field: those of a tensor of its own, or a column of the input's."""
    field = each.fields[at]
    own = tensors.get(field.name)
    if own is not None and (field.name != each.name or own.values.ndim < 2):
        return own.values.reshape(-1)
    # A drop-in takes its only input under any name.
    whole = tensors.get(each.name) or (next(iter(tensors.values())) if len(tensors) == 1 else None)
    if whole is None or whole.values.ndim == 0:
        return None
    if whole.values.ndim == 1:
        return whole.values if len(each.fields) == 1 else None
    place = whole.columns.index(field.name) if field.name in whole.columns else at
    is_there = whole.values.ndim == 2 and place < whole.values.shape[1]
    return whole.values[:, place] if is_there else None


def _json_text(tensor: NamedTensor | None, rounded: bool) -> str:
    """Return the first row of a tensor as JSON; an empty string if it is too large."""
    if tensor is None or not tensor.values.ndim or not len(tensor.values):
        return ""
    row = np.asarray(tensor.values[0])
    if row.size > MOST_EXAMPLE_VALUES:
        return ""
    if rounded and row.dtype.kind == "f":
        row = np.vectorize(lambda number: float(f"{number:.6g}"), otypes=[float])(row)
    return json.dumps(_plain(row.tolist()), ensure_ascii=False)


def _plain(value: object) -> object:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, np.generic):
        return _plain(value.item())
    return value if isinstance(value, bool | int | str | None) else _string(value)


def _text(value: object, field: Field, *, rounded: bool) -> str | None:
    """Return a value as the text of its field, which is the same value again when it is read."""
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return "NaN" if field.kind in ("number", "integer") else None
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating):
        text = f"{value:.6g}" if rounded else str(value)
        # Where nothing is declared, an integer would be of another datatype.
        is_short = field.kind != "any" and text != "-0.0"
        return text.removesuffix(".0") if is_short else text
    text = _string(value)
    is_string = isinstance(value, str | bytes)
    return json.dumps(text, ensure_ascii=False) if is_string and _is_other(field, text) else text


def _is_other(field: Field, text: str) -> bool:
    """Ask whether a string would be read as something else, where a field may be anything."""
    if field.kind != "any":
        return False
    bare = text.strip()
    if bare == "" or bare.lower() == "nan" or bare[0] == '"':
        return True
    return not isinstance(_scalar(bare), str)


def _string(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _different(values: Iterable[object]) -> list[str]:
    texts = (value for value in values if isinstance(value, str))
    short = dict.fromkeys(text for text in texts if len(text) <= _LONGEST_CHOICE)
    return list(short)[:_MOST_CHOICES]


def is_empty(row: Row) -> bool:
    """Ask whether a row has no value at all; a missing one is one."""
    return all(text == "" for texts in row for text in texts)


def value_of(field: Field, text: str | None) -> object:
    """Convert an example's text to the JSON value that V1 has for it.

    A number's text is a valid number, as it was made of one.
    """
    if text is None or (field.kind != "string" and text.lower() == "nan"):
        return None
    if field.kind == "string":
        return text
    return json.loads(text) if field.kind == "json" else _scalar(text)


def _scalar(text: str) -> object:
    """Return the JSON value that a text is, unless that is an array or an object; else the text."""
    try:
        value: object = json.loads(text, parse_constant=_refuse)
    except ValueError:
        return text
    return text if isinstance(value, list | dict) else value


def _refuse(constant: str) -> object:
    raise ValueError(constant)
