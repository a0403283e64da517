"""The columns of a version: those of its signature, in every file, whatever its requests are."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from bundleserver.serving.payload_log.rows.schemas import ALL, BASE, VersionSchema
from bundleserver.tensors import TensorSpec
from bundleserver.tensors.signature import Signature
from tests.serving.fakes import FORECASTS, SUMS
from tests.serving.payload_log.test_tables import MIXED


def declared(signature, *wanted) -> dict[str, str]:
    """Return the columns that a signature declares, and their types."""
    schema = VersionSchema(wanted)
    schema.declare(signature)
    schema.declare(signature)
    return {field.name: str(field.type) for field in [*schema.schema()][len(BASE) :]}


def spec(datatype, shape=(-1,), **more):
    """Make a signature of one input."""
    return Signature((TensorSpec("x", datatype, shape, **more),), lenient=True)


@pytest.mark.parametrize(
    ("signature", "wanted", "columns"),
    [
        (
            SUMS,
            (ALL,),
            {
                "input_cpu": "double",
                "input_memory": "double",
                "output_sum": "double",
                "output_label": "string",
            },
        ),
        (SUMS, (), {"output_sum": "double", "output_label": "string"}),
        (
            SUMS,
            ("memory",),
            {"input_memory": "double", "output_sum": "double", "output_label": "string"},
        ),
        (MIXED, (ALL,), {"input_age": "double", "input_city": "string", "input_rich": "bool"}),
        (
            FORECASTS,
            (ALL,),
            {
                "input_horizon": "list<item: int64>",
                "input_history": "list<item: double>",
                "output_mean": "list<item: double>",
                "output_upper": "list<item: double>",
            },
        ),
        (spec("INT64"), (ALL,), {"input_x": "int64"}),
        (spec("FP16"), (ALL,), {"input_x": "float"}),
        (spec(None), (ALL,), {"input_x": "double"}),
        (spec(None, (-1, 3)), (ALL,), {"input_x": "list<item: double>"}),
        (spec(None, None), (ALL,), {}),
        (Signature(), (ALL,), {}),
    ],
)
def test_a_signature_declares_columns(signature, wanted, columns):
    """Before any request came, and once only."""
    assert columns == declared(signature, *wanted)


@pytest.mark.parametrize(
    ("signature", "arrays", "name"),
    [
        (spec(None), [np.array([1]), np.array([1.5]), np.array([True])], "input_x"),
        (spec("INT64"), [np.array([1]), np.array([2.0])], "input_x"),
        (spec("BYTES"), [np.array(["a"], dtype=object), np.array([None])], "input_x"),
    ],
)
def test_values_of_any_datatype_that_fits_have_the_column_that_is_declared(signature, arrays, name):
    """JSON has one number as an integer and the next as none."""
    schema = VersionSchema((ALL,))
    schema.declare(signature)
    found = [schema.column_of("input", "x", None, [array])[0].name for array in arrays]

    assert {name} == set(found)


def test_what_fits_no_column_has_one_of_its_own():
    """It is kept then, so that the files stay one table."""
    schema = VersionSchema((ALL,))
    schema.declare(spec("INT64"))
    arrays = [
        np.array([1.5]),
        np.array(["a"], dtype=object),
        np.array([[1.0, 2.0]]),
        np.array([2.5]),
        np.array([7]),
    ]
    names = [schema.column_of("input", "x", None, [array])[0].name for array in arrays]

    assert ["input_x_number", "input_x_text", "input_x_list", "input_x_number", "input_x"] == names


def test_an_open_signature_has_doubles_for_all_numbers():
    """Columns are added as they come, and each keeps its type."""
    schema = VersionSchema((ALL,))
    schema.declare(Signature())
    for array in (np.array([1]), np.array([1.5]), np.array([1, None], dtype=object)):
        schema.column_of("output", "y", None, [array])

    assert ["output_y"] == [slot.name for slot in schema.slots]
    assert pa.float64() == schema.slots[0].leaf


def test_a_table_is_the_same_columns_as_rows_and_as_tensors():
    """Clients of a drop-in for KServe's sklearn server send either."""
    schema = VersionSchema((ALL,))
    schema.declare(MIXED)
    ages = np.array([1.0])
    found = {
        schema.column_of("input", *key, [ages])[0].name
        for key in (("input-0", "age"), ("age", None), ("age", "age"))
    }

    assert {"input_age"} == found
