"""BundleServer: listening, answering on one app, and ending without losing a request."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import pytest
from kserve import InferenceRESTClient, RESTConfig
from prometheus_client import CollectorRegistry

from bundleserver.errors import ConfigError
from bundleserver.serving.connection.server import listen
from bundleserver.serving.options import ServerOptions
from bundleserver.serving.server import BundleServer
from bundleserver.versions.lifecycle import State
from tests.serving.connection.test_bad_clients import wait_until
from tests.serving.fakes import (
    DEADLINE_SECONDS,
    FakeManager,
    FakeModel,
    FakeVersion,
    Gate,
    all_versions,
    serving,
)
from tests.serving.grpc_client import connected, tensor
from tests.serving.served_process import process

BODY = {"instances": [[1.0, 2.0]]}
ANSWER = {"predictions": [{"sum": 3.0, "label": "low"}]}
FEATURES = tensor("features", "FP64", [1, 2], fp64_contents=[1.0, 2.0])


@pytest.fixture(scope="module")
def server():
    """One server for the tests that change nothing."""
    with serving(FakeManager(FakeModel("sums"))) as served:
        yield served


@pytest.fixture
def pipe(tmp_path):
    """Make the named pipe that lets slow requests through."""
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


def predict(rest, model="sums"):
    """Ask a model over REST."""
    url = f"{rest}/v1/models/{model}:predict"
    return httpx.post(url, json=BODY, timeout=DEADLINE_SECONDS)


def test_one_app_answers_our_routes_and_kserves(server):
    """One port has the predictions, KServe's liveness, its API's description, and errors."""
    assert ANSWER == predict(server.rest).json()
    assert {"status": "alive"} == httpx.get(f"{server.rest}/").json()
    assert (
        "/v2/models/{model_name}/infer" in httpx.get(f"{server.rest}/openapi.json").json()["paths"]
    )
    assert {"error": "Not Found"} == httpx.get(f"{server.rest}/nope").json()


def test_kserves_rest_client_works(server):
    """KServe's own REST client reads liveness, readiness and predictions."""

    async def ask():
        async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
            return (
                await client.is_server_live(server.rest),
                await client.is_model_ready(server.rest, "sums"),
                await client.infer(server.rest, BODY, model_name="sums"),
            )

    assert (True, True, ANSWER) == asyncio.run(ask())


TRITON = """
import sys
import numpy as np
import tritonclient.http as triton

client = triton.InferenceServerClient(sys.argv[1])
given = triton.InferInput("features", [1, 2], "FP64")
given.set_data_from_numpy(np.array([[1.0, 2.0]]), binary_data=True)
answer = client.infer("sums", [given], model_version="1")
print(answer.as_numpy("sum").tolist(), answer.as_numpy("label").tolist())
print(client.is_server_ready(), client.is_model_ready("sums", "1"))
print([(entry["name"], entry["state"]) for entry in client.get_model_repository_index()])
"""


def test_tritons_http_client_works(server):
    """Triton's own HTTP client infers in binary and reads readiness and the index."""
    address = server.rest.removeprefix("http://")

    ended = subprocess.run(
        [sys.executable, "-c", TRITON, address], capture_output=True, text=True, timeout=60
    )

    assert ["[3.0] [b'low']", "True True", "[('sums', 'READY')]"] == ended.stdout.splitlines()


def test_answers_do_not_wait_for_acknowledgements():
    """Connections have TCP_NODELAY, which asyncio sets only on sockets that say they are TCP."""
    with listen(0) as listener:
        assert socket.IPPROTO_TCP == listener.proto


@pytest.mark.parametrize(("enabled", "status"), [(True, 200), (False, 404)])
def test_the_api_pages_are_there_on_request(enabled, status):
    """Swagger's page is served only where the flag asks for it."""
    with serving(FakeManager(), ServerOptions(enable_docs_url=enabled)) as served:
        assert status == httpx.get(f"{served.rest}/docs").status_code


def test_a_body_over_the_limit_is_refused():
    """The limit of a REST body is the server's setting."""
    options = ServerOptions(max_request_bytes=10)
    with serving(FakeManager(FakeModel("sums")), options) as served:
        assert 413 == predict(served.rest).status_code


def test_grpc_can_be_left_out():
    """Without gRPC only REST listens."""
    with serving(FakeManager(FakeModel("sums")), ServerOptions(enable_grpc=False)) as served:
        assert 200 == predict(served.rest).status_code
        assert 0 == served.server.grpc_port


def test_an_empty_server_is_alive_and_not_ready():
    """With no model yet the process lives and is not ready, over both protocols."""
    with serving(FakeManager()) as served, connected(served.grpc) as client:
        assert 200 == httpx.get(f"{served.rest}/v2/health/live").status_code
        assert 503 == httpx.get(f"{served.rest}/v2/health/ready").status_code
        assert client.call("ServerLive").live
        assert not client.call("ServerReady").ready


def test_a_model_that_is_loading_is_503_until_it_is_ready():
    """A server starts before its model is loaded, and answers as soon as it is."""
    loading = FakeModel("sums", all_versions([("1", State.LOADING, "")]))
    with serving(FakeManager(loading)) as served:
        before = predict(served.rest).status_code
        served.manager.load("sums", timeout_seconds=1)

        assert [503, 200] == [before, predict(served.rest).status_code]


def test_health_answers_while_every_worker_predicts():
    """Liveness and readiness answer while models keep all threads busy."""
    gate = Gate()
    options = ServerOptions(max_asyncio_workers=1)
    manager = FakeManager(FakeModel("sums", (FakeVersion("1", gate),)))
    with serving(manager, options) as served, ThreadPoolExecutor() as threads:
        answer = threads.submit(predict, served.rest)
        assert gate.entered.acquire(timeout=DEADLINE_SECONDS)

        live = httpx.get(f"{served.rest}/v2/health/live").status_code
        ready = httpx.get(f"{served.rest}/v2/health/ready").status_code
        gate.opened.set()

        assert [200, 200] == [live, ready]
        assert ANSWER == answer.result().json()


def test_stop_makes_everything_unready_before_it_stops_answering():
    """Once the end has begun nothing is ready, and an open model answers what is in flight."""
    gate = Gate()
    manager = FakeManager(FakeModel("sums", (FakeVersion("1", gate),)))
    with serving(manager) as served, ThreadPoolExecutor() as threads:
        answer = threads.submit(predict, served.rest)
        assert gate.entered.acquire(timeout=DEADLINE_SECONDS)
        served.server.stop()

        assert not served.server.manager.is_server_ready()
        assert not served.server.manager.is_ready("sums")
        assert not manager.closed
        gate.opened.set()
        assert ANSWER == answer.result().json()
    assert manager.closed


def infer(address, model="slow"):
    """Ask a model over gRPC."""
    with connected(address) as client:
        return client.infer(FEATURES, model=model)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_after_the_requests_in_flight(free_ports, pipe, number):
    """REST and gRPC requests that run when the signal comes are answered; the exit code is 0."""
    options = {"max_asyncio_workers": 2}
    with process(free_ports(2), pipe, options) as served, ThreadPoolExecutor() as threads:
        assert served.listening.wait(60), served.log
        over_rest = threads.submit(predict, served.rest, "slow")
        over_grpc = threads.submit(infer, served.grpc)
        for _ in range(2):
            assert served.entered.acquire(timeout=DEADLINE_SECONDS)
        served.send(number)
        refused = wait_until_refused(served.http_port)
        still_open = not served.closed.is_set()
        served.open_gate()

        assert ANSWER == over_rest.result().json()
        assert [3.0] == list(over_grpc.result().outputs[0].contents.fp64_contents)
        assert (True, True) == (refused, still_open)
        assert 0 == served.exit_code()
        assert served.closed.wait(DEADLINE_SECONDS)
        assert f"{number.name}: stopping" in served.log
        assert "Traceback" not in served.log


def wait_until_refused(port):
    """Connect again and again until the port is closed."""
    for _ in range(1000):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECONDS).close()
        except ConnectionError:
            return True
        threading.Event().wait(0.01)
    return False


def test_a_second_signal_ends_the_process_at_once(free_ports, pipe):
    """The second signal does not wait for the request that hangs."""
    with process(free_ports(2), pipe) as served, ThreadPoolExecutor() as threads:
        assert served.listening.wait(60), served.log
        hanging = threads.submit(predict, served.rest, "slow")
        assert served.entered.acquire(timeout=DEADLINE_SECONDS)
        served.send(signal.SIGTERM)
        assert wait_until_refused(served.http_port)
        served.send(signal.SIGTERM)

        assert 1 == served.exit_code()
        assert isinstance(hanging.exception(DEADLINE_SECONDS), httpx.TransportError)
        assert "SIGTERM again" in served.log


def test_the_grace_period_ends_the_wait(free_ports, pipe):
    """A request that hangs does not keep the process beyond the grace period; the code is 0."""
    options = {"grace_period_seconds": 1.0}
    with process(free_ports(2), pipe, options) as served, ThreadPoolExecutor() as threads:
        assert served.listening.wait(60), served.log
        threads.submit(predict, served.rest, "slow")
        assert served.entered.acquire(timeout=DEADLINE_SECONDS)
        served.send(signal.SIGTERM)

        assert 0 == served.exit_code()
        assert "the grace period is over" in served.log


def test_the_log_names_both_addresses_and_no_request(free_ports, pipe):
    """One line says where the server listens; requests leave no line."""
    with process(free_ports(2), pipe) as served:
        assert served.listening.wait(60), served.log
        before = list(served.errors)
        predict(served.rest)
        infer(served.grpc, "sums")
        httpx.get(f"{served.rest}/metrics")
        served.send(signal.SIGTERM)
        assert 0 == served.exit_code()

    where = f"serving REST on http://0.0.0.0:{served.http_port} and gRPC on [::]:{served.grpc_port}"
    assert where in served.log
    said = "".join(line for line in served.errors if line not in before)
    assert not [word for word in ("sums", "ModelInfer", "metrics") if word in said]


def test_the_access_log_is_there_on_request(free_ports, pipe):
    """With the access log every REST request leaves a line on standard output."""
    with process(free_ports(2), pipe, {"access_log": True}) as served:
        assert served.listening.wait(60), served.log
        predict(served.rest)
        served.send(signal.SIGTERM)
        assert 0 == served.exit_code()

    assert [line for line in served.output if "POST /v1/models/sums" in line]


@pytest.mark.parametrize("level", ["info", "error"])
def test_the_access_log_is_written_in_the_given_format(free_ports, pipe, level):
    """A format alone turns it on, at any log level, and one line is one request."""
    form = "ours %(m)s %(U)s %(s)s %({x-note}i)s"
    options = {"access_log_format": form, "log_level": level}
    with process(free_ports(2), pipe, options) as served:
        wait_until(lambda: does_answer(served.rest))
        predict(served.rest)
        httpx.get(f"{served.rest}/v2/nothing", headers={"X-Note": "a b"})
        served.send(signal.SIGTERM)
        assert 0 == served.exit_code()

    lines = [line.rstrip() for line in served.output if line.startswith("ours")]
    assert "ours POST /v1/models/sums:predict 200 -" in lines
    assert "ours GET /v2/nothing 404 a b" == lines[-1]


def does_answer(rest):
    """Ask whether a server answers."""
    try:
        return httpx.get(f"{rest}/v2/health/live").is_success
    except httpx.TransportError:
        return False


def serve_once(**settings):
    """Start a server that cannot start."""
    options = ServerOptions(configure_logging=False, **settings)
    asyncio.run(BundleServer(FakeManager(), options, CollectorRegistry()).serve())


@pytest.mark.parametrize("flag", ["http_port", "grpc_port"])
def test_a_taken_port_is_named(flag):
    """A port that someone else listens on is a problem of its flag."""
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        ports = {"http_port": 0, "grpc_port": 0, flag: port}

        with pytest.raises(ConfigError, match=rf"--{flag}: cannot listen on \S+:{port} for"):
            serve_once(**ports)


def test_a_server_that_cannot_start_is_one_sentence_and_exit_code_1(free_ports, pipe):
    """A taken port ends the process with one line and no traceback."""
    ports = free_ports(2)
    with socket.create_server(("", ports[0])), process(ports, pipe) as served:
        assert 1 == served.exit_code()
    assert f"cannot listen on 0.0.0.0:{ports[0]} for REST" in served.log
    assert "Traceback" not in served.log


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Make a certificate for this machine, and its key."""
    directory = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    extension = ["-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(directory / "key.pem"), "-out", str(directory / "cert.pem")]
    subprocess.run([*command.split(), *extension, *files], check=True, capture_output=True)
    return directory / "cert.pem", directory / "key.pem"


def test_rest_speaks_tls(certificate):
    """With a certificate and a key REST is HTTPS."""
    cert, key = map(str, certificate)
    options = ServerOptions(ssl_certfile=cert, ssl_keyfile=key)
    with serving(FakeManager(FakeModel("sums")), options) as served:
        url = served.rest.replace("http:", "https:")
        answer = httpx.get(f"{url}/v2/health/live", verify=ssl.create_default_context(cafile=cert))

        assert {"live": True} == answer.json()


@pytest.mark.parametrize(
    ("port", "certfile", "expected"),
    [(8080, None, 8080), (8080, "cert.pem", 8443), (9090, "cert.pem", 9090)],
)
def test_tls_without_a_port_takes_kserves(port, certfile, expected):
    """With TLS the port of REST is 8443 unless another one is asked for, as in KServe's servers."""
    options = ServerOptions(http_port=port, ssl_certfile=certfile, ssl_keyfile=certfile)

    assert expected == BundleServer(FakeManager(), options, CollectorRegistry()).http_port


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_a_certificate_that_cannot_be_used_is_named(tmp_path, text):
    """TLS files that are not there, or hold something else, are a problem of their flag."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    if text is not None:
        cert.write_text(text)
        key.write_text(text)

    with pytest.raises(ConfigError, match=f"--ssl_certfile: cannot use {cert}"):
        serve_once(ssl_certfile=str(cert), ssl_keyfile=str(key))


def test_a_format_of_the_access_log_is_checked_at_start():
    """An atom that does not exist is a problem of its flag."""
    with pytest.raises(ConfigError, match=r"--access_log_format: has unknown atoms: %\(z\)s"):
        serve_once(access_log_format="%(z)s")


def test_importing_the_server_leaves_the_command_line_alone():
    """The parser of kserve does not see our flags, which it would end the process for."""
    code = "import sys, bundleserver.serving.server; print(sys.argv[1:])"
    flags = ["--http_port", "many", "--workers=x"]

    ended = subprocess.run(
        [sys.executable, "-c", code, *flags], capture_output=True, text=True, timeout=60
    )

    assert (0, f"{flags}\n") == (ended.returncode, ended.stdout)


def test_a_server_that_was_stopped_before_it_started_ends_at_once():
    """A stop that comes first is not lost."""
    with serving(FakeManager()) as served:
        served.server.stop()
        served.server.stop()
    assert served.manager.closed


def test_grpc_refuses_new_calls_while_stopping():
    """A call that begins after the stop is UNAVAILABLE."""
    gate = Gate()
    manager = FakeManager(FakeModel("slow", (FakeVersion("1", gate),)))
    with serving(manager) as served, ThreadPoolExecutor() as threads:
        answer = threads.submit(infer, served.grpc)
        assert gate.entered.acquire(timeout=DEADLINE_SECONDS)
        served.server.stop()
        assert wait_until_refused(served.server.http_port)
        with pytest.raises(grpc.RpcError) as caught:
            infer(served.grpc)
        gate.opened.set()

        assert grpc.StatusCode.UNAVAILABLE == caught.value.code()
        assert [3.0] == list(answer.result().outputs[0].contents.fp64_contents)
