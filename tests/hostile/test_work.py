"""The work of one request is bounded as a whole, and ends with its client."""

import json
import socket
import warnings

import grpc
import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler

from bundleserver import BundleStore
from bundleserver.serving.grpc import open_inference as messages
from tests.end_to_end import gated
from tests.end_to_end.processes import eventually, running
from tests.end_to_end.published import save_times

LIMIT = 1000


def series_model():
    """Fit a forecaster whose forecasts take a while."""
    from statsmodels.tsa.arima.model import ARIMA

    index = pd.date_range("2024-01-01", periods=200, freq="D")
    noise = np.random.default_rng(1).normal(0, 0.1, 200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ARIMA(
            pd.Series(np.sin(np.arange(200) / 5) + noise, index=index), order=(1, 1, 1)
        ).fit()


def calling(root, name, *others):
    """Write a model that calls others, one after the other."""
    directory = root / name / "1"
    directory.mkdir(parents=True)
    components = {f"c{i}": {"framework": "model", "model": other} for i, other in enumerate(others)}
    names = ["x", *[f"t{i}" for i in range(len(others))]]
    steps = [
        {"component": f"c{i}", "inputs": [names[i]], "outputs": [names[i + 1]]}
        for i in range(len(others))
    ]
    document = {"format": "bundle/v1", "components": components, "steps": steps}
    (directory / "manifest.json").write_text(json.dumps(document))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Publish a forecaster, a transformer and a model that waits at a gate."""
    root = tmp_path_factory.mktemp("models")
    store = BundleStore(root)
    store.save("series", {"model": series_model()})
    rows = np.random.default_rng(0).random((20, 4))
    store.save("wide", {"model": StandardScaler().fit(rows)})
    save_times(store, "slow", gated.SlowToPredict(2.0, str(root.parent / "gate")))
    return root


@pytest.fixture(scope="module")
def served(root):
    """Serve them with a limit that small requests reach."""
    with running(root, max_answer_values=LIMIT, max_asyncio_workers=2) as server:
        for model in ("series", "wide"):
            server.wait_until_ready(model)
        yield server


@pytest.mark.parametrize(
    ("body", "values"),
    [
        ({"instances": [{"horizon": 10}] * 26}, 26 * 10 * 4),
        ({"instances": [{"horizon": [251]}]}, 251 * 4),
        ({"instances": [{"ds": [f"2030-01-{day:02}" for day in range(1, 31)]}] * 9}, 9 * 30 * 4),
    ],
)
def test_long_answers_are_refused_before_they_are_made(served, body, values):
    """The steps of all instances count, times the outputs; the message has both numbers."""
    answer = served.predict("series", body)

    assert 413 == answer.status_code
    assert f"{values} values" in answer.json()["error"]
    assert str(LIMIT) in answer.json()["error"]
    assert "--max_answer_values" in answer.json()["error"]


def test_the_last_answer_within_the_limit_is_given(served):
    """A limit is the most that is allowed."""
    assert 200 == served.predict("series", {"instances": [{"horizon": 25}] * 10}).status_code
    assert 200 == served.predict("wide", {"instances": [[1, 2, 3, 4]] * 250}).status_code
    assert 413 == served.predict("wide", {"instances": [[1, 2, 3, 4]] * 251}).status_code
    page = served.get("/metrics").text
    assert 'bundleserver_answer_values_count{model="wide"} 2' in page


def test_kserves_forecasts_are_bounded_too(served):
    """Series times levels times the horizon count before a date is made."""
    series = {"type": "univariate_time_series", "name": "s", "series": [1.0], "frequency": "D"}
    body = {
        "model": "series",
        "inputs": [series] * 5,
        "options": {"horizon": 10, "quantiles": [round(0.05 * i, 2) for i in range(1, 10)]},
    }

    answer = served.post("/v1/timeseries/forecast", json=body)

    assert 413 == answer.status_code, answer.text


def infer(served, model, horizon, timeout=30.0):
    """Ask over gRPC."""
    tensor = messages.ModelInferRequest.InferInputTensor(
        name="horizon", datatype="INT64", shape=[1]
    )
    tensor.contents.int64_contents.append(horizon)
    request = messages.ModelInferRequest(model_name=model, inputs=[tensor])
    with grpc.insecure_channel(served.grpc) as channel:
        call = channel.unary_unary(
            f"/{messages.SERVICE}/ModelInfer",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=messages.ModelInferResponse.FromString,
        )
        return call(request, timeout=timeout)


def test_grpc_says_the_same(served):
    """The limit is RESOURCE_EXHAUSTED, with both numbers."""
    with pytest.raises(grpc.RpcError) as refused:
        infer(served, "series", 251)

    assert grpc.StatusCode.RESOURCE_EXHAUSTED is refused.value.code()
    assert "1004 values" in refused.value.details()


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "1e9", "soon", "", "inf"])
def test_a_bad_timeout_is_refused(served, seconds):
    """The header is a number of seconds, or 400."""
    headers = {"X-Request-Timeout-Seconds": seconds}

    answer = served.post(
        "/v1/models/wide:predict", json={"instances": [[1, 2, 3, 4]]}, headers=headers
    )

    assert 400 == answer.status_code
    assert "X-Request-Timeout-Seconds" in answer.json()["error"]


@pytest.fixture(scope="module")
def unlimited(root):
    """Serve them without a limit on values."""
    with running(root, max_answer_values=0, max_asyncio_workers=1) as server:
        for model in ("series", "wide"):
            server.wait_until_ready(model)
        yield server


def long_body(first):
    """Return a request that takes some ten seconds."""
    rows = [{"horizon": 10_000, "level": round(first + i / 10_000, 5)} for i in range(100)]
    return json.dumps({"instances": rows}).encode()


def is_free(server):
    """Ask whether no work is in flight."""
    page = server.get("/metrics").text
    lines = [
        line for line in page.splitlines() if line.startswith("bundleserver_requests_in_flight")
    ]
    return all(float(line.rpartition(" ")[2]) == 0 for line in lines)


def test_late_work_ends_and_queued_work_never_starts(unlimited):
    """What runs and what waits is 504 when its time is over; what comes next is answered."""
    headers = {"X-Request-Timeout-Seconds": "0.5"}

    answers = [
        unlimited.post("/v1/models/series:predict", content=long_body(0.3), headers=headers)
        for _ in range(2)
    ]

    assert [504, 504] == [answer.status_code for answer in answers]
    assert "within 0.5 s" in answers[0].json()["error"]
    assert 200 == unlimited.predict("series", {"instances": [{"horizon": 3}]}).status_code


def test_work_ends_with_its_client(unlimited):
    """The thread of a request whose client has closed is soon there for others."""
    head = b"POST /v1/models/series:predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
    body = long_body(0.5)
    with socket.create_connection(("127.0.0.1", unlimited.http_port)) as client:
        client.sendall(head % len(body) + body)
        eventually(lambda: not is_free(unlimited), "it works")

    eventually(lambda: is_free(unlimited), "it works no more")
    assert 'outcome="cancelled"' in unlimited.get("/metrics").text


def test_circles_fail_with_the_circle(tmp_path):
    """Models that call each other are FAILED, and say how; they do not wait for each other."""
    calling(tmp_path, "a", "b")
    calling(tmp_path, "b", "c")
    calling(tmp_path, "c", "a")
    calling(tmp_path, "self", "self")
    with running(tmp_path) as server:
        for model in ("a", "b", "c", "self"):
            reason = server.wait_for_reason(model, "call each other in a cycle")
            assert reason.count(" → ") == (1 if model == "self" else 3)
            assert "FAILED" in reason


def test_calls_nest_eight_deep(tmp_path):
    """The ninth model in a row of calls is one too many, and the reason has both numbers."""
    rows = np.random.default_rng(0).random((20, 2))
    BundleStore(tmp_path).save("m0", {"model": StandardScaler().fit(rows)}, examples=rows[:1])
    for depth in range(1, 10):
        calling(tmp_path, f"m{depth}", f"m{depth - 1}")
    calling(tmp_path, "many", *["m0"] * 64)
    calling(tmp_path, "too_many", *["m0"] * 65)
    with running(tmp_path) as server:
        server.wait_until_ready("m8")
        server.wait_until_ready("many")
        deep = server.wait_for_reason("m9", "nested 9 deep")
        wide = server.wait_for_reason("too_many", "65 times")

    assert "at most 8" in deep
    assert "at most 64" in wide
