"""Whoever reaches the port may predict, and changes nothing that is not open to him."""

from __future__ import annotations

import ast
import http.client
import ipaddress
import socket
from contextlib import contextmanager
from pathlib import Path

import grpc
import httpx
import pytest
import uvicorn
from kserve.protocol.grpc import grpc_predict_v2_pb2 as kserve_messages
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

import bundleserver
from bundleserver.serving.administration import Administration
from bundleserver.serving.execution.answering import ServedModels
from bundleserver.serving.grpc import open_inference
from bundleserver.serving.kserve.pages import api_pages
from bundleserver.serving.options import ServerOptions
from tests.end_to_end.processes import command, eventually, running
from tests.end_to_end.versions import publish
from tests.serving.fakes import FakeManager, FakeModel, serving
from tests.serving.grpc_client import connected
from tests.serving.rest_fakes import FakeModel as RestModel
from tests.serving.rest_fakes import Rest

TOKEN = "correct-battery-horse-staple"  # noqa: S105  # of these tests
RIGHT = {"authorization": f"Bearer {TOKEN}"}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
UNLOAD = "/v2/repository/models/numbers/unload"
LOAD = "/v2/repository/models/numbers/load"


class Recording(FakeManager):
    """A manager that notes every change that reaches it."""

    def __init__(self, *models):
        super().__init__(*models)
        self.changes = []

    def load(self, model, version=None, *, timeout_seconds):
        self.changes.append(("load", model, version))

    def unload(self, model, version=None, *, timeout_seconds):
        self.changes.append(("unload", model, version))


def documented_paths():
    """Return every path that KServe's own app has, filled in, and more that may lead there."""
    manager = FakeManager(FakeModel("sums"))
    app = api_pages(manager, ServedModels(manager), True)
    paths = {
        path.replace("{model_name}", "sums").replace("{model_version}", "1")
        for path in app.openapi()["paths"]
    }
    changes = [
        f"/repository/models/{model}{version}/{verb}"
        for model in ("sums", "nix", "s%75ms", "..%2Fsums")
        for version in ("", "/versions/1", "/versions/nix")
        for verb in ("load", "unload", "LOAD", "load/", "load?force=1", "%6coad")
    ]
    assert "/v2/repository/models/sums/unload" in paths
    prefixes = (
        *("", "/v1", "/v2", "//v2", "/v2/", "/./v2", "/docs", "/docs/..", "/docs/%2e%2e/v2"),
        *("/openapi.json/v2", "/v2/models/sums", "/v2/health", "/metrics/v2", "/%76%32", "/V2"),
    )
    return sorted({*paths, *(prefix + change for prefix in prefixes for change in changes)})


def test_no_path_with_any_method_changes_anything_by_default():
    """Every route of ours and of KServe's app, however it is spelled, is closed."""
    manager = Recording(FakeModel("sums"))
    statuses = {}
    with (
        serving(manager, ServerOptions(enable_docs_url=True)) as server,
        httpx.Client(base_url=server.rest, timeout=60) as client,
    ):
        for path in documented_paths():
            for method in METHODS if path.startswith(("/v2/rep", "/docs")) else ("POST",):
                # As it is: httpx would tidy it.
                url = httpx.URL(server.rest).copy_with(raw_path=path.encode())
                statuses[method, path] = client.request(method, url).status_code

    assert [] == manager.changes
    assert 403 == statuses["POST", "/v2/repository/models/sums/unload"]
    assert 403 == statuses["POST", "/v2/repository/models/nix/versions/nix/load"]
    assert 403 == statuses["POST", "/v2/repository/models/sums/%6coad"]
    assert not {
        entry: status
        for entry, status in statuses.items()
        if "load" in entry[1] and status not in (400, 403, 404, 405)
    }


def test_no_rpc_changes_anything_by_default():
    """Every RPC of the service, with a model that there is and with one that is not, is closed."""
    manager, codes = Recording(FakeModel("sums")), {}
    with serving(manager) as server, connected(server.grpc) as client:
        for rpc, (request_class, _) in open_inference.METHODS.items():
            names = {field.name for field in request_class.DESCRIPTOR.fields}
            for model in ("sums", "nix"):
                fields = {name: model for name in ("model_name", "name") if name in names}
                try:
                    client.call(rpc, **fields)
                    codes[rpc, model] = "OK"
                except grpc.RpcError as error:
                    codes[rpc, model] = error.code().name
        for rpc in ("RepositoryModelLoad", "RepositoryModelUnload"):
            for body in (b"", b"\xff\xff", b"\x00" * 100_000):
                with pytest.raises(grpc.RpcError) as caught:
                    client.send(rpc, body)
                assert "PERMISSION_DENIED" == caught.value.code().name

    assert [] == manager.changes
    for verb in ("Load", "Unload"):
        refused = codes[f"RepositoryModel{verb}", "sums"], codes[f"RepositoryModel{verb}", "nix"]
        assert ("PERMISSION_DENIED", "PERMISSION_DENIED") == refused


CHANGERS = {
    "serving/rest/repository.py",
    "serving/grpc/service.py",
    "serving/execution/answering.py",
    "serving/kserve/repository.py",
    "serving/kserve/bundle_model.py",
    "serving/stopping.py",
    "serving/workers/peers.py",
}
ADMITTING = {
    "serving/page/pages.py": 1,
    "serving/rest/repository.py": 2,
    "serving/grpc/service.py": 2,
}


def test_only_those_who_ask_the_administration_call_the_manager():
    """A new way to change models has to be written here, and a route asks before anything else."""
    serving_folder = Path(bundleserver.__file__).parent / "serving"
    changers, admitting = set(), {}
    for path in sorted(serving_folder.rglob("*.py")):
        name = f"serving/{path.relative_to(serving_folder)}"
        attributes = [
            node
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute)
        ]
        if any(
            node.attr in ("load", "unload")
            and ast.unparse(node.value).endswith(("manager", "served", "_models", "extension"))
            for node in attributes
        ):
            changers.add(name)
        if asked := sum(node.attr.startswith("admit_") for node in attributes):
            admitting[name] = asked

    assert changers <= CHANGERS
    assert ADMITTING == admitting


def test_nothing_is_told_before_it_is_known_who_asks():
    """The answer is the same for a model that there is, for another, and for any body."""
    rest = Rest(RestModel("sums"), administration=Administration())
    answers = {
        rest.ask("POST", f"/v2/repository/models/{model}/{verb}", content=content).text
        for model in ("sums", "nix", "")
        for verb in ("load", "unload")
        for content in (b"", b"nonsense", b'{"parameters": {"config": "{}"}}', b"x" * 2_000_000)
        if model
    }

    assert 1 == len(answers)
    assert "sums" not in answers.pop()
    assert [] == rest.manager.changes


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Serve one model that everybody may load and unload."""
    root = tmp_path_factory.mktemp("open")
    publish(root, "v1", 1.0)
    with running(root, "numbers", admin="open", access_log="true") as server:
        server.wait_until_ready("numbers")
        yield server


FOREIGN = {
    "a form": {"Content-Type": "application/x-www-form-urlencoded", "Origin": "http://evil.test"},
    "a form without an origin": {"Content-Type": "text/plain"},
    "fetch without cors": {"Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"},
    "a beacon": {"Origin": "null"},
    "another port of this host": {"Origin": "http://127.0.0.1:1", "Sec-Fetch-Site": "same-site"},
    "another name of this host": {"Origin": "http://rebound.test", "Host": "rebound.test"},
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_page_of_another_site_changes_nothing(opened, kind):
    """What a browser sends for it is refused where all programs may, and no CORS header is sent."""
    refused = [opened.post(path, headers=FOREIGN[kind]) for path in (UNLOAD, LOAD)]
    asked = {"Origin": "http://evil.test", "Access-Control-Request-Method": "POST"}
    preflight = opened.client.options(UNLOAD, headers=asked)

    assert [403, 403] == [answer.status_code for answer in refused]
    assert 405 == preflight.status_code
    headers = [name for answer in (*refused, preflight) for name in answer.headers]
    assert not [name for name in headers if name.startswith("access-control")]
    assert opened.is_ready("numbers")


def test_programs_change_where_it_is_open(opened):
    """Bodies of JSON, and none at all, as KServe's and Triton's clients send them."""
    with grpc.insecure_channel(opened.grpc) as channel:
        stub = GRPCInferenceServiceStub(channel)
        unload = kserve_messages.RepositoryModelUnloadRequest(model_name="numbers")
        assert stub.RepositoryModelUnload(unload, timeout=60).isUnloaded
        gone = opened.is_ready("numbers")
        load = kserve_messages.RepositoryModelLoadRequest(model_name="numbers")
        assert stub.RepositoryModelLoad(load, timeout=60).isLoaded
    codes = [
        opened.post(UNLOAD, json={"parameters": {"unload_dependents": False}}).status_code,
        opened.post(LOAD).status_code,
    ]

    assert ([200, 200], False) == (codes, gone)
    assert opened.is_ready("numbers")
    assert "over grpc: allowed: unload of model 'numbers'" in opened.log
    assert "over rest: allowed: load of model 'numbers'" in opened.log


def raw_post(server, path, *lines):
    """Send a POST whose header lines are just these; return its status and headers."""
    link = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=60)
    link.putrequest("POST", path, skip_accept_encoding=True)
    for name, value in lines:
        link.putheader(name, value)
    link.endheaders()
    answer = link.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read().decode()
    link.close()
    return found


@contextmanager
def with_token(tmp_path, **flags):
    """Serve one model to administrators, with all that a log may have."""
    root, token = tmp_path / "models", tmp_path / "token"
    publish(root, "v1", 1.0)
    token.write_text(TOKEN)
    form = '%(h)s "%(R)s" %(q)s %({authorization}i)s %({Authorization}i)s %({cookie}i)s %(s)s'
    with running(
        root, "numbers", admin_token_file=token, access_log_format=form, **flags
    ) as server:
        server.wait_until_ready("numbers")
        yield server, token


def test_with_a_token_it_decides_and_no_log_has_it(tmp_path):
    """None, a wrong and a repeated one are 401; neither a log nor an answer repeats any of them."""
    with with_token(tmp_path, admin="open", repository_index="admin") as (server, _):
        bearer = ("Authorization", f"Bearer {TOKEN}")
        refused = [
            raw_post(server, path, ("Content-Length", "0"), *lines)
            for path in (UNLOAD, LOAD, "/v2/repository/index", f"{UNLOAD}?token={TOKEN}")
            for lines in ([], [bearer, bearer], [("Authorization", f"Bearer {TOKEN}x")])
        ]
        server.get(f"/v2/models/numbers?access_token={TOKEN}", headers={"cookie": f"a={TOKEN}"})
        admitted = [
            server.post(path, headers=RIGHT).status_code
            for path in (UNLOAD, LOAD, "/v2/repository/index")
        ]
        metadata = (("authorization", f"bearer {TOKEN}"),)
        with connected(server.grpc) as client:
            for rpc in ("RepositoryModelUnload", "RepositoryModelLoad", "RepositoryIndex"):
                fields = {} if rpc == "RepositoryIndex" else {"model_name": "numbers"}
                for wrong in ((), (("authorization", TOKEN),), metadata * 2):
                    with pytest.raises(grpc.RpcError) as caught:
                        client.call(rpc, wrong, **fields)
                    assert "UNAUTHENTICATED" == caught.value.code().name
                    assert TOKEN not in caught.value.details()
                client.call(rpc, metadata, **fields)
        page = server.get("/metrics").text

    assert {401} == {status for status, _, _ in refused}
    assert {"Bearer"} == {headers.get("www-authenticate") for _, headers, _ in refused}
    assert not [said for _, _, said in refused if TOKEN in said]
    assert [200, 200, 200] == admitted
    assert TOKEN not in server.log
    assert "[hidden]" in server.log
    counted = 'bundleserver_admin_requests_total{protocol="rest",request="unload",result="%s"} %s'
    assert counted % ("unauthenticated", "6.0") in page
    assert counted % ("allowed", "1.0") in page


def test_uvicorns_own_access_log_has_no_token(opened):
    """A token that a client puts in the path's query is hidden there, too."""
    opened.post(f"{UNLOAD}?authorization=Bearer%20{TOKEN}", headers=FOREIGN["a beacon"])
    opened.get(f"/v2/models/numbers?a=1&access_token={TOKEN}&b=2")

    opened.wait_for_line("/v2/models/numbers?[hidden] ")
    opened.wait_for_line(f"{UNLOAD}?[hidden]")
    assert TOKEN not in opened.log


def test_each_worker_process_decides_by_the_same_token(tmp_path):
    """Whichever process a connection reaches, it follows the file, and counts for all."""
    with with_token(tmp_path, workers=2, host="127.0.0.1") as (server, token):
        server.wait_for_line("2 of 2")

        def ask(path=LOAD, sent=TOKEN):
            headers = {"authorization": f"Bearer {sent}"} if sent else {}
            return httpx.post(f"{server.rest}{path}", headers=headers, timeout=60).status_code

        assert {200} == {ask() for _ in range(6)}
        assert {401} == {ask(sent=sent) for sent in ("", "x") for _ in range(6)}
        token.write_text("another-token-of-ours")
        assert {401} == {ask() for _ in range(6)}
        assert {200} == {ask(sent="another-token-of-ours") for _ in range(6)}
        token.unlink()
        assert {403} == {ask(sent=sent) for sent in ("", TOKEN, "another-token-of-ours") * 3}
        page = eventually(lambda: server.get("/metrics").text, "metrics are there")

    counted = 'bundleserver_admin_requests_total{protocol="rest",request="load",result="%s"} %s'
    assert counted % ("allowed", "12.0") in page
    assert counted % ("unauthenticated", "18.0") in page
    assert counted % ("closed", "9.0") in page


def reaches(address, port):
    """Tell whether somebody listens there."""
    try:
        socket.create_connection((address, port), timeout=20).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", None])
def test_a_server_listens_on_its_host_alone(tmp_path, host, workers):
    """Both ports are closed on every other address, also those of worker processes."""
    publish(tmp_path, "v1", 1.0)
    flags = {} if host is None else {"host": host}
    with running(tmp_path, "numbers", workers=workers, **flags) as server:
        if workers > 1:
            server.wait_for_line("2 of 2")
        ports = (server.http_port, server.grpc_port)
        found = {
            address: {reaches(address, port) for port in ports}
            for address in ("127.0.0.1", "127.0.0.2")
        }
        six = [reaches("::1", port) for port in ports]
        if host is not None:
            named = f"[{host}]" if ":" in host else host
            server.wait_for_line(f"http://{named}:{server.http_port} and gRPC on {named}:")
            url = f"http://{named}:{server.http_port}/v2/health/live"
            assert 200 == httpx.get(url, timeout=60).status_code
            with connected(f"{named}:{server.grpc_port}") as client:
                assert client.call("ServerLive").live

    everywhere = host is None
    assert {host == "127.0.0.1" or everywhere} == found["127.0.0.1"]
    assert {everywhere} == found["127.0.0.2"]
    # REST has always been on IPv4 alone by default.
    assert [host == "::1", host == "::1" or everywhere] == six


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.77", ""])
def test_a_host_that_is_not_here_ends_the_start(tmp_path, host, workers):
    """Nothing is served elsewhere instead; the sentence names the flag and the value."""
    ended = command("serve", "--model_dir", tmp_path, f"--host={host}", "--workers", workers)

    assert ended.code in (1, 2)
    assert f"--host: is '{host}'" in ended.out + ended.err
    assert "Traceback" not in ended.out + ended.err


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("flag", ["--host", "--http_port", "--grpc_port"])
def test_nothing_is_opened_for_a_server_that_cannot_listen(tmp_path, flag, workers):
    """A wrong address or a taken port ends the start before any file of a model is looked at."""
    publish(tmp_path, "v1", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        value = "192.0.2.78" if flag == "--host" else taken.getsockname()[1]
        flags = {"--host": "127.0.0.1", "--http_port": 0, "--grpc_port": 0, flag: value}
        given = (f"{name}={value}" for name, value in flags.items())
        ended = command(
            *("serve", "--model_dir", tmp_path, "--model_name", "numbers"),
            *("--workers", workers, *given),
        )

    said = ended.out + ended.err
    assert ended.code in (1, 2)
    assert f"{flag}: " in said
    assert "numbers v1" not in said


def link_local():
    """Return the link-local addresses of this machine, with their interfaces."""
    try:
        lines = Path("/proc/net/if_inet6").read_text().splitlines()
    except OSError:
        return []
    pairs = [(line.split()[0], line.split()[-1]) for line in lines]
    return [
        f"{ipaddress.ip_address(bytes.fromhex(number))}%{interface}"
        for number, interface in pairs
        if number.startswith("fe80")
    ]


@pytest.mark.skipif(not link_local(), reason="this machine has no link-local address")
def test_a_link_local_address_is_listened_on_with_its_zone(tmp_path):
    """REST and gRPC listen on the interface that the zone names."""
    publish(tmp_path, "v1", 1.0)
    host = link_local()[0]
    with running(tmp_path, "numbers", host=host) as server:
        at = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4]
        for port in (server.http_port, server.grpc_port):
            with socket.socket(socket.AF_INET6) as link:
                link.settimeout(60)
                link.connect((at[0], port, 0, at[3]))


def test_an_address_has_one_form_over_both_protocols(tmp_path):
    """A line of the log has address and port, however the request came."""
    publish(tmp_path, "v1", 1.0)
    for host, shown in (("127.0.0.1", "127.0.0.1:"), ("::1", "[::1]:")):
        with running(tmp_path, "numbers", host=host) as server:
            at = f"{shown.removesuffix(':')}:{server.grpc_port}"
            httpx.post(f"http://{shown}{server.http_port}{UNLOAD}", timeout=60)
            with connected(at) as client, pytest.raises(grpc.RpcError):
                client.call("RepositoryModelUnload", model_name="numbers")
            for protocol in ("rest", "grpc"):
                (line,) = (it for it in server.log.splitlines() if f"over {protocol}: ref" in it)
                assert f"administration request from {shown}" in line


def test_inspect_says_that_an_index_is_refused_and_reads_it_with_the_token(tmp_path):
    """No table that lacks the versions passes for a whole one."""
    with with_token(tmp_path, repository_index="admin") as (server, token):
        (tmp_path / "other").write_text("another-token-of-ours")
        ask = ("inspect", "--url", server.rest)
        without, as_json = command(*ask), command(*ask, "--json")
        wrong = command(*ask, "--admin_token_file", tmp_path / "other")
        right = command(*ask, "--admin_token_file", token)
        none = command(*ask, "--admin_token_file", tmp_path / "nothing")

    assert 0 == without.code
    assert "numbers: default v1" in without.out
    assert "requires the administrator's token" in without.out
    assert "--admin_token_file FILE" in without.out
    assert "requires the administrator's token" in as_json.document["index_refused"]
    assert (1, 1) == (wrong.code, none.code)
    assert "does not show its index of versions" in wrong.err
    assert "--admin_token_file" in none.err
    assert 0 == right.code, right.err
    assert "READY" in right.out
    assert TOKEN not in "".join(it.out + it.err for it in (without, wrong, right, none))


VERSIONS = ("", " HTTP/0.9", " HTTP/2.0", " HTTP/3.0", " HTTP/1.9", " HTTP/9.9", " ", " http/1.1")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("way", [uvicorn.__version__, "99.0"], ids=["eager", "plain"])
def test_another_version_of_http_changes_nothing(monkeypatch, way, version):
    """A request without a version, or of another one, is refused, also behind another one."""
    monkeypatch.setattr(uvicorn, "__version__", way)
    manager, said = Recording(FakeModel("sums")), []
    with serving(manager, ServerOptions(admin="open")) as server:
        path = "/v2/repository/models/sums/unload"
        odd = f"POST {path}{version}\r\n\r\n".encode()
        first = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
        for sent in (odd, odd.replace(b"\r\n\r\n", b"\r\nHost: x\r\n\r\n"), first + odd):
            with socket.create_connection(("127.0.0.1", server.server.http_port), 60) as link:
                link.sendall(sent)
                said.append(b"".join(iter(lambda link=link: link.recv(65536), b"")))
        refused = list(manager.changes)
        usual = httpx.post(server.rest + path, timeout=60).status_code

    assert ([], 200) == (refused, usual)
    for answer in said:
        assert answer.rpartition(b"HTTP/1.1 ")[2][:3] in (b"400", b"505"), answer
    assert b"HTTP/1.1 200" in said[2]
