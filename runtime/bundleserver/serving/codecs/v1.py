"""The V1 protocol's bodies: rows decoded, predictions encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bundleserver.errors import InvalidInput
from bundleserver.serving.codecs import json_body
from bundleserver.serving.codecs.json_body import PIECE_VALUES
from bundleserver.serving.codecs.json_pieces import Numbers
from bundleserver.serving.codecs.number_rows import NumberRows
from bundleserver.serving.codecs.tensor_json import kind_of, plain_values
from bundleserver.serving.requests import PredictRequest, PredictResponse


def decode_request(
    document: Mapping[str, object],
    model: str,
    version: str | None,
    routing_key: str | None = None,
) -> PredictRequest:
    """Decode the rows of a V1 request: ``{"instances": […]}``, or ``inputs`` for ``instances``.

    Raises:
        InvalidInput: neither key is there, or both, or its value is not an array.
        NotPlain: a large body's rows must be decoded as a whole.
    """
    key = "instances" if "instances" in document else "inputs"
    if ("instances" in document) == ("inputs" in document):
        keys = ", ".join(f"'{key}'" for key in list(document)[:10]) or "none"
        raise InvalidInput(
            f"a V1 request must have either 'instances' or 'inputs', an array of rows; got {keys}"
        )
    given = document[key]
    rows: Sequence[object] | None = given if isinstance(given, list) else None
    if rows is None:
        if not isinstance(given, Numbers):
            raise InvalidInput(f"'{key}' is {kind_of(given)}; expected an array of rows")
        rows = NumberRows(given)
    parameters = json_body.optional_object(document, "parameters", "")
    return PredictRequest(model, version, rows=rows, parameters=parameters, routing_key=routing_key)


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
