"""Traces of real processes, in a collector that the test starts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import httpx
import joblib
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

from tests.end_to_end.calls import v2_input
from tests.end_to_end.collector import collecting
from tests.end_to_end.gated import Raises
from tests.end_to_end.processes import DEADLINE_SECONDS, HERE, environment, eventually, running
from tests.end_to_end.versions import other_bytes, publish
from tests.mlflow_server import free_port
from tests.serving.grpc_client import connected, tensor

PARENT = "b7ad6b7169203331"
X = np.arange(12.0).reshape(6, 2)
INPUT = v2_input("input-0", "FP64", [2, 2], [1.0, 2.0, 3.0, 4.0])
SERVER, INTERNAL = 2, 1
"""Kinds of spans, as OTLP has them."""


def traceparent(number, flags="01"):
    """Return the id of a trace with a number, and its header."""
    trace = f"{number:032x}"
    return trace, {"traceparent": f"00-{trace}-{PARENT}-{flags}"}


@contextmanager
def variables(**named):
    """Set OpenTelemetry's variables, for processes that the block starts."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("OTEL_")]:
            patch.delenv(name)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        for name, value in named.items():
            patch.setenv(f"OTEL_{name}", value)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Write a chain of two files, a model that fails, and one that cannot be loaded."""
    root = tmp_path_factory.mktemp("models")
    (root / "chain").mkdir()
    scaler = StandardScaler().fit(X)
    joblib.dump(scaler, root / "chain" / "scaler.joblib")
    joblib.dump(LinearRegression().fit(scaler.transform(X), X.sum(1)), root / "chain/model.joblib")
    publish(root / "times", "v1", 3.0)
    publish(root / "raises", "v1", Raises())
    publish(root / "broken", "v1", 1.0, other_bytes)
    return root


@pytest.fixture(scope="module")
def collector():
    """Collect what all tests here send."""
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def server(root, collector):
    """Serve them, with the variables that KServe's ``spec.tracing`` stands for."""
    named = {
        "TRACES_EXPORTER": "otlp",
        "EXPORTER_OTLP_ENDPOINT": collector.grpc_url,
        "TRACES_SAMPLER": "parentbased_traceidratio",
        "TRACES_SAMPLER_ARG": "0.000001",
        "SERVICE_NAME": "fraud-predictor",
        "RESOURCE_ATTRIBUTES": "k8s.namespace.name=bank",
    }
    with variables(**named), running(root) as server:
        for name in ("chain", "times", "raises"):
            server.wait_until_ready(name)
        yield server


def only(named, name):
    """Return the one span of a name."""
    (span,) = named[name]
    return span


def test_a_rest_request_is_a_trace_of_what_was_done(server, collector):
    """Its spans are below its caller's, in order, with the rows of each component."""
    trace, headers = traceparent(1)

    answer = server.post(
        "/v2/models/chain/infer",
        json={"inputs": [INPUT]},
        headers={**headers, "tracestate": "vendor=1"},
    )
    spans = collector.trace(trace, "POST /v2")

    assert 200 == answer.status_code
    request, predict = only(spans, "POST /v2/models/{model}/infer"), only(spans, "predict")
    assert (PARENT, SERVER, "vendor=1") == (request.parent, request.kind, request.state)
    assert {
        "http.request.method": "POST",
        "http.route": "/v2/models/{model}/infer",
        "http.response.status_code": 200,
        "url.path": "/v2/models/chain/infer",
        "bundleserver.protocol": "v2",
        "bundleserver.model": "chain",
        "bundleserver.version": "1",
        "bundleserver.rows": 2,
    } == request.attributes
    below = {name for name, (span,) in spans.items() if span.parent == request.id}
    assert {"decode", "route", "predict", "encode"} <= below
    for name in ("scaler.transform", "model.predict"):
        component = only(spans, name)
        assert (predict.id, INTERNAL) == (component.parent, component.kind)
        assert {"bundleserver.rows": 2} == component.attributes
        assert component.seconds <= predict.seconds <= request.seconds
    assert "fraud-predictor" == request.resource["service.name"]
    assert "bank" == request.resource["k8s.namespace.name"]


def test_a_grpc_request_is_one_too(server, collector):
    """Named as RPCs are, below the caller that its metadata name."""
    trace, headers = traceparent(2)
    given = tensor("input-0", "FP64", [1, 2], fp64_contents=[1.0, 2.0])

    with connected(server.grpc) as client:
        client.call("ModelInfer", [*headers.items()], model_name="chain", inputs=[given])
    spans = collector.trace(trace, "inference")

    call = only(spans, "inference.GRPCInferenceService/ModelInfer")
    assert (PARENT, SERVER) == (call.parent, call.kind)
    assert {
        "rpc.system": "grpc",
        "rpc.service": "inference.GRPCInferenceService",
        "rpc.method": "ModelInfer",
        "rpc.grpc.status_code": 0,
        "bundleserver.protocol": "grpc",
        "bundleserver.model": "chain",
        "bundleserver.version": "1",
        "bundleserver.rows": 1,
    } == call.attributes
    assert call.id == only(spans, "predict").parent == only(spans, "decode").parent
    assert {"scaler.transform", "model.predict", "encode", "route"} <= {*spans}


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_a_failure_is_in_the_trace_and_the_trace_in_the_log(server, collector, protocol):
    """The incident of the answer stands in both."""
    trace, headers = traceparent(3 if protocol == "rest" else 4)
    given = tensor("x", "FP64", [1, 1], fp64_contents=[1.0])

    if protocol == "rest":
        sent = {"inputs": [v2_input("x", "FP64", [1, 1], [1.0])]}
        answer = server.post("/v2/models/raises/infer", json=sent, headers=headers)
        said = answer.json()["error"]
    else:
        with connected(server.grpc) as client, pytest.raises(Exception, match="incident") as caught:
            client.call("ModelInfer", [*headers.items()], model_name="raises", inputs=[given])
        said = caught.value.details()
    root = "POST" if protocol == "rest" else "inference"
    spans = collector.trace(trace, root)
    request = next(span for name, (span, *_) in spans.items() if name.startswith(root))

    incident = re.search(r"incident (\w+)", said)[1]
    assert request.is_failed
    assert incident in request.message
    assert "PredictionError" == request.attributes["error.type"]
    assert incident in server.wait_for_line(f"trace {trace}")


def test_what_a_client_does_wrong_is_no_failure_of_the_server(server, collector):
    """A 400 has its reason as an event, and no status of an error."""
    trace, headers = traceparent(5)

    answer = server.post("/v1/models/chain:predict", json={"instances": [[1.0]]}, headers=headers)
    spans = collector.trace(trace, "POST")
    request = only(spans, "POST /v1/models/{model}:predict")

    assert (400, 400) == (answer.status_code, request.attributes["http.response.status_code"])
    assert not any(span.is_failed for named in spans.values() for span in named)
    assert answer.json()["error"] == request.error["exception.message"]


def test_a_request_for_an_unknown_model_names_it(server, collector):
    """Over gRPC, where its name is in the body; nothing of it is a failure of the server."""
    trace, headers = traceparent(11)
    states = [("tracestate", "a=b"), ("tracestate", "c=d")]

    with connected(server.grpc) as client, pytest.raises(Exception, match="ghost"):
        client.call("ModelInfer", [*headers.items(), *states], model_name="ghost")
    spans = collector.trace(trace, "inference")

    call = only(spans, "inference.GRPCInferenceService/ModelInfer")
    assert ("ghost", "a=b,c=d") == (call.attributes["bundleserver.model"], call.state)
    assert ["ModelNotFound"] * 2 == [
        span.attributes["error.type"] for span in (call, only(spans, "decode"))
    ]
    assert not any(span.is_failed for named in spans.values() for span in named)


def test_a_body_that_is_not_valid_is_no_failure_of_its_decoding(server, collector):
    """And two headers of a state are one, on whatever way a request comes in."""
    for number, more in ((12, {}), (13, {"transfer-encoding": "chunked"})):
        trace, headers = traceparent(number)
        pairs = [*headers.items(), ("tracestate", "a=b"), ("tracestate", "c=d"), *more.items()]
        sent = iter([b"{"]) if more else b"{"
        answer = server.post("/v2/models/chain/infer", content=sent, headers=pairs)
        spans = collector.trace(trace, "POST")

        assert 400 == answer.status_code
        assert "a=b,c=d" == only(spans, "POST /v2/models/{model}/infer").state
        assert not only(spans, "decode").is_failed


def test_metrics_have_the_trace_as_an_exemplar(server, collector):
    """Where OpenMetrics is asked for."""
    trace, headers = traceparent(10)
    server.post("/v2/models/chain/infer", json={"inputs": [INPUT]}, headers=headers)

    page = server.get("/metrics", headers={"accept": "application/openmetrics-text"}).text

    assert f'# {{trace_id="{trace}"}}' in page
    assert trace not in server.get("/metrics").text


def test_loads_are_traces_of_their_own(collector, server):
    """Each phase is a span; a load that failed says why, in the phase that did."""
    (good,) = collector.wait_for(
        lambda span: span.name == "load" and span.attributes["bundleserver.model"] == "chain"
    )
    phases = [span.name for span in collector.spans if span.parent == good.id]
    bad, *_ = collector.wait_for(
        lambda span: span.name == "load" and span.attributes["bundleserver.model"] == "broken"
    )
    failed = [span.name for span in collector.spans if span.parent == bad.id and span.is_failed]

    assert ["fetch", "verify", "open", "probe"] == phases
    assert "sha256" in bad.message
    assert ["verify"] == failed
    assert collector.wait_for(lambda span: span.name == "poll")


def test_probes_and_pages_are_not_traced(server, collector):
    """Whatever their callers wish, what only reads is no trace."""
    trace, headers = traceparent(6)
    pages = ("/v2/health/live", "/v2/health/ready", "/v2/models/chain/ready", "/metrics", "/v2")

    for page in (*pages, "/v2/models/chain", "/v1/models"):
        server.get(page, headers=headers)
    server.post("/v2/repository/index", headers=headers)
    with connected(server.grpc) as client:
        for rpc in ("ServerLive", "ServerReady", "ServerMetadata"):
            client.call(rpc, [*headers.items()])
    later, sampled = traceparent(7)
    server.post("/v2/models/chain/infer", json={"inputs": [INPUT]}, headers=sampled)
    collector.trace(later, "POST")

    assert trace not in {span.trace for span in collector.spans}


def test_what_nobody_samples_is_not_traced(server, collector):
    """A caller that does not sample, and one that says nothing valid, add no span."""
    unsampled = [
        traceparent(8, "00")[1],
        {"traceparent": "00-zz-zz-01"},
        {"traceparent": "0" * 4000},
        {"traceparent": f"00-{'0' * 32}-{PARENT}-01"},
        {"traceparent": f"ff-{8:032x}-{PARENT}-01"},
        {"baggage": "a=b," * 900, "tracestate": "\xff" * 600},
    ]

    for headers in unsampled:
        encoded = {name: value.encode("latin-1") for name, value in headers.items()}
        answer = server.post("/v2/models/chain/infer", json={"inputs": [INPUT]}, headers=encoded)
        assert 200 == answer.status_code
    later, sampled = traceparent(9)
    server.post("/v2/models/chain/infer", json={"inputs": [INPUT]}, headers=sampled)
    collector.trace(later, "POST")

    requests = [span.trace for span in collector.spans if span.name.startswith("POST")]
    assert {int(trace, 16) for trace in requests} <= {*range(1, 8), *range(9, 40)}


@pytest.fixture(scope="module")
def transformer(server, collector, tmp_path_factory):
    """Start a transformer in KServe's own server, and return where it listens."""
    port, log = free_port(), tmp_path_factory.mktemp("transformer") / "log"
    flags = (f"--http_port={port}", f"--grpc_port={free_port()}")
    command = [HERE / "transformer.py", server.rest, server.grpc, collector.grpc_url, *flags]
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment(),
        )
    url = f"http://127.0.0.1:{port}"

    def is_live():
        assert process.poll() is None, log.read_text()
        try:
            return httpx.get(f"{url}/v2/health/live").status_code == 200
        except httpx.TransportError:
            return False

    try:
        eventually(is_live, "the transformer listens")
        yield url
    finally:
        process.kill()
        process.wait(DEADLINE_SECONDS)


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        ("over_rest", "POST /v2/models/{model}/infer"),
        ("over_grpc", "inference.GRPCInferenceService/ModelInfer"),
    ],
)
def test_one_trace_goes_through_a_transformer(transformer, collector, model, asked):
    """Client, transformer and predictor: each span is below that of whoever asked."""
    trace, headers = traceparent(20 if model == "over_rest" else 21)

    answer = httpx.post(
        f"{transformer}/v1/models/{model}:predict",
        json={"instances": [[1.0], [2.0]]},
        headers=headers,
        timeout=DEADLINE_SECONDS,
    )
    collector.wait_for(lambda span: span.trace == trace and span.name == f"transform {model}")
    spans = collector.trace(trace, asked)

    assert {"predictions": [6.0, 12.0]} == answer.json()
    above, request, predict = (
        only(spans, name) for name in (f"transform {model}", asked, "predict")
    )
    assert [PARENT, above.id, request.id] == [above.parent, request.parent, predict.parent]
    assert ["transformer", "fraud-predictor"] == [
        span.resource["service.name"] for span in (above, request)
    ]
    assert 2 == only(spans, "model.predict").attributes["bundleserver.rows"]


def test_http_protobuf_carries_the_same(root, collector):
    """An endpoint alone switches tracing on; each of several worker processes exports."""
    named = {
        "EXPORTER_OTLP_ENDPOINT": collector.http_url,
        "EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "TRACES_SAMPLER": "parentbased_always_off",
        "SERVICE_NAME": "http",
    }
    trace, headers = traceparent(30)
    with variables(**named), running(root, workers=2) as server:
        server.wait_until_ready("chain")
        sent = {"inputs": [INPUT]}
        answer = server.post("/v2/models/chain/infer", json=sent, headers=headers)
        assert 200 == answer.status_code
        spans = collector.trace(trace, "POST")

    request = only(spans, "POST /v2/models/{model}/infer")
    assert (PARENT, "http") == (request.parent, request.resource["service.name"])
    assert request.id == only(spans, "predict").parent
    assert 2 == only(spans, "scaler.transform").attributes["bundleserver.rows"]


def test_the_console_shows_spans(root):
    """Spans are JSON on standard output, and the last ones are written at the end."""
    trace, headers = traceparent(31)
    with variables(TRACES_EXPORTER="console", BSP_SCHEDULE_DELAY="60000"), running(root) as server:
        server.wait_until_ready("chain")
        server.post("/v2/models/chain/infer", json={"inputs": [INPUT]}, headers=headers)
        server.send(signal.SIGTERM)
        assert 0 == server.exit_code()
        server.wait_for_line(f'"trace_id": "0x{trace}"')


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"TRACES_EXPORTER": "jaeger"}, "OTEL_TRACES_EXPORTER is 'jaeger'"),
        ({"EXPORTER_OTLP_ENDPOINT": "http://:nowhere"}, "OTEL_EXPORTER_OTLP_ENDPOINT is"),
        (
            {"TRACES_EXPORTER": "otlp", "TRACES_SAMPLER": "sometimes"},
            "OTEL_TRACES_SAMPLER is 'sometimes'",
        ),
        (
            {
                "TRACES_EXPORTER": "otlp",
                "TRACES_SAMPLER": "traceidratio",
                "TRACES_SAMPLER_ARG": "5 %",
            },
            "OTEL_TRACES_SAMPLER_ARG is '5 %'",
        ),
        (
            {"TRACES_EXPORTER": "otlp", "EXPORTER_OTLP_TIMEOUT": "soon"},
            "OTEL_EXPORTER_OTLP_TIMEOUT is 'soon'",
        ),
    ],
)
def test_what_is_wrong_is_one_warning(root, named, said):
    """The server starts and answers all the same."""
    with variables(**named), running(root) as server:
        server.wait_until_ready("chain")
        server.wait_for_line(said)

        assert 200 == server.infer("chain", INPUT).status_code
        assert 1 == len([line for line in server.lines if "traces" in line])
        assert "WARN" in server.wait_for_line("traces are off")


def test_a_collector_that_is_not_there_is_one_line(root):
    """Requests are answered, and the end of the process does not wait for it."""
    named = {
        "EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "EXPORTER_OTLP_TIMEOUT": "1",
    }
    with variables(**named), running(root) as server:
        server.wait_until_ready("chain")
        server.wait_for_line("traces cannot be exported")
        for _ in range(3):
            assert 200 == server.infer("chain", INPUT).status_code
        server.send(signal.SIGTERM)
        assert 0 == server.exit_code()
        server.wait_for_line("stopped")

        assert 1 == len([line for line in server.lines if "cannot be exported" in line])
        assert "Traceback" not in server.log


def test_a_collector_without_tls_is_two_lines(root, collector):
    """What an endpoint without a scheme means, and that nothing can be exported; gRPC is quiet."""
    named = {
        "EXPORTER_OTLP_ENDPOINT": collector.grpc_url.removeprefix("http://"),
        "EXPORTER_OTLP_TIMEOUT": "3",
    }
    with variables(**named), running(root) as server:
        server.wait_for_line("without a scheme, which means TLS")
        server.wait_for_line("traces cannot be exported")

        assert 1 == len([line for line in server.lines if "andshake failed" in line])


@pytest.mark.parametrize(
    "named",
    [{}, {"TRACES_EXPORTER": "none", "EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}],
    ids=["nothing", "none"],
)
def test_nothing_is_sent_unasked(root, named):
    """Without an exporter, and with the exporter none, tracing is off, without a word."""
    with variables(**named), running(root) as server:
        server.wait_until_ready("chain")

        assert 200 == server.infer("chain", INPUT).status_code
        assert "traces" not in server.log
