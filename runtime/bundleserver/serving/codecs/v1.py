"""The V1 protocol's bodies: rows decoded, predictions encoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from bundleserver.bundle.parameters import PARAMS
from bundleserver.errors import InvalidInput
from bundleserver.serving.codecs import json_body
from bundleserver.serving.codecs.json_body import PIECE_VALUES
from bundleserver.serving.codecs.json_pieces import Numbers
from bundleserver.serving.codecs.number_rows import NumberRows
from bundleserver.serving.codecs.tensor_json import kind_of, plain_values
from bundleserver.serving.requests import PredictRequest, PredictResponse

ROWS = ("instances", "inputs", "dataframe_split", "dataframe_records")
"""The keys of a request's rows: KServe's two, and MLflow's two."""


def decode_request(
    document: Mapping[str, object],
    model: str,
    version: str | None,
    routing_key: str | None = None,
) -> PredictRequest:
    """Decode the rows of a V1 request, under one of :data:`ROWS`.

    Raises:
        InvalidInput: none of the keys is there, or several, or its value is not of its kind.
        NotPlain: a large body's rows must be decoded as a whole.
    """
    keys = [key for key in ROWS if key in document]
    if len(keys) != 1:
        listed = ", ".join(f"'{key}'" for key in list(document)[:10]) or "none"
        raise InvalidInput(
            "a V1 request must have either 'instances' or 'inputs', or MLflow's 'dataframe_split' "
            f"or 'dataframe_records', an array of rows; got {listed}"
        )
    (key,) = keys
    given = document[key]
    rows: Sequence[object]
    if key == "dataframe_split":
        rows = _rows_of_split(given)
    elif isinstance(given, list):
        rows = given
    elif isinstance(given, Numbers):
        rows = NumberRows(given)
    else:
        raise InvalidInput(f"'{key}' is {kind_of(given)}; expected an array of rows")
    parameters = json_body.optional_object(document, "parameters", "")
    if params := json_body.optional_object(document, PARAMS, ""):
        parameters = {**parameters, PARAMS: params}
    return PredictRequest(model, version, rows=rows, parameters=parameters, routing_key=routing_key)


def _rows_of_split(given: object) -> list[object]:
    """Make rows of pandas' form with all columns first; its index has no effect."""
    split = given if isinstance(given, dict) else {}
    columns, data = split.get("columns"), split.get("data")
    if not isinstance(data, list) or not (columns is None or isinstance(columns, list)):
        raise InvalidInput(
            "'dataframe_split' is not valid; expected an object with 'columns', an array of names, "
            "and 'data', an array of rows"
        )
    if columns is None:
        return data
    names = [str(name) for name in columns]
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise InvalidInput(f"'dataframe_split' has the column '{twice}' twice")
    for index, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(names):
            came = f"{len(row)} values" if isinstance(row, list) else kind_of(row)
            raise InvalidInput(
                f"'dataframe_split': data[{index}] has {came}; expected {len(names)}, one for each "
                "column"
            )
    return [dict(zip(names, row, strict=True)) for row in data]


def predictions(response: PredictResponse) -> dict[str, object]:
    """Convert a response to V1: one output as plain values, several as one object for each row.

    Raises:
        InvalidInput: an output has bytes that are not UTF-8.
        ValueError: a rowwise model's outputs differ in length.
    """
    if response.answers is not None:
        answers = response.answers
        return {"predictions": [_plain_columns(a) if isinstance(a, dict) else a for a in answers]}
    columns = _plain_columns(response.outputs)
    if not response.rowwise:
        return {"predictions": [columns]}
    if len(columns) == 1:
        return {"predictions": next(iter(columns.values()))}
    lists = {
        name: column if isinstance(column, list) else [column] for name, column in columns.items()
    }
    lengths = {name: len(column) for name, column in lists.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"model '{response.model}' has outputs of different lengths: {lengths}")
    rows = zip(*lists.values(), strict=True)
    return {"predictions": [dict(zip(lists, row, strict=True)) for row in rows]}


def encode_response(response: PredictResponse) -> bytes:
    """Encode a response; a large single output piece by piece.

    Raises:
        InvalidInput: an output has bytes that are not UTF-8.
        ValueError: a rowwise model's outputs differ in length.
    """
    outputs = response.outputs
    if response.answers is None and response.rowwise and len(outputs) == 1:
        ((name, values),) = outputs.items()
        if values.size <= PIECE_VALUES:
            return json_body.encode({"predictions": plain_values(values, name)})
        if values.ndim:
            step = max(1, PIECE_VALUES * len(values) // values.size)
            listed = json_body.encode_array(
                len(values), step, lambda part: plain_values(values[part], name)
            )
            return b'{"predictions":%b}' % listed
    return json_body.encode(predictions(response))


def _plain_columns(outputs: Mapping[str, object]) -> dict[str, object]:
    return {
        name: plain_values(values, name) if isinstance(values, np.ndarray) else values
        for name, values in outputs.items()
    }
