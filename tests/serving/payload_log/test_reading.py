"""What people read the log with: the page's snippet and pandas, on whatever was logged."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from prometheus_client import CollectorRegistry

from bundleserver.serving.payload_log.log_options import LogOptions
from bundleserver.serving.payload_log.metrics import LogMetrics
from bundleserver.serving.payload_log.writing import Writer
from bundleserver.serving.requests import PredictRequest
from bundleserver.tensors import TensorSpec
from bundleserver.tensors.signature import Signature
from tests.serving.fakes import FakeManager, FakeModel, FakeVersion
from tests.serving.payload_log.entries import answered, failed, one, tensors
from tests.serving.payload_log.test_tables import MIXED

PAGE = Path(__file__).parents[3] / "docs" / "payload-log.md"
OTHER = Signature((TensorSpec("z", "INT64", (-1,)),), (TensorSpec("sum", "FP32", (-1,)),))


@pytest.fixture
def log(tmp_path):
    """Give a function that logs each group of entries in files of its own."""
    versions = (FakeVersion("1"), FakeVersion("2", signature=OTHER))
    manager = FakeManager(FakeModel("sums", versions), FakeModel("all", versions))

    def write(*groups):
        options = LogOptions(tmp_path / "log", columns=("all",))
        writer = Writer(options, manager, LogMetrics(CollectorRegistry()))
        for group in groups:
            writer.add(group)
            writer.rotate(everything=True)
        return tmp_path / "log"

    return write


def by_the_page(directory: Path, model: str) -> pd.DataFrame:
    """Run the page's snippet on a log."""
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    snippet = snippet.replace("/var/log/requests/model=fraud", f"{directory}/model={model}")
    found: dict[str, object] = {}
    exec(snippet, found)  # noqa: S102
    return found["frame"]


def rows_of(*values, signature):
    """Make answered V1 requests of rows."""
    return [
        answered(PredictRequest("sums", rows=[list(row)]), signature=signature) for row in values
    ]


def mixed(*values):
    """Make answered requests to an input of mixed columns."""
    return rows_of(*values, signature=MIXED)


def test_whole_numbers_and_others_are_one_column(log):
    """JSON does not tell ``3`` from ``3.0``."""
    plain = Signature((TensorSpec("x", "FP64", (-1, 3)),), (TensorSpec("sum", "FP64", (-1,)),))
    directory = log(
        rows_of([1, 2, 3], signature=plain),
        rows_of([1, 2, 3.5], signature=plain),
        mixed([1, "a", True]),
        mixed([None, None, False], [12.5, "b", True]),
    )
    frame = pd.read_parquet(directory, filters=[("model", "=", "sums")])

    assert [2, 3.0, 3.5] == [
        len(frame["input_x"].dropna()),
        *(x[2] for x in frame["input_x"].dropna()),
    ]
    frame = by_the_page(directory, "sums").sort_values("input_age")
    assert {1.0, 12.5} == set(frame["input_age"].dropna())
    assert {"a", "b"} == set(frame["input_city"].dropna())


def test_requests_without_a_version_break_no_reader(log):
    """They are in a partition of their own, also when theirs is the only file."""
    directory = log([failed("nope")])
    assert ["~none"] == pd.read_parquet(directory)["version"].astype(str).tolist()
    directory = log([one()], [failed("nope"), failed()])

    for frame in (pd.read_parquet(directory), by_the_page(directory, "sums")):
        assert {"1", "~none"} == set(frame["version"].astype(str))
        assert [3.0] == frame["output_sum"].dropna().tolist()
        assert [1.0] == frame["input_cpu"].dropna().tolist()


def test_models_and_versions_have_their_own_columns(log):
    """Whichever comes first in the alphabet."""
    request = PredictRequest("sums", tensors=tensors(z=np.array([7])))
    second = answered(request, signature=OTHER, version="2")
    directory = log([one(), second, one("all")])
    frame = by_the_page(directory, "sums")

    assert {"1", "2"} == set(frame["version"])
    assert ([7], [1.0]) == (
        frame["input_z"].dropna().tolist(),
        frame["input_cpu"].dropna().tolist(),
    )
    assert [1.0] == by_the_page(directory, "all")["input_cpu"].tolist()


def test_a_first_file_with_failures_only_has_all_columns(log):
    """Readers take the columns from it."""
    directory = log([failed()], [one()])
    frame = pd.read_parquet(directory, filters=[("model", "=", "sums")])

    assert [1.0] == frame["input_cpu"].dropna().tolist()


def test_nothing_is_dropped_for_its_datatypes(tmp_path):
    """Each column is whole, broken or null in each request, as ordinary tables are."""
    columns = tuple("abcdef")
    signature = Signature((TensorSpec("t", None, (-1, 6), columns),), lenient=True)
    metrics = LogMetrics(CollectorRegistry())
    manager = FakeManager(FakeModel("sums", (FakeVersion("1", signature=signature),)))
    writer = Writer(replace(LogOptions(tmp_path), columns=("all",)), manager, metrics)
    kinds = (12, 12.5, None)
    rows = [
        {name: kinds[number // 3**at % 3] for at, name in enumerate(columns)}
        for number in range(3**6)
    ]
    writer.add([answered(PredictRequest("sums", rows=[row]), signature=signature) for row in rows])
    writer.rotate(everything=True)

    frame = pd.read_parquet(tmp_path)
    assert 3**6 == len(frame)
    for name in columns:
        assert {12.0, 12.5} == set(frame[f"input_{name}"].dropna())
