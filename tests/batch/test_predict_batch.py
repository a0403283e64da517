from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pytest
from statsmodels.tsa.arima.model import ARIMA

from bundleserver import BundleStore
from bundleserver.batch import predict_batch
from bundleserver.batch.models import Local, open_local
from bundleserver.errors import BundleServerError, InvalidInput
from bundleserver.serving.codecs import v2
from bundleserver.serving.execution.predict import predict
from tests.batch.saved import CASES, IDS, NUMBERS, RANDOM, Case, forest, save, sequences, strict


def values_of(batch: pa.RecordBatch, name: str) -> np.ndarray:
    """Return an output's column as one array."""
    return np.array(batch.column(name).to_pylist())


@pytest.mark.parametrize("name", CASES)
def test_answers_are_those_of_the_library_to_the_bit(tmp_path, name):
    """A table's scores are what the library's own call on the whole table returns."""
    case = CASES[name]()
    directory = save(case, tmp_path)
    keep = [] if case.columns else ["id"]
    table = case.arrow()
    given = {"method": case.method, "columns": case.columns, "keep": keep}

    scored = predict_batch(table, directory, **given)

    answer = values_of(scored, scored.schema.names[len(keep)])
    assert case.expected.shape == answer.shape
    assert (case.expected == answer).all()
    assert not keep or list(IDS[: len(table)]) == scored.column("id").to_pylist()


@pytest.mark.parametrize("name", ["forest", "pipeline", "gaps", "strict", "sequences", "cat"])
def test_answers_are_those_of_a_v2_request(tmp_path, name):
    """The server's V2 answer to the same rows has the same bits."""
    case = CASES[name]()
    directory = save(case, tmp_path)
    with closing(open_local(Local(directory))) as bundle:
        request = v2.decode_request(orjson.dumps(v2_document(case, bundle)), "model", None)
        response = predict(bundle, request)

    scored = predict_batch(case.arrow(), directory, method=case.method)

    assert list(response.outputs) == scored.schema.names
    for output, values in response.outputs.items():
        assert (values == values_of(scored, output)).all()


def v2_document(case: Case, bundle) -> dict[str, object]:
    """Write the request that a client of V2 sends for a case's table."""
    inputs = bundle.signature.inputs
    table = case.table
    wanted = [spec.name for spec in inputs]
    if inputs[0].columns and bundle.signature.lenient:
        tensors = [tensor(name, table[name].to_list()) for name in inputs[0].columns]
    elif inputs[0].columns:
        rows = table[list(inputs[0].columns)].to_numpy(np.float32)
        tensors = [tensor(wanted[0], rows.astype(float).tolist(), "FP32")]
    else:
        tensors = [tensor(wanted[0], table[table.columns[0]].to_list(), "FP32")]
    outputs = [{"name": case.method}] if case.method else []
    return {"inputs": tensors, **({"outputs": outputs} if outputs else {})}


def tensor(name: str, values: list[object], datatype: str | None = None) -> dict[str, object]:
    """Write one tensor."""
    array = np.array(values)
    known = {"f": "FP64", "i": "INT64", "U": "BYTES", "O": "BYTES"}
    plain = [None if value != value else value for value in array.reshape(-1).tolist()]
    kind = datatype or known[array.dtype.kind]
    return {"name": name, "datatype": kind, "shape": list(array.shape), "data": plain}


def test_the_schema_says_which_version_answered(tmp_path):
    """Model, version and digest are in the schema's metadata."""
    directory = save(forest(), tmp_path)

    scored = predict_batch(forest().arrow(), directory)

    with closing(open_local(Local(directory))) as bundle:
        digest = str(bundle.metadata()["digest"])
    assert {
        b"bundleserver.model": b"model",
        b"bundleserver.version": b"v1",
        b"bundleserver.digest": digest.encode(),
    } == scored.schema.metadata


def test_workers_call_it_from_many_threads_with_pickled_arguments(tmp_path):
    """One open model answers all threads of a process, whoever asks first."""
    case = forest()
    arguments = pickle.dumps((predict_batch, save(case, tmp_path)))

    def ask(_: int) -> list[int]:
        function, directory = pickle.loads(arguments)
        return function(case.arrow(), directory).column(0).to_pylist()

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(8)))

    assert [case.expected.tolist()] * 8 == answers


def test_an_open_bundle_answers_too(tmp_path):
    """Whoever has a bundle open need not open it again."""
    case = forest()
    with closing(open_local(Local(save(case, tmp_path)))) as bundle:
        scored = predict_batch(case.arrow().to_batches()[0], bundle, keep=["id"])

        assert case.expected.tolist() == scored.column("output-0").to_pylist()


def test_no_rows_have_the_columns_of_many(tmp_path):
    """An engine's empty partition has the schema of the others."""
    case = CASES["probabilities"]()
    directory = save(case, tmp_path)
    whole = predict_batch(case.arrow(), directory, keep=["id"], method="predict_proba")

    none = predict_batch(case.arrow().slice(0, 0), directory, keep=["id"], method="predict_proba")

    assert whole.schema.equals(none.schema, check_metadata=True)


OWN_CODE = """
class Echo:
    def predict(self, inputs):
        return {"y": inputs["x"]}
"""


def test_outputs_that_nobody_declared_have_the_names_of_the_first_answer(tmp_path):
    """No rows have the columns of many, and an unknown method is told what there is."""
    (tmp_path / "echoing.py").write_text(OWN_CODE)
    path, options = "code/echoing.py", {"class": "Echo"}
    BundleStore(tmp_path / "models").save(
        "echo",
        {"model": {"framework": "python", "path": path, "options": options}},
        inputs=[{"name": "x", "datatype": "FP64", "shape": [-1]}],
        examples={"x": np.array([1.5])},
        code=[tmp_path / "echoing.py"],
    )
    rows = pa.table({"x": [1.5, 2.5], "id": [1, 2]})

    none = predict_batch(rows.slice(0, 0), tmp_path / "models" / "echo", keep=["id"])

    assert ["id", "y"] == none.schema.names
    with pytest.raises(InvalidInput, match=r"unknown output 'nope'.*has the outputs 'y'"):
        predict_batch(rows, tmp_path / "models" / "echo", method="nope")


def test_sequences_of_different_lengths_are_asked_by_length(tmp_path):
    """Rows of one batch may have sequences of their own length each."""
    import torch

    torch.manual_seed(1)
    model = torch.nn.Conv1d(2, 2, 1).eval()
    axes = {0: torch.export.Dim("rows"), 2: torch.export.Dim("steps")}
    program = torch.export.export(model, (torch.zeros(2, 2, 3),), dynamic_shapes=(axes,))
    rows = [RANDOM.normal(size=(2, steps)).astype(np.float32) for steps in (3, 5, 3, 4)]
    directory = save(Case(program, pd.DataFrame(), np.zeros(0)), tmp_path)

    scored = predict_batch(pa.table({"x": [row.tolist() for row in rows]}), directory)

    answers = scored.column(0).to_pylist()
    for row, answer in zip(rows, answers, strict=True):
        with torch.no_grad():
            expected = model(torch.from_numpy(row[np.newaxis])).numpy()[0]
        np.testing.assert_allclose(expected, np.array(answer), rtol=1e-6)


REFUSED = {
    "missing": (
        lambda t: t.drop_columns(["b"]),
        {},
        "missing column 'b'; 'model' version v1 expects 'a', 'b', 'c'",
    ),
    "misspelt": (
        lambda t: t.rename_columns(["A" if n == "a" else n for n in t.column_names]),
        {},
        "did you mean 'a' for 'A'?",
    ),
    "twice": (
        lambda t: t.append_column("a", t.column("a")),
        {},
        "the table has the columns 'a' more than once",
    ),
    "strings": (
        lambda t: t.set_column(t.column_names.index("a"), "a", pa.array(["1"] * len(t))),
        {},
        "column 'a' is string; 'model' version v1 expects FP64, and nothing is converted",
    ),
    "no key": (lambda t: t, {"keep": ["ids"]}, "keep: the table has no column 'ids'"),
    "a string": (lambda t: t, {"keep": "id"}, "keep is the string 'id'; expected a list: ['id']"),
    "key twice": (lambda t: t, {"keep": ["id", "id"]}, "keep has 'id' more than once"),
    "columns twice": (lambda t: t, {"columns": ["a", "a"]}, "columns has 'a' more than once"),
    "columns": (lambda t: t, {"columns": ["a"]}, "takes its columns by name, 'a', 'b', 'c'"),
    "method": (lambda t: t, {"method": "guess"}, "unknown output 'guess'"),
    "version": (lambda t: t, {"version": "v9"}, "v9"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_table_that_does_not_fit_is_refused(tmp_path, name):
    """The message names the column, what it is and what is expected."""
    alter, given, says = REFUSED[name]
    case = forest()
    directory = save(case, tmp_path)

    with pytest.raises(BundleServerError) as error:
        predict_batch(alter(case.arrow()), directory, **given)

    assert says in str(error.value)


def test_bad_rows_are_named_by_number_and_reason(tmp_path):
    """The first ones are told, with how many more there are."""
    case = strict()
    directory = save(case, tmp_path)
    table = case.arrow()
    values = table.column("b").to_pylist()
    for row in (3, 50, 51, 99):
        values[row] = None
    values[70] = 1e300
    bad = table.set_column(table.column_names.index("b"), "b", pa.array(values))

    with pytest.raises(InvalidInput) as error:
        predict_batch(bad, directory)

    said = str(error.value)
    assert "row 4: " in said
    assert "row 51: " in said
    assert "row 52: " in said
    assert said.endswith("; and 2 more rows")


def test_a_kept_column_must_not_have_an_outputs_name(tmp_path):
    """Neither would be found again."""
    case = forest()
    table = case.arrow().append_column("output-0", pa.array(IDS))

    with pytest.raises(InvalidInput, match="'output-0' is also the name of an output"):
        predict_batch(table, save(case, tmp_path), keep=["output-0"])


def test_a_forecaster_answers_each_row_with_a_row_for_each_step(tmp_path):
    """Keys, steps and values of several horizons, as V1 answers them."""
    series = np.cumsum(RANDOM.normal(size=60))
    BundleStore(tmp_path).save("sales", ARIMA(series, order=(1, 0, 0)).fit())
    questions = pa.table({"sku": ["x", "y"], "horizon": [2, 3], "level": [0.5, None]})

    scored = predict_batch(questions, tmp_path / "sales", keep=["sku"])

    with closing(open_local(Local(tmp_path / "sales"))) as bundle:
        short = bundle.predict(inputs_of(bundle, 2), {"level": 0.5})
        long = bundle.predict(inputs_of(bundle, 3), {})
    assert ["sku", "step", "mean", "lower", "upper"] == scored.schema.names
    assert ["x", "x", "y", "y", "y"] == scored.column("sku").to_pylist()
    assert [1, 2, 1, 2, 3] == scored.column("step").to_pylist()
    for name in ("mean", "lower", "upper"):
        expected = [*short[name].tolist(), *long[name].tolist()]
        assert expected == scored.column(name).to_pylist()


def inputs_of(bundle, horizon: int):
    """Make the inputs of a forecast."""
    from bundleserver.bundle.warming.examples import validate_values

    return validate_values({"horizon": horizon}, bundle.signature, bundle.identity)


def test_a_table_without_a_forecasters_inputs_is_refused(tmp_path):
    """Its columns are named, and what is expected."""
    series = np.cumsum(RANDOM.normal(size=60))
    BundleStore(tmp_path).save("sales", ARIMA(series, order=(1, 0, 0)).fit())

    with pytest.raises(InvalidInput, match="has none of the inputs of 'sales' version v1: 'horiz"):
        predict_batch(pa.table({"sku": ["x"]}), tmp_path / "sales")


def test_dates_and_categories_have_the_values_that_they_stand_for(tmp_path):
    """Dictionaries and decimals are read as their values."""
    case = forest()
    directory = save(case, tmp_path)
    table = case.arrow()
    a = table.column_names.index("a")
    coded = table.set_column(a, "a", pa.array(NUMBERS.a).dictionary_encode())

    scored = predict_batch(coded, directory)

    assert case.expected.tolist() == scored.column(0).to_pylist()


def test_sequences_must_have_the_models_shape(tmp_path):
    """A row of another shape is named."""
    case = sequences()
    directory = save(case, tmp_path)
    rows = case.table["x"].to_list()
    rows[7] = rows[7][:3]
    rows[8] = [rows[8][0], rows[8][1][:1]]

    with pytest.raises(InvalidInput) as error:
        predict_batch(pa.table({"x": rows}), directory)

    assert "row 8: column 'x' has a value of shape [3, 2]; expected [5, 2]" in str(error.value)
    assert "row 9: column 'x' has lists of different lengths" in str(error.value)


def test_a_method_of_trees_has_the_same_bits_in_every_batch(tmp_path):
    """What a method adds is measured before it is told."""
    from bundleserver.batch.binding import bind
    from bundleserver.batch.scoring import Scorer

    case = forest()
    with closing(open_local(Local(save(case, tmp_path)))) as bundle:
        scorer = Scorer(bundle, bind(bundle, case.arrow().schema), "predict_proba")

        assert scorer.rows_independent
        with pytest.raises(
            InvalidInput, match=r"unknown output 'nope'; .* has the outputs 'output"
        ):
            Scorer(bundle, bind(bundle, case.arrow().schema), "nope")


class Tagged(pa.ExtensionType):
    """Numbers of a type of one's own, which has no hash."""

    __hash__ = None

    def __init__(self) -> None:
        super().__init__(pa.float64(), "tests.tagged")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage, serialized):
        return cls()


def test_columns_of_extension_types_have_their_values(tmp_path):
    """Taken or kept, and whether or not the type can be hashed."""
    case = forest()
    table = case.arrow()
    a = table.column_names.index("a")
    tagged = pa.ExtensionArray.from_storage(Tagged(), pa.array(NUMBERS.a))

    scored = predict_batch(table.set_column(a, "a", tagged), save(case, tmp_path), keep=["a"])

    assert case.expected.tolist() == scored.column("output-0").to_pylist()
    assert NUMBERS.a.tolist() == scored.column("a").storage.to_pylist()


@pytest.mark.parametrize("what", ["keep", "columns"])
def test_one_name_is_no_list_of_names(tmp_path, what):
    """A string is refused, since its characters would be names."""
    with pytest.raises(InvalidInput, match=f"{what} is the string 'id'; expected a list: .'id'."):
        predict_batch(forest().arrow(), tmp_path, **{what: "id"})
