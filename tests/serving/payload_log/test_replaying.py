"""Requests of a log, read again: the same inputs to the bit, together as they came."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prometheus_client import CollectorRegistry

from bundleserver.errors import BundleError
from bundleserver.serving.payload_log import replaying
from bundleserver.serving.payload_log.log_options import LogOptions
from bundleserver.serving.payload_log.metrics import LogMetrics
from bundleserver.serving.payload_log.replaying import LoggedRequests
from bundleserver.serving.payload_log.writing import Writer
from bundleserver.serving.requests import PredictRequest
from bundleserver.tensors import TensorSpec
from bundleserver.tensors.signature import Signature
from tests.serving.fakes import FORECASTS, SUMS, FakeManager, FakeModel
from tests.serving.payload_log.entries import answered, failed, files, one, tensors
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
    with pytest.raises(BundleError, match="is no file of a payload log; expected one of format 1"):
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
    """With what is wrong with it."""
    (path,) = files(logged(*[sent(50) for _ in range(50)]))
    data = bytearray(path.read_bytes())
    data[4:2000] = bytes(1996)
    path.write_bytes(data)

    with pytest.raises(BundleError, match="cannot be read as a payload log"):
        list(LoggedRequests.of(path, "sums"))
