"""Requests whose values have no names, so that their order says what they are."""

from __future__ import annotations

from collections.abc import Sequence

from bundleserver.errors import InvalidInput
from bundleserver.tensors import Array, NamedTensor, TensorSpec, array_from_rows


def input_of_rows(inputs: Sequence[TensorSpec]) -> TensorSpec | None:
    """Return the input that a whole row is; None where a row has a value for each of several."""
    if len(inputs) == 1:
        return inputs[0]
    required = [spec for spec in inputs if not spec.optional]
    return required[0] if len(required) == 1 and required[0].shape != (-1,) else None


def fewest_inputs(inputs: Sequence[TensorSpec]) -> int:
    """Return how many values a row must have, as the last inputs may all be left out."""
    required = [at for at, spec in enumerate(inputs, 1) if not spec.optional]
    return required[-1] if required else len(inputs)


def fewest_columns(spec: TensorSpec) -> int:
    """Return how many columns a table must have, as the last ones may have no effect."""
    required = set(spec.required_columns or spec.columns)
    count = len(spec.columns)
    while count and spec.columns[count - 1] not in required:
        count -= 1
    return count


def without_last_columns(values: Array, spec: TensorSpec) -> tuple[str, ...]:
    """Return the columns of a table that lacks only last ones without effect; empty if none do."""
    width = values.shape[1] if values.ndim == 2 else 0
    is_narrow = 0 < width < len(spec.columns) and spec.datatype is None
    return spec.columns[:width] if is_narrow and width >= fewest_columns(spec) else ()


def tensors_of_rows(
    rows: Sequence[object], inputs: Sequence[TensorSpec], taker: str
) -> list[NamedTensor]:
    """Convert rows with a value for each input; the last ones may lack where they are optional.

    Raises:
        InvalidInput: a row has another number of values, or one that is not valid.
    """
    fewest, most = fewest_inputs(inputs), len(inputs)
    width = len(rows[0]) if isinstance(rows[0], list) and len(rows[0]) >= fewest else most
    for index, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != width or width > most:
            came = f"{len(row)} values" if isinstance(row, list) else type(row).__name__
            names = ", ".join(f"'{spec.name}'" for spec in inputs)
            count = f"{most}" if fewest == most else f"{fewest} to {most}, equally many"
            raise InvalidInput(
                f"instances[{index}] has {came}; {taker} expects {count} per row: {names}"
            )
    columns = zip(*(row for row in rows if isinstance(row, list)), strict=True)
    return [
        NamedTensor(spec.name, array_from_rows(list(column), spec, taker))
        for spec, column in zip(inputs, columns, strict=False)
    ]
