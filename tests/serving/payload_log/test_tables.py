"""Logged requests as tables: their rows, their columns, and what is not in them."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from bundleserver.errors import InvalidInput
from bundleserver.serving.payload_log.rows.blocks import blocks_of
from bundleserver.serving.payload_log.rows.schemas import ALL, VersionSchema
from bundleserver.serving.payload_log.rows.tables import table_of
from bundleserver.serving.requests import PredictRequest
from bundleserver.tensors import TensorSpec
from bundleserver.tensors.signature import Signature
from tests.serving.fakes import FORECASTS, SUMS
from tests.serving.payload_log.entries import answered, failed, one, tensors

ABOUT = {
    "row",
    "timestamp",
    "request_id",
    "rows",
    "protocol",
    "routing_key",
    "outcome",
    "seconds",
    "parameters",
}
TWO = PredictRequest("sums", rows=[{"cpu": 1, "memory": 2}, {"memory": 5.5, "cpu": 4}])
MIXED = Signature(
    (
        TensorSpec(
            "input-0",
            shape=(-1, 3),
            columns=("age", "city", "rich"),
            column_datatypes=("FP64", "BYTES", "BOOL"),
        ),
    ),
    lenient=True,
)


def table(entry, *wanted):
    """Make the table of one entry."""
    return made(entry, *wanted).table


def made(entry, *wanted):
    """Make the table of one entry, and its form."""
    schema = VersionSchema(wanted)
    if entry.taker is not None:
        schema.declare(entry.taker.signature)
    blocks = list(blocks_of(entry, wanted))
    return table_of(blocks, ["id"] * len(blocks), schema)


def is_complete(entry, *wanted) -> bool:
    """Ask whether the request can be made again."""
    return json.loads(made(entry, *wanted).form)["inputs"] is not None


def test_a_row_of_a_request_is_a_row_of_the_table():
    """Rows have numbers, and what is said of their request."""
    found = table(answered(TWO, {"sum": [3.0, 9.5], "label": ["low", "high"]}), ALL).to_pylist()

    assert [(0, 1.0, 2.0, 3.0, "low"), (1, 4.0, 5.5, 9.5, "high")] == [
        tuple(
            row[name] for name in ("row", "input_cpu", "input_memory", "output_sum", "output_label")
        )
        for row in found
    ]
    assert {("id", 2, "v2", "ok", 0.002, None)} == {
        tuple(
            row[name]
            for name in ("request_id", "rows", "protocol", "outcome", "seconds", "parameters")
        )
        for row in found
    }
    assert "2026-11-29 13:30:00.250000+00:00" == str(found[0]["timestamp"])


def test_rows_that_came_in_groups_are_counted_one_by_one():
    """KServe's sklearn server takes arrays of objects as several rows each."""
    row = {"cpu": 1, "memory": 2}
    request = PredictRequest("sums", rows=[[row, row], [row]])

    found = table(answered(request, {"sum": [3.0, 3.0, 3.0]}, rows=2), ALL)

    assert ([0, 1, 2], [3, 3, 3]) == (found["row"].to_pylist(), found["rows"].to_pylist())


@pytest.mark.parametrize(
    ("wanted", "inputs", "complete"),
    [
        ((), set(), False),
        (("memory",), {"input_memory"}, False),
        (("cpu", "memory"), {"input_cpu", "input_memory"}, True),
        (("features",), {"input_cpu", "input_memory"}, True),
        ((ALL,), {"input_cpu", "input_memory"}, True),
        (("price",), set(), False),
    ],
)
def test_only_listed_inputs_are_columns(wanted, inputs, complete):
    """Without a list there are no inputs at all; a table with all of them can be sent again."""
    entry = answered(TWO, {"sum": [3.0, 9.5]})

    assert ABOUT | inputs | {"output_sum"} == set(table(entry, *wanted).column_names)
    assert complete == is_complete(entry, *wanted)


def test_inputs_without_names_of_columns_are_lists():
    """A sequence or a table without names is one column of lists."""
    signature = Signature((TensorSpec("steps", "FP32", (-1, 2, 2)),))
    request = PredictRequest("m", tensors=tensors(steps=np.ones((1, 2, 2), np.float32)))

    found = table(answered(request, {"y": [[1, 2, 3]]}, signature=signature), ALL)

    assert [[[1.0, 1.0], [1.0, 1.0]]] == found["input_steps"].to_pylist()
    assert [[1, 2, 3]] == found["output_y"].to_pylist()


def test_columns_of_a_mixed_table_keep_their_kinds():
    """Numbers beside texts are numbers, also with nulls, and booleans are booleans."""
    rows = [[30, "Bonn", True], [None, "Köln", False]]

    found = table(answered(PredictRequest("m", rows=rows), {"y": [1, 2]}, signature=MIXED), ALL)

    assert ["double", "string", "bool"] == [
        str(found.schema.field(f"input_{name}").type) for name in ("age", "city", "rich")
    ]
    assert ["Bonn", "Köln"] == found["input_city"].to_pylist()
    assert [True, False] == found["input_rich"].to_pylist()


def test_a_wide_table_is_one_column():
    """A file with a hundred thousand columns would be of no use."""
    names = tuple(f"c{i}" for i in range(2001))
    signature = Signature((TensorSpec("x", "FP64", (-1, 2001), names),))
    request = PredictRequest("m", tensors=tensors(x=np.ones((1, 2001))))

    assert "input_x" in table(answered(request, {"y": [1]}, signature=signature), ALL).column_names


def test_names_do_not_clash():
    """Two tensors may have columns of one name, and an input the name of what is always there."""
    signature = Signature(
        (TensorSpec("a", "FP64", (-1, 1), ("x",)), TensorSpec("b", "FP64", (-1, 1), ("x",)))
    )
    request = PredictRequest("m", tensors=tensors(a=[[1.0]], b=[[2.0]]))

    found = table(answered(request, {"row": [1]}, signature=signature), ALL)

    assert {"input_x", "input_b_x", "output_row"} == set(found.column_names) - ABOUT


def test_an_instance_of_a_forecaster_is_a_row():
    """A V1 request has several, with horizons and parameters of their own."""
    request = PredictRequest("f", rows=[{"horizon": 2, "level": 0.5}, {"horizon": 1}])
    answers = [{"mean": [1.0, 2.0], "upper": [1, 2]}, {"mean": [3.0], "upper": [None]}]

    entry = answered(request, {}, signature=FORECASTS, rows=2, answers=answers)
    found = table(entry, ALL)

    assert ([0, 1], [2, 2]) == (found["row"].to_pylist(), found["rows"].to_pylist())
    assert [[2], [1]] == found["input_horizon"].to_pylist()
    assert [[1.0, 2.0], [3.0]] == found["output_mean"].to_pylist()
    assert ['{"level":0.5}', None] == found["parameters"].to_pylist()
    assert np.isnan(found["output_upper"].to_pylist()[1][0])


def test_a_forecast_by_v2_is_a_row_of_the_same_kind():
    """Both protocols have one schema, so one file."""
    by_v1 = PredictRequest("f", rows=[{"horizon": 2}])
    by_v2 = PredictRequest("f", tensors=tensors(horizon=[2]))
    outputs = {"mean": [1.0, 2.0], "upper": [1.0, 2.0]}

    first = answered(by_v1, {}, signature=FORECASTS, answers=[outputs])
    second = answered(by_v2, outputs, signature=FORECASTS)
    kinds = [block.kind for entry in (first, second) for block in blocks_of(entry, (ALL,))]

    assert kinds[0] == kinds[1]
    assert [1] == table(second, ALL)["rows"].to_pylist()


def test_a_failed_request_is_one_row_without_payload():
    """Its outcome is told; what was wrong may be a value, so it is not."""
    found = table(failed(), ALL)

    assert set(found.column_names) == ABOUT
    assert ["invalid_input"] == found["outcome"].to_pylist()


def test_a_routing_key_is_hashed():
    """Who asks is not in the log, but requests of one caller are told to be that."""
    entry = one()
    entry = entry._replace(request=entry.request._replace(routing_key="heidi"))

    assert [hashlib.sha256(b"heidi").hexdigest()[:32]] == table(entry)["routing_key"].to_pylist()


def test_parameters_are_payload():
    """They are logged with all inputs only; without them such a request cannot be sent again."""
    entry = one()
    request = entry.request._replace(parameters={"level": 0.9, "binary_data_output": True})
    entry = entry._replace(request=request)

    assert {"level": 0.9} == json.loads(table(entry, ALL)["parameters"][0].as_py())
    assert [None] == table(entry, "features")["parameters"].to_pylist()
    assert not is_complete(entry, "features")


def test_a_request_without_rows_has_none():
    """Nothing is logged of what is empty."""
    request = PredictRequest("sums", tensors=tensors(features=np.ones((0, 2))))

    assert [] == list(blocks_of(answered(request, {"sum": np.ones(0)}), (ALL,)))


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        (answered(PredictRequest("sums", rows=[["x"]]), signature=SUMS), InvalidInput),
        (answered(TWO, {"sum": [1.0]}), ValueError),
    ],
)
def test_what_does_not_fit_is_an_error(entry, error):
    """A table never pairs rows with other rows' answers."""
    with pytest.raises(error):
        list(blocks_of(entry, (ALL,)))
