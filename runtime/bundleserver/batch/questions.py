"""Rows that are questions of their own: each is one V1 instance, as for a forecaster."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bundleserver.batch.binding import Binding
from bundleserver.batch.kinds import is_list
from bundleserver.batch.plain_values import iso_dates, plain_column
from bundleserver.batch.texts import Problems, parsed
from bundleserver.batch.uses import Use
from bundleserver.bundle import Bundle
from bundleserver.errors import BundleError, InvalidInput, OutOfMemory, PredictionError
from bundleserver.serving.execution.predict import predict
from bundleserver.serving.requests import PredictRequest

STEP = "step"
"""The column that numbers the rows of one answer, from 1."""


def answer_questions(
    bundle: Bundle, binding: Binding, batch: pa.RecordBatch, bad: Problems, *, first: bool
) -> tuple[dict[str, Any], npt.NDArray[np.int64], Problems]:
    """Answer each row; an answer of several steps becomes as many rows, numbered by ``step``.

    A null is an input that is left out; a plain value where a list is expected is a list of one.

    Raises:
        BundleServerError: the model cannot answer now, or its answer is no table.
    """
    problems = dict(bad)
    questions = _questions(bundle, binding, batch, problems)
    columns: dict[str, list[object]] = {}
    rows: list[int] = []
    steps: list[int] = []
    for row, question in enumerate(questions):
        if row in problems:
            if first:
                break
            continue
        request = PredictRequest(bundle.model, bundle.version, rows=[question])
        try:
            answers = predict(bundle, request).answers or []
        except OutOfMemory:
            raise
        except (InvalidInput, PredictionError) as error:
            said = error.cause if isinstance(error, PredictionError) else str(error)
            problems[row] = said.removeprefix("instances[0]: ")
            if first:
                break
            continue
        answer = answers[0]
        count = _steps(answer, bundle.identity)
        for name, values in answer.items():  # type: ignore[attr-defined]  # as _steps has checked
            columns.setdefault(name, []).extend(values)
        rows += [row] * count
        steps += range(1, count + 1)
    made = {name: pa.array(values) for name, values in columns.items()}
    types = _types(bundle)
    made = {
        name: column.cast(types[name]) if name in types else column for name, column in made.items()
    }
    if rows:
        made = {STEP: pa.array(steps, pa.int64()), **made}
    return made, np.array(rows, dtype=np.int64), problems


def _types(bundle: Bundle) -> dict[str, pa.DataType]:
    from bundleserver.batch.outputs import type_of

    types = {spec.name: type_of(spec) for spec in bundle.signature.outputs}
    return {name: kind for name, kind in types.items() if kind is not None}


def _steps(answer: object, taker: str) -> int:
    columns = answer if isinstance(answer, dict) else {}
    lengths = {len(values) if isinstance(values, list) else -1 for values in columns.values()}
    if len(lengths) != 1 or -1 in lengths:
        raise BundleError(
            f"{taker} answers one row with values that are not one list of each output, of equal "
            "lengths; a table cannot have them"
        )
    return lengths.pop()


def _questions(
    bundle: Bundle, binding: Binding, batch: pa.RecordBatch, problems: Problems
) -> list[dict[str, object]]:
    listed = {spec.name for spec in bundle.signature.inputs if spec.shape == (-1,)}
    columns = {use.column: _plain(batch.column(use.column), use, problems) for use in binding.uses}
    return [
        {
            name: [value] if name in listed and not isinstance(value, list) else value
            for name, value in zip(columns, values, strict=True)
            if value is not None
        }
        for values in zip(*columns.values(), strict=True)
    ]


def _plain(column: Any, use: Use, problems: Problems) -> list[object]:
    column = plain_column(column)
    if pa.types.is_string(column.type) and use.text_datatype not in (None, "BYTES"):
        column = parsed(column, str(use.text_datatype), problems, use.column)
    elif pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        column = iso_dates(column)
    values: list[object] = column.to_pylist()
    return [_dated(value) for value in values] if is_list(column.type) else values


def _dated(value: object) -> object:
    if isinstance(value, list):
        return [_dated(one) for one in value]
    return value.isoformat() if isinstance(value, (date, datetime)) else value
