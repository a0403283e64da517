"""Requests of a log, read again: the same inputs to the bit, together as they came."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prometheus_client import CollectorRegistry
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from bundleserver import BundleStore
from bundleserver.bundle.opening import open_bundle
from bundleserver.errors import BundleError
from bundleserver.serving.execution.predict import predict
from bundleserver.serving.payload_log import replaying
from bundleserver.serving.payload_log.entries import Entry, Taker
from bundleserver.serving.payload_log.log_options import LogOptions
from bundleserver.serving.payload_log.metrics import LogMetrics
from bundleserver.serving.payload_log.replaying import LoggedRequests
from bundleserver.serving.payload_log.writing import Writer
from bundleserver.serving.requests import PredictRequest, RequestedOutput
from bundleserver.tensors import NamedTensor, TensorSpec
from bundleserver.tensors.signature import Signature
from tests.serving.fakes import FORECASTS, SUMS, FakeManager, FakeModel
from tests.serving.payload_log.entries import AT, answered, failed, files, one, tensors
from tests.serving.payload_log.test_tables import MIXED

RNG = np.random.default_rng(8)


@pytest.fixture
def logged(tmp_path):
    """Give a function that writes entries to a log and returns its directory."""

    def write(*entries, columns=("all",)):
        options = LogOptions(tmp_path / "log", columns=columns)
        manager = FakeManager(FakeModel("sums"))
        writer = Writer(options, manager, LogMetrics(CollectorRegistry()))
        writer.add(entries)
        writer.rotate(everything=True)
        return tmp_path / "log"

    return write


def sent(count):
    """Make a request of so many rows."""
    values = RNG.random((count, 2))
    return answered(PredictRequest("sums", tensors=tensors(features=values)), {"sum": values[:, 0]})


def test_requests_come_back_as_they_were(logged, monkeypatch):
    """Rows that came together go together, over the borders of what is read at once."""
    monkeypatch.setattr(replaying, "_ROWS_AT_ONCE", 4)
    entries = [sent(count) for count in (1, 2, 9, 4, 1, 3)]
    found = LoggedRequests.of(logged(*entries), "sums")

    assert 6 == found.count()
    for entry, request in zip(entries, found, strict=True):
        (tensor,) = request.tensors
        assert ("features", ("cpu", "memory")) == (tensor.name, tensor.columns)
        assert entry.request.tensors[0].values.tobytes() == tensor.values.tobytes()


@pytest.mark.parametrize(
    ("signature", "request_", "outputs"),
    [
        (
            Signature((TensorSpec("x", "FP16", (-1, 2)),)),
            PredictRequest("m", tensors=tensors(x=np.array([[1, 2]], np.float16))),
            {"y": [1.0]},
        ),
        (
            Signature((TensorSpec("x", "FP32", (-1, 3, 2)), TensorSpec("t", "BYTES", (-1,)))),
            PredictRequest("m", tensors=tensors(x=np.ones((2, 3, 2), np.float32), t=["a", "b"])),
            {"y": [1.0, 2.0]},
        ),
        (
            Signature((TensorSpec("x", "FP64", (-1, -1)),)),
            PredictRequest("m", rows=[[1, 2, 3], [4, 5, 6.5]]),
            {"y": [1.0, 2.0]},
        ),
        (MIXED, PredictRequest("m", rows=[[30.5, "Bonn", True]]), {"y": [1]}),
        (Signature(), PredictRequest("m", tensors=tensors(a=[1], b=[True])), {"y": [1]}),
        (
            FORECASTS,
            PredictRequest("m", tensors=tensors(horizon=[3], history=[1, 2.5])),
            {"y": [1]},
        ),
        (SUMS, PredictRequest("m", rows=[{"cpu": 1, "memory": 2.5}]), {"y": [1]}),
    ],
)
def test_inputs_are_valid_and_the_same(logged, signature, request_, outputs):
    """Whatever kind they are of: the signature takes them, and makes the same of them."""
    entry = answered(request_, outputs, signature=signature)
    (again,) = LoggedRequests.of(logged(entry), "m")

    if request_.rows is not None:
        first = signature.validate_rows(request_.rows, "m")
    else:
        first = signature.validate_tensors(request_.tensors, "m")
    second = signature.validate_tensors(again.tensors, "m")
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert (tensor.values.dtype, tensor.values.tolist(), tensor.columns) == (
            second[name].values.dtype,
            second[name].values.tolist(),
            second[name].columns,
        )


def test_each_instance_of_a_forecast_is_a_request(logged):
    """Their horizons differ, so they were answered one by one, with their own parameters."""
    request = PredictRequest("m", rows=[{"horizon": 2, "level": 0.5}, {"horizon": 1}])
    answers = [{"mean": [1.0, 2.0]}, {"mean": [3.0]}]
    log = logged(answered(request, {}, signature=FORECASTS, rows=2, answers=answers))

    found = list(LoggedRequests.of(log, "m"))

    assert [[2], [1]] == [one.tensors[0].values.tolist() for one in found]
    assert [{"level": 0.5}, {}] == [dict(one.parameters) for one in found]
    assert 2 == LoggedRequests.of(log, "m").count()


def test_failed_requests_are_not_sent_again(logged):
    """They have no inputs."""
    log = logged(failed(), sent(2), failed(), sent(1))

    assert [2, 1] == [len(r.tensors[0].values) for r in LoggedRequests.of(log, "sums")]
    assert 2 == LoggedRequests.of(log, "sums").count()


def test_the_only_model_of_a_log_may_have_another_name(logged):
    """A directory is not always called as its model is served."""
    log = logged(one("served"))

    assert ["served"] == [request.model for request in LoggedRequests.of(log, "directory")]


def test_files_of_one_kind_can_be_read_one_by_one(logged):
    """A file is as good as a directory."""
    log = logged(sent(2))

    assert 1 == LoggedRequests.of(files(log)[0], "sums").count()


def test_what_cannot_be_sent_again_says_what_to_do(logged, tmp_path):
    """Each reason has its sentence."""
    partial = logged(one(), columns=("cpu",))
    with pytest.raises(BundleError, match=r"does not have all inputs.*--log_columns all"):
        LoggedRequests.of(partial, "sums")
    both = logged(one("a"), one("b"))
    with pytest.raises(BundleError, match="has no requests to 'c'; it has some to 'a', 'b'"):
        LoggedRequests.of(both, "c")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match=r"has no files of a payload log; expected \*.parquet"):
        LoggedRequests.of(tmp_path / "empty", "m")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    with pytest.raises(
        BundleError, match="is not a file of a payload log; expected one of format 1"
    ):
        LoggedRequests.of(tmp_path / "other.parquet", "m")
    (tmp_path / "text.parquet").write_text("no Parquet")
    with pytest.raises(BundleError, match=r"text.parquet' is not a valid Parquet file"):
        LoggedRequests.of(tmp_path / "text.parquet", "m")


def test_files_without_all_inputs_are_left_out_where_others_have_them(logged):
    """A server that was started again with other flags does not spoil its log."""
    logged(one(), columns=("cpu",))
    found = LoggedRequests.of(logged(sent(1)), "sums")

    assert (1, 1) == (found.count(), len(found.left_out))


def test_a_damaged_file_is_named(logged):
    """With what is wrong with it; the others are read."""
    (path,) = files(logged(*[sent(50) for _ in range(50)]))
    data = bytearray(path.read_bytes())
    data[4:2000] = bytes(1996)
    path.write_bytes(data)

    found = LoggedRequests.of(logged(sent(2)), "sums")

    assert [2] == [len(request.tensors[0].values) for request in found]
    (said,) = found.unreadable
    assert said.startswith(f"'{path}' cannot be read as a payload log: ")


def test_foreign_files_are_left_out_and_named(logged):
    """They are no reason to read nothing."""
    log = logged(sent(2))
    (log / "text.parquet").write_text("no Parquet")
    pq.write_table(pa.table({"x": [1]}), log / "other.parquet")
    found = LoggedRequests.of(log, "sums")

    assert 1 == found.count() == len(list(found))
    other, text = found.unreadable
    assert "other.parquet' is not a file of a payload log" in other
    assert "text.parquet' is not a valid Parquet file" in text


def test_outputs_that_were_asked_for_are_asked_for_again(logged):
    """A model may make some only then."""
    entry = sent(1)
    request = entry.request._replace(outputs=(RequestedOutput("sum", binary=True),))
    (again,) = LoggedRequests.of(logged(entry._replace(request=request)), "sums")

    assert ("sum",) == tuple(wanted.name for wanted in again.outputs)


def test_requests_of_every_form_are_in_one_file_and_come_back(logged):
    """A table as lists, as objects and as tensors of one column; with integers, and without all."""
    mixed = [
        PredictRequest("m", rows=[[30, "Bonn", True], [None, None, False]]),
        PredictRequest("m", rows=[{"age": 30, "city": "Bonn", "rich": True}]),
        PredictRequest("m", rows=[{"age": 30.5, "city": None, "rich": False}]),
        PredictRequest("m", tensors=tensors(age=[[1]], city=[["Ulm"]], rich=np.array([[True]]))),
    ]
    counts = (2, 1, 1, 1)
    log = logged(
        *(
            answered(asked, {"y": [1] * count}, signature=MIXED)
            for asked, count in zip(mixed, counts, strict=True)
        )
    )
    found = list(LoggedRequests.of(log, "m"))

    (path,) = files(log)
    fields = {
        field.name: str(field.type)
        for field in pq.read_schema(path)
        if field.name.startswith("input_")
    }
    assert {"input_age": "double", "input_city": "string", "input_rich": "bool"} == fields
    before = [
        MIXED.validate_rows(asked.rows, "m")
        if asked.rows
        else MIXED.validate_tensors(asked.tensors, "m")
        for asked in mixed
    ]
    after = [MIXED.validate_tensors(asked.tensors, "m") for asked in found]
    assert sorted(map(_plain, before)) == sorted(map(_plain, after))


def _plain(bound) -> str:
    """Return validated inputs as text: dtypes, shapes and values."""
    return repr(
        {
            name: (
                tensor.values.dtype,
                tensor.values.shape,
                # An integer among objects is a float of the same value.
                [float(v) if isinstance(v, (int, float)) else v for v in tensor.values.flat],
            )
            for name, tensor in sorted(bound.items())
        }
    )


def test_a_pipeline_of_numbers_and_texts_answers_the_same_again(logged, tmp_path):
    """Columns of a table, with nulls, by V1 and V2: the second answer is the first to the bit."""
    frame = pd.DataFrame(
        {"age": [20.0, None, 40.0, 55.0], "city": ["Bonn", "Köln", None, "Bonn"], "n": [1, 2, 3, 4]}
    )
    encoder = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["city"]),
        (SimpleImputer(), ["age"]),
        remainder="passthrough",
    )
    model = make_pipeline(encoder, LinearRegression()).fit(frame, [0.1, 0.7, 0.3, 0.9])
    BundleStore(tmp_path).save("m", {"model": model})
    rows = [{"age": 33.3, "city": "Köln", "n": 2}, {"age": None, "city": None, "n": 7}]
    columns = [
        NamedTensor("age", np.array([1.5, np.nan])),
        NamedTensor("city", np.array(["Bonn", "Ulm"], dtype=object)),
        NamedTensor("n", np.array([5, 6])),
    ]
    requests = [
        PredictRequest("m", rows=rows),
        PredictRequest("m", rows=rows[:1]),
        PredictRequest("m", tensors=tuple(columns)),
    ]
    with closing(open_bundle(tmp_path / "m" / "v1")) as bundle:
        taker = Taker(bundle.signature, bundle.identity)
        responses = [predict(bundle, request) for request in requests]
        entries = [
            Entry(asked, "v1", AT, 0.1, "ok", 2, response, taker)
            for asked, response in zip(requests, responses, strict=True)
        ]
        again = [predict(bundle, asked) for asked in LoggedRequests.of(logged(*entries), "m")]

    first, second = (
        sorted(one.outputs["output-0"].tobytes() for one in answers)
        for answers in (responses, again)
    )
    assert first == second
