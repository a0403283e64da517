"""``bundleserver compare``: two versions side by side on a file of requests."""

import json
import sys

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from sklearn.linear_model import LinearRegression, LogisticRegression
from typer.testing import CliRunner

from bundleserver import BundleStore
from bundleserver.bundle.opening import open_bundle
from bundleserver.cli import app
from bundleserver.commands import comparing
from bundleserver.serving.execution.predict import predict
from bundleserver.serving.payload_log.entries import Entry, Taker
from bundleserver.serving.payload_log.log_options import LogOptions
from bundleserver.serving.payload_log.metrics import LogMetrics
from bundleserver.serving.payload_log.writing import Writer
from bundleserver.serving.requests import PredictRequest
from bundleserver.tensors import NamedTensor
from tests.serving.fakes import FakeManager, FakeModel, FakeVersion

X = np.random.default_rng(5).normal(size=(200, 2))
ROWS = [{"instances": X[start : start + 4].tolist()} for start in range(0, 80, 4)]
TENSOR = {"name": "input-0", "datatype": "FP64", "shape": [4, 2], "data": X[:4].tolist()}


def run(*arguments):
    """Run one command in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def model(tmp_path):
    """Save two regressions, the second of which answers 0.5 more."""
    store = BundleStore(tmp_path / "models")
    for offset in (0.0, 0.5):
        store.save("price", {"model": LinearRegression().fit(X, X[:, 0] + offset)})
    return tmp_path / "models" / "price"


@pytest.fixture
def requests(tmp_path):
    """Write a request on each line."""
    path = tmp_path / "requests.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)) + "\n")
    return path


def test_compare_shows_agreement_differences_and_latencies(model, requests):
    """People get a table of the answers and one of the latencies."""
    done = run("compare", model, "v1", "v2", "--input", requests)

    assert 0 == done.exit_code, done.output
    assert "v1 and v2: 20 of 20 requests compared" in done.output
    (row,) = [line.split() for line in done.output.splitlines() if "output-0" in line]
    assert ["80", "0.5", "0.5"] == [row[1], *row[3:5]]
    assert "times as long as v1" in done.output


def test_compare_tells_machines_the_same(model, requests):
    """--json has every number."""
    done = run("compare", model, "v1", "v2", "--input", requests, "--json")
    found = json.loads(done.output)

    assert (["v1", "v2"], 20, 20) == (found["versions"], found["requests"], found["compared"])
    output = found["outputs"]["output-0"]
    assert 80 == output["values"]
    assert output["mean_absolute_difference"] == pytest.approx(0.5)
    assert output["max_absolute_difference"] == pytest.approx(0.5)
    assert found["latency"]["v1"]["median_seconds"] > 0
    assert found["latency_ratio"] > 0
    assert {"requests": 0, "first": ""} == found["failed"]["v2"]


def test_compare_counts_equal_labels(tmp_path, requests):
    """Classifiers are compared by the labels that they give."""
    store = BundleStore(tmp_path / "models")
    for sign in (1, -1):
        labels = np.where(sign * X[:, 0] > 0, "high", "low")
        store.save("class", {"model": LogisticRegression().fit(X, labels)})
    place = tmp_path / "models" / "class"

    same = json.loads(run("compare", place, "v1", "v1", "--input", requests, "--json").output)
    other = json.loads(run("compare", place, "v1", "v2", "--input", requests, "--json").output)

    assert 1.0 == same["outputs"]["output-0"]["agreement"]
    assert other["outputs"]["output-0"]["agreement"] < 0.1
    assert other["outputs"]["output-0"]["mean_absolute_difference"] is None


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROWS[0]),
        json.dumps(ROWS[0], indent=2),
        json.dumps([ROWS[0]]),
        json.dumps({"inputs": [TENSOR]}),
        json.dumps([{"inputs": [TENSOR]}]),
        "\n" + json.dumps(ROWS[0]) + "\n\n",
    ],
    ids=["v1", "indented", "list", "v2", "list of v2", "blank lines"],
)
def test_a_file_holds_one_request_or_a_list_or_one_on_each_line(model, tmp_path, text):
    """V1 and V2 requests are read in every form that they come in."""
    path = tmp_path / "request.json"
    path.write_text(text)

    done = run("compare", model, "v1", "v2", "--input", path, "--json")

    assert 4 == json.loads(done.output)["outputs"]["output-0"]["values"]


def test_compare_draws_a_plot(model, requests, tmp_path):
    """--plot writes a PNG and says so."""
    plot = tmp_path / "v1-v2.png"
    done = run("compare", model, "v1", "v2", "--input", requests, "--plot", plot)

    assert 0 == done.exit_code, done.output
    assert b"\x89PNG\r\n" == plot.read_bytes()[:6]
    assert f"wrote {plot}" in done.output


def test_compare_takes_labels(model, requests):
    """A label stands for its version."""
    run("promote", model, "v2", "--label", "canary")

    done = run("compare", model, "v1", "canary", "--input", requests, "--json")

    assert ["v1", "v2"] == json.loads(done.output)["versions"]


def test_a_version_that_fails_some_requests_is_told(model, requests):
    """What only one of them answers is counted, with its first reason, and left out."""
    narrow = LinearRegression().fit(X[:, :1], X[:, 0])
    BundleStore(model.parent).save("price", {"model": narrow}, allow_breaking=True)
    one_column = {"instances": X[:3, :1].tolist()}
    requests.write_text("\n".join(map(json.dumps, [*ROWS, one_column])))

    done = run("compare", model, "v1", "v2", "--input", requests, "--json")
    other = run("compare", model, "v1", "v3", "--input", requests)

    found = json.loads(done.output)
    assert (21, 20) == (found["requests"], found["compared"])
    assert 1 == found["failed"]["v1"]["requests"]
    assert 1 == other.exit_code
    assert "both versions can answer" in other.output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no requests"),
        ("[]", "has no requests"),
        ("{", "request 1: the request body is not valid JSON"),
        ('{"instances": [[1, 2]]}\n{', "request 2: the request body is not valid JSON"),
        ("[3]", "request 1: the request body is the number 3"),
        ('{"rows": []}', "request 1: a V1 request must have either 'instances' or 'inputs'"),
    ],
)
def test_a_file_that_holds_no_requests_is_told_where(model, tmp_path, text, said):
    """One line names the file, the request and what is wrong with it."""
    path = tmp_path / "requests.json"
    path.write_text(text)

    done = run("compare", model, "v1", "v2", "--input", path)

    assert 1 == done.exit_code
    assert said in done.output
    assert 1 == len(done.output.splitlines())


def test_an_unknown_version_and_a_missing_file_end_with_one_line(model, requests):
    """What is not there is named, with what is."""
    unknown = run("compare", model, "v1", "v9", "--input", requests)
    missing = run("compare", model, "v1", "v2", "--input", "/nowhere.json")

    assert "has no version or label 'v9'; versions: 'v1', 'v2'" in unknown.output
    assert (1, "error: /nowhere.json: No such file or directory\n") == (
        missing.exit_code,
        missing.output,
    )


def test_a_plot_without_matplotlib_says_what_to_install(model, requests, monkeypatch):
    """The error names the extra, before any version is opened."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    done = run("compare", model, "v1", "v2", "--input", requests, "--plot", "x.png")

    assert 1 == done.exit_code
    assert "pip install 'bundleserver[plot]'" in done.output


def test_a_plot_is_a_png(model, requests):
    """Another ending is refused before the work."""
    done = run("compare", model, "v1", "v2", "--input", requests, "--plot", "plot.pdf")

    assert "'plot.pdf' is not a PNG file; expected a name that ends with .png" in done.output


def logged(model, directory, columns=("all",), answers=True):
    """Log requests as a server of the model does."""
    bundle = open_bundle(model / "v1")
    writer = Writer(
        LogOptions(directory, columns=columns),
        FakeManager(FakeModel("price")),
        LogMetrics(CollectorRegistry()),
    )
    for body in ROWS:
        request = PredictRequest("price", rows=body["instances"])
        response, taker = predict(bundle, request), Taker(bundle.signature, bundle.identity)
        entry = Entry(request, "v1", 1.8e9, 0.001, "ok", 4, response, taker)
        failed = entry._replace(outcome="error", response=None, taker=None)
        writer.add([entry if answers else failed, failed])
    writer.rotate(everything=True)
    return directory


def test_compare_sends_the_requests_of_a_payload_log(model, requests, tmp_path):
    """The same requests have the same result, wherever they are from."""
    log = logged(model, tmp_path / "log")
    from_log, from_file = (
        json.loads(run("compare", model, "v1", "v2", "--input", place, "--json").output)
        for place in (log, requests)
    )

    assert 20 == from_log["requests"] == from_log["compared"]
    assert from_file["outputs"] == from_log["outputs"]
    (file,) = log.rglob("version=v1/**/*.parquet")
    done = run("compare", model, "v1", "v2", "--input", file, "--dry-run")
    assert "would send 20 requests to v1 and v2" in done.output


def test_a_foreign_file_in_a_payload_log_is_named_and_left_out(model, tmp_path):
    """One file is no reason to compare nothing; how many were left out is told at the end."""
    log = logged(model, tmp_path / "log")
    (log / "mine.parquet").write_text("no Parquet")
    done = run("compare", model, "v1", "v2", "--input", log)

    said = " ".join(done.output.split())
    assert "mine.parquet' is not a valid Parquet file" in said
    assert "left out 1 files that cannot be read" in said
    assert "20 of 20 requests compared" in said


def test_a_model_that_writes_to_its_inputs_is_compared():
    """Each call has arrays of its own, as in the server."""
    given = []

    def writing(inputs, parameters):
        given.append(inputs["features"].values.tolist())
        inputs["features"].values[:] = 0
        return {"sum": np.zeros(2), "label": np.array(["x", "x"], dtype=object)}

    features = np.ones((2, 2))
    features.flags.writeable = False
    request = PredictRequest("sums", tensors=(NamedTensor("features", features),))
    manager = FakeManager(FakeModel("sums", (FakeVersion("1", writing),)))
    with manager.acquire("sums", "1") as bundle:
        found = comparing.run([bundle, bundle], [request])

    assert 1 == found.compared
    assert all(values == [[1.0, 1.0], [1.0, 1.0]] for values in given)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"columns": ()}, "log them with --log_columns all"),
        ({"answers": False}, "has only requests that failed"),
    ],
)
def test_a_payload_log_without_inputs_cannot_be_compared(model, tmp_path, more, said):
    """The message says with which flag it could."""
    done = run("compare", model, "v1", "v2", "--input", logged(model, tmp_path / "log", **more))

    assert 0 != done.exit_code
    assert said in " ".join(done.output.split())
