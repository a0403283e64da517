"""Versions that come, go and change while one process serves them."""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import joblib
import pytest

from bundleserver import BundleStore
from tests.end_to_end import gated
from tests.end_to_end.calls import ask_grpc, v2_input
from tests.end_to_end.gated import open_gate
from tests.end_to_end.processes import HERE, command, environment, eventually, running
from tests.end_to_end.published import save_times
from tests.end_to_end.versions import (
    configure,
    no_file,
    other_bytes,
    publish,
    write_bundle,
)
from tests.serving.grpc_client import connected

X = v2_input("x", "FP64", [1, 1], [10.0])
NUMBERS = itertools.count(1)


class Model:
    """One model of the server that all tests share, in a directory of its own."""

    def __init__(self, server, root, name):
        self.server, self.name, self.root = server, name, root / name
        self.root.mkdir()

    def publish(self, label, factor, alter=None):
        publish(self.root, label, factor, alter)

    def ask(self, version=None):
        """Return which version answers, and the factor that it answers with."""
        answer = self.server.infer(self.name, X, version=version)
        if answer.status_code != 200:
            return answer.status_code, answer.json()["error"]
        document = answer.json()
        return document["model_version"], document["outputs"][0]["data"][0] / 10

    def default(self):
        answer = self.server.get(f"/v2/models/{self.name}")
        return answer.json().get("default_version")

    def ready(self):
        """Return the versions that answer, newest first."""
        return self.server.get(f"/v2/models/{self.name}").json().get("versions")

    def wait_for_default(self, version):
        eventually(lambda: self.default() == version, f"{version} is the default")

    def wait_for_ready(self, *versions):
        eventually(lambda: self.ready() == list(versions), f"{versions} are ready: {self.ready()}")

    def state(self, version):
        entry = self.server.index(self.name).get(version, {})
        return entry.get("state"), entry.get("reason", "")

    def wait_for_reason(self, version, text):
        return eventually(
            lambda: (reason := self.state(version)[1]) and text in reason and reason,
            f"{version} is {text!r}: {self.state(version)}",
        )

    def change(self, verb, version=None):
        place = f"/versions/{version}" if version else ""
        return self.server.post(f"/v2/repository/models/{self.name}{place}/{verb}")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Serve one volume, to which every test adds a model."""
    root = tmp_path_factory.mktemp("volume")
    with running(root, admin="open") as server:
        yield server, root


@pytest.fixture
def model(shared, request):
    """Add a model to the volume."""
    server, root = shared
    return Model(server, root, f"{request.node.originalname}-{next(NUMBERS)}")


@pytest.fixture
def pipe(tmp_path):
    """Make a pipe at which a model waits."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def test_the_newest_version_takes_over(model):
    """A new version answers by default once it is ready, and the old one is let go."""
    model.publish("v9", 9.0)
    model.wait_for_default("v9")
    model.publish("v10", 10.0)
    model.wait_for_default("v10")

    assert ("v10", 10.0) == model.ask()
    model.wait_for_ready("v10")
    status, said = model.ask("v9")
    assert (404, True) == (status, "not selected by the policy 'latest'" in said)


def test_the_old_version_answers_while_the_new_one_opens(model, pipe):
    """A version that opens slowly changes nothing until it is ready."""
    model.publish("v1", 1.0)
    model.wait_for_default("v1")
    model.publish("v2", gated.SlowToOpen(2.0, str(pipe)))
    model.wait_for_reason("v2", "LOADING")

    during = [model.ask() for _ in range(20)]
    status, said = model.ask("v2")
    health = model.server.get("/v2/health/live").status_code
    open_gate(pipe)
    model.wait_for_default("v2")

    assert [("v1", 1.0)] * 20 == during
    assert (503, True, 200) == (status, "LOADING" in said, health)
    assert ("v2", 2.0) == model.ask()


def test_a_first_version_that_opens_slowly_is_503_until_it_is_ready(model, pipe):
    """While nothing answers yet the process lives, and says over REST and gRPC what goes on."""
    model.publish("v1", gated.SlowToOpen(2.0, str(pipe)))
    model.wait_for_reason("v1", "LOADING")
    health = model.server.get("/v2/health/live").status_code
    status, said = model.ask()
    over_grpc = ask_grpc(model.server.grpc, model.name, X)
    open_gate(pipe)
    model.wait_for_default("v1")

    assert (200, 503, True) == (health, status, "version v1 is LOADING" in said)
    assert ("UNAVAILABLE", said) == (over_grpc.code, over_grpc.details)
    assert ("v1", 2.0) == model.ask()


@pytest.mark.parametrize(
    ("alter", "says"),
    [(other_bytes, "FAILED while VERIFYING: "), (no_file, "model.joblib: is missing")],
)
def test_a_broken_version_leaves_the_old_one_serving_until_it_is_mended(model, alter, says):
    """Index, version and log give one reason; a version whose files are mended is served."""
    model.publish("v1", 1.0)
    model.wait_for_default("v1")
    model.publish("v2", 2.0, alter)
    reason = model.wait_for_reason("v2", says)
    status, said = model.ask("v2")

    assert ("v1", 1.0) == model.ask()
    assert (503, True) == (status, reason in said)
    line = model.server.wait_for_line(f"{model.name} v2: failed while")
    assert reason.partition(": ")[2] in line
    assert "; kept v1" in line
    model.publish("v2", 2.0)
    model.wait_for_default("v2")
    assert ("v2", 2.0) == model.ask()


def test_the_newest_version_that_loads_serves_at_a_fresh_start(model):
    """A model whose newest version is broken starts with the one before."""
    staging = model.root.parent / f".{model.name}"
    staging.mkdir()
    publish(staging, "v1", 1.0)
    publish(staging, "v2", 2.0, other_bytes)
    model.root.rmdir()
    staging.rename(model.root)
    model.wait_for_default("v1")

    assert ("v1", 1.0) == model.ask()
    assert model.state("v2")[1].startswith("FAILED while VERIFYING")


def test_a_version_replaced_in_place_is_loaded_anew(model):
    """Other files under the same name are a new load of that version, said in the log."""
    model.publish("v1", 1.0)
    model.wait_for_default("v1")
    model.publish("v1", 5.0)
    eventually(lambda: model.ask() == ("v1", 5.0), "the new files answer")

    model.server.wait_for_line(f"{model.name} v1: ready in")
    assert [f"{model.name} v1: ready in" in line for line in model.server.lines].count(True) == 2
    assert any("replaces its previous files" in line for line in model.server.lines)


def test_times_of_files_do_not_order_versions(model):
    """A clock that was set back changes neither what is newest nor what is noticed."""
    model.publish("v1", 1.0)
    model.wait_for_default("v1")
    model.publish("v2", 2.0, set_back)
    model.wait_for_default("v2")
    model.publish("v2", 7.0, set_back)
    eventually(lambda: model.ask() == ("v2", 7.0), "the replaced files answer")


def set_back(directory):
    """Give files and directory the times of long ago."""
    for path in (*directory.iterdir(), directory):
        os.utime(path, (1000, 1000))


def test_a_slow_copy_is_never_served_half(model):
    """Written byte by byte, manifest first, a version stays away until it is whole and verified."""
    model.publish("v1", 1.0)
    model.wait_for_default("v1")
    source = write_bundle(model.root / ".source", gated.Times(2.0))
    target = model.root / "v2"
    target.mkdir()
    for name in ("manifest.json", "model.joblib"):
        with (target / name).open("wb") as file:
            content = (source / name).read_bytes()
            for at in range(len(content)):
                file.write(content[at : at + 1])
                file.flush()
                if at % 40 == 0:
                    assert ("v1", 1.0) == model.ask()
    model.wait_for_default("v2")

    assert ("v2", 2.0) == model.ask()


def test_files_without_a_manifest_are_opened_when_they_rest(model):
    """While a model file grows bit by bit it is not opened; when it has come to rest it is."""
    buffer = io.BytesIO()
    joblib.dump(gated.Times(3.0).fit(), buffer)
    content = buffer.getvalue() + bytes(1000)
    mark = len(model.server.lines)
    with (model.root / "model.joblib").open("wb") as file:
        for at in range(0, len(content), 50):
            file.write(content[at : at + 50])
            file.flush()
            assert model.ask()[0] in (404, 503)
    model.wait_for_default("1")

    assert ("1", 3.0) == model.ask()
    said = [line for line in model.server.lines[mark:] if f"{model.name} 1:" in line]
    assert not [line for line in said if "failed" in line]


def test_a_version_exists_from_its_manifest_on(model):
    """Files without their manifest, or with half of one, are no version; with it they are."""
    source = write_bundle(model.root.parent / f".{model.name}", gated.Times(4.0))
    manifest = (source / "manifest.json").read_bytes()
    target = model.root / "v1"
    target.mkdir()
    (target / "manifest.json").write_bytes(manifest[: len(manifest) // 2])
    eventually(lambda: "files are still changing" in model.state("v1")[1], "half a manifest")
    shutil.copy(source / "model.joblib", target)
    assert 503 == model.ask()[0]
    (target / "manifest.json").write_bytes(manifest)
    model.wait_for_default("v1")

    assert ("v1", 4.0) == model.ask()


def test_a_killed_publisher_leaves_nothing_half(model, pipe):
    """Kill -9 in the middle of a save: no version appears, and the next save works."""
    store = BundleStore(model.root.parent)
    save_times(store, model.name, gated.Times(1.0))
    model.wait_for_default("v1")
    script = HERE / "clients" / "publisher.py"
    publisher = subprocess.Popen(
        [sys.executable, str(script), str(store.root), model.name, "2.0", str(pipe)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert publisher.stdout.readline() == "saving\n"
    publisher.kill()
    publisher.wait()

    assert ["v1"] == [str(version) for version in store.versions(model.name)]
    assert ("v1", 1.0) == model.ask()
    save_times(store, model.name, gated.Times(3.0))
    model.wait_for_default("v2")
    assert ("v2", 3.0) == model.ask()


def test_the_last_version_survives_everything(model):
    """An empty root, a root that is gone and one that comes back do not stop what answers."""
    model.publish("v1", 1.0)
    model.wait_for_default("v1")
    shutil.rmtree(model.root / "v1")
    polls(model.server, 3)
    assert ("v1", 1.0) == model.ask()
    model.root.rmdir()
    polls(model.server, 3)
    assert ("v1", 1.0) == model.ask()
    model.root.mkdir()
    model.publish("v2", 2.0)
    model.wait_for_default("v2")

    assert ("v2", 2.0) == model.ask()


def polls(server, count):
    """Wait until the source has been read that often."""
    for _ in range(count):
        eventually(partial(is_later, server, last_poll(server)), "the next poll")


def is_later(server, before):
    """Ask whether the source has been read again."""
    return last_poll(server) > before


def last_poll(server):
    """Read when the source was read last."""
    name = "bundleserver_last_poll_timestamp_seconds "
    lines = server.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(name)).removeprefix(name))


POLICIES = [
    ("latest", ["v3"]),
    ("latest:2", ["v3", "v2"]),
    ("all", ["v3", "v2", "v1"]),
    ("specific:v1,v2", ["v2", "v1"]),
    ("specific:v1", ["v1"]),
]


def test_every_policy_of_serving_json(model):
    """``serving.json`` says which versions answer, and the newest of them by default."""
    for number in (1, 2, 3):
        model.publish(f"v{number}", float(number))
    for policy, versions in POLICIES:
        configure(model.root, policy=policy)
        model.wait_for_ready(*versions)
        assert (versions[0], float(versions[0][1:])) == model.ask()
        assert [(v, float(v[1:])) for v in versions] == [model.ask(v) for v in versions]
        for absent in {"v1", "v2", "v3"} - {*versions}:
            eventually(lambda v=absent: model.ask(v)[0] == 404, f"{absent} is let go")


def test_the_policy_flag_with_versions_at_the_top(tmp_path):
    """``--version_policy`` holds for a mounted model root with its versions below it."""
    for number in (1, 2, 3, 10):
        publish(tmp_path, f"{number}", float(number))
    with running(tmp_path, "flat", version_policy="specific:2,10") as server:
        server.wait_until_ready("flat", "2")
        server.wait_until_ready("flat", "10")
        document = server.get("/v2/models/flat").json()

        assert (["10", "2"], "10") == (document["versions"], document["default_version"])
        assert 404 == server.get("/v2/models/flat/versions/3").status_code


def test_labels_stand_wherever_a_version_may(model):
    """A label is a version in URLs of V1 and V2 and in ``model_version`` of gRPC."""
    model.publish("v1", 1.0)
    model.publish("v2", 2.0)
    configure(model.root, policy="all", labels={"stable": "v1", "canary": "v2"}, default="stable")
    eventually(lambda: model.ask("canary") == ("v2", 2.0), "the labels are known")
    server, name = model.server, model.name

    v1 = server.predict(name, {"instances": [[10.0]]}, version="canary")
    said = ask_grpc(server.grpc, name, X, version="stable")
    ready = server.get(f"/v2/models/{name}/versions/canary/ready")
    metadata = server.get(f"/v2/models/{name}/versions/canary").json()

    assert ("v2", [20.0]) == (v1.headers["x-model-version"], v1.json()["predictions"])
    assert ("v1", {"y": [10.0]}) == (said.version, said.outputs)
    assert ("v1", 1.0) == model.ask()
    assert (200, "v2") == (ready.status_code, metadata["model_version"])
    assert {"stable": "v1", "canary": "v2"} == metadata["labels"]
    assert (404, True) == ((a := model.ask("beta"))[0], "'stable', 'canary'" in a[1])


BAD_CONFIGS = {
    "half": '{"default": "v1", "poli',
    "empty": "",
    "no object": "[]",
    "unknown key": '{"polic": "latest"}',
    "unknown version": '{"default": "v77"}',
    "unknown label": '{"default": "stable"}',
    "label of nothing": '{"labels": {"stable": "v77"}, "default": "stable"}',
    "no policy": '{"policy": "newest"}',
    "negative share": '{"traffic": {"v1": -1}}',
    "broken version": '{"default": "v3"}',
}


def test_a_bad_serving_json_keeps_the_last_good_one(model):
    """Whatever is wrong with ``serving.json`` is shown, and what held before holds on."""
    model.publish("v1", 1.0)
    model.publish("v2", 2.0)
    model.publish("v3", 3.0, other_bytes)
    configure(model.root, policy="all", default="v1")
    model.wait_for_ready("v2", "v1")
    model.wait_for_default("v1")
    for text in BAD_CONFIGS.values():
        before = len(model.server.lines)
        (model.root / "serving.json").write_text(text)
        model.server.wait_for_line("keeping the last valid configuration", before)

        assert ("v1", 1.0) == model.ask()
        assert "keeping the last valid configuration" in model.state("v1")[1]
        assert ["v2", "v1"] == model.ready()
    configure(model.root, policy="all", default="v2")
    model.wait_for_default("v2")
    assert "READY" == model.state("v2")[1]


def test_rollback_and_promote_take_effect_by_themselves(model):
    """``bundleserver rollback`` and ``promote`` move the default of a server that runs."""
    for number in (1, 2, 3):
        model.publish(f"v{number}", float(number), no_file if number == 2 else None)
    model.wait_for_default("v3")

    back = command("rollback", model.root)
    model.wait_for_default("v1")
    assert (0, ("v1", 1.0)) == (back.code, model.ask())
    assert 0 == command("promote", model.root, "v3", "--label", "stable").code
    eventually(lambda: model.ask("stable") == ("v3", 3.0), "the label is known")
    assert 0 == command("promote", model.root, "stable").code
    model.wait_for_default("v3")
    model.publish("v4", 4.0)
    assert ("v3", 3.0) == model.ask()
    assert 0 == command("promote", model.root, "latest").code
    model.wait_for_default("v4")


def test_what_is_unloaded_by_hand_stays_so(model):
    """Unloaded over REST or gRPC it is 503 and says why, until it is loaded or published again."""
    model.publish("v1", 1.0)
    model.publish("v2", 2.0)
    configure(model.root, policy="all")
    model.wait_for_ready("v2", "v1")

    assert {"name": model.name, "unload": True} == model.change("unload", "v2").json()
    assert ("v1", 1.0) == model.ask()
    polls(model.server, 3)
    status, said = model.ask("v2")
    assert (503, True) == (status, "UNLOADED: manually" in said)
    assert ("UNAVAILABLE", True) == ((s := model.state("v2"))[0], "manually" in s[1])
    assert 200 == model.change("load", "v2").status_code
    assert ("v2", 2.0) == model.ask()

    with connected(model.server.grpc) as client:
        client.call("RepositoryModelUnload", model_name=model.name)
        assert 503 == model.ask()[0]
        assert not client.call("ModelReady", name=model.name).ready
        client.call("RepositoryModelLoad", model_name=model.name, model_version="v1")
        assert ("v1", 1.0) == model.ask()
        assert 503 == model.ask("v2")[0]
    model.publish("v2", 22.0)
    eventually(lambda: model.ask("v2") == ("v2", 22.0), "the republished version answers")


def test_a_version_that_the_policy_does_not_want_can_be_loaded_by_hand(model):
    """A load by hand brings up a version beside those of the policy; it answers by its name."""
    model.publish("v1", 1.0)
    model.publish("v2", 2.0)
    model.wait_for_ready("v2")

    assert 200 == model.change("load", "v1").status_code
    assert [("v1", 1.0), ("v2", 2.0)] == [model.ask("v1"), model.ask()]


def test_a_load_that_fails_says_why(model):
    """A load by hand of a broken version is answered with its reason."""
    model.publish("v1", 1.0)
    model.publish("v2", 2.0, other_bytes)
    model.wait_for_default("v1")
    answer = model.change("load", "v2")

    assert 503 == answer.status_code
    assert "FAILED while VERIFYING" in answer.json()["error"]


def test_the_index_tells_ready_ones_apart(model):
    """``ready`` leaves only the versions that answer in the index."""
    model.publish("v1", 1.0)
    model.publish("v2", 2.0, other_bytes)
    model.wait_for_default("v1")
    model.wait_for_reason("v2", "FAILED")

    body = {"ready": True}
    entries = model.server.post("/v2/repository/index", json=body).json()
    ours = [entry for entry in entries if entry["name"] == model.name]
    with connected(model.server.grpc) as client:
        found = client.call("RepositoryIndex", ready=True).models

    assert [("v1", "READY")] == [(entry["version"], entry["state"]) for entry in ours]
    assert ["v1"] == [entry.version for entry in found if entry.name == model.name]


def test_links_switch_all_versions_at_once(model):
    """A mounted ConfigMap's ``..data`` link, switched by one rename, replaces what it leads to."""
    for number, name in ((1, "..2025_01"), (2, "..2025_02")):
        (model.root / name).mkdir()
        publish(model.root / name, "v1", float(number))
    (model.root / "..data").symlink_to("..2025_01")
    (model.root / "v1").symlink_to("..data/v1")
    model.wait_for_default("v1")
    assert ("v1", 1.0) == model.ask()
    (model.root / "..new").symlink_to("..2025_02")
    (model.root / "..new").rename(model.root / "..data")

    eventually(lambda: model.ask() == ("v1", 2.0), "the switched link's files answer")


def test_odd_entries_do_not_disturb(model):
    """Files and hidden names like versions, link loops and links outside serve nothing."""
    outside = model.root.parent / ".outside"
    write_bundle(outside, gated.Times(66.0))
    (model.root / "v7").write_text("a file")
    (model.root / "v8").symlink_to("v8")
    (model.root / "v9").symlink_to(outside)
    (model.root / "v5").mkdir()
    for name in ("lost+found", ".v6", "_v6"):
        write_bundle(model.root / name, gated.Times(6.0))
    model.publish("v1", 1.0)
    model.wait_for_default("v1")
    polls(model.server, 2)

    assert ("v1", 1.0) == model.ask()
    assert "outside of" in model.state("v9")[1]
    assert ["v1"] == model.ready()


def test_versions_that_differ_only_by_v_are_told_apart(model):
    """``v2`` and ``2`` order alike: each answers by its own name, and the log says that they do."""
    model.publish("2", 2.0)
    model.publish("v2", 22.0)
    configure(model.root, policy="all")
    eventually(lambda: sorted(model.ready() or []) == ["2", "v2"], "both are ready")

    assert [("2", 2.0), ("v2", 22.0)] == [model.ask("2"), model.ask("v2")]
    model.server.wait_for_line("have the same order")


def test_a_version_without_a_manifest_beside_ones_with_one_does_not_exist(model):
    """A directory that lacks its manifest is half a copy where its siblings have one."""
    model.publish("v1", 1.0)
    model.publish("v2", 2.0, lambda directory: (directory / "manifest.json").unlink())
    model.wait_for_default("v1")
    polls(model.server, 3)

    assert ("v1", 1.0) == model.ask()
    assert 404 == model.ask("v2")[0]


@pytest.fixture
def slow_server(tmp_path, pipe):
    """Serve a model whose answers wait at the pipe."""
    root = tmp_path / "slow"
    root.mkdir()
    publish(root, "v1", gated.SlowToPredict(2.0, str(pipe)))
    with running(root, "slow", max_asyncio_workers=2) as server:
        server.wait_until_ready("slow")
        yield server


def test_sigterm_answers_what_is_in_flight(slow_server, pipe):
    """After SIGTERM nobody new is taken, nothing is ready, what runs is answered; exit code 0."""
    server = slow_server
    with ThreadPoolExecutor() as threads:
        over_rest = threads.submit(server.infer, "slow", X)
        eventually(lambda: in_flight(server) == 1, "the request runs")
        server.send(signal.SIGTERM)
        server.wait_for_line("SIGTERM: stopping")
        eventually(lambda: refuses(server), "nobody new is taken")
        open_gate(pipe)

        assert 20.0 == over_rest.result().json()["outputs"][0]["data"][0]
    assert 0 == server.exit_code()
    server.wait_for_line("stopped: every bundle is closed")
    assert "Traceback" not in server.log


def in_flight(server):
    """Read how many requests wait or run."""
    lines = server.get("/metrics").text.splitlines()
    name = 'bundleserver_requests_in_flight{model="slow"'
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def refuses(server):
    """Ask on a new connection whether the server is ready; it must never say so."""
    try:
        answer = httpx.get(f"{server.rest}/v2/health/ready", timeout=10)
    except httpx.TransportError:
        return True
    assert answer.status_code == 503
    return False


def test_sigterm_ends_a_server_that_is_opening_a_version(tmp_path, pipe):
    """A version that opens for ever keeps nobody from ending within the grace period."""
    root = tmp_path / "stuck"
    root.mkdir()
    publish(root, "v1", 1.0)
    with running(root, "stuck", grace_period_seconds=5) as server:
        server.wait_until_ready("stuck")
        publish(root, "v2", gated.SlowToOpen(2.0, str(pipe)))
        server.wait_for_line("stuck v2: loading")
        server.send(signal.SIGTERM)

        assert 0 == server.exit_code()


def test_metrics_tell_versions_apart(model):
    """Requests are counted by model, version, protocol and outcome; versions show their state."""
    model.publish("v1", 1.0)
    model.wait_for_default("v1")
    model.ask()
    model.server.predict(model.name, {"instances": [["x"]]})
    text = model.server.get("/metrics").text

    requests = f'bundleserver_requests_total{{model="{model.name}",outcome='
    assert f'{requests}"ok",protocol="v2",version="v1"}} 1' in text
    assert f'{requests}"invalid_input",protocol="v1",version="v1"}} 1' in text
    about = f'model="{model.name}"'
    assert f'bundleserver_version_state{{{about},state="READY",version="v1"}} 1' in text
    assert f'bundleserver_default_version_info{{{about},version="v1"}} 1' in text
    assert f'bundleserver_version_load_seconds{{{about},version="v1"}}' in text


def test_the_index_is_the_protocols(model):
    """The index's states are the protocol's; metadata name the version and list the ready ones."""
    model.publish("v1", 1.0)
    model.wait_for_default("v1")
    entry = model.server.index(model.name)["v1"]

    assert {"name": model.name, "version": "v1", "state": "READY", "reason": "READY"} == entry
    assert json.dumps(["v1"]) == json.dumps(model.ready())


def test_a_slow_load_keeps_nobody_from_rolling_back(model, pipe, shared):
    """While a version opens, serving.json, other models and loads by hand go on."""
    server, root = shared
    other = Model(server, root, f"{model.name}-other")
    for number in (1, 2):
        model.publish(f"v{number}", float(number))
    other.publish("v1", 1.0)
    configure(model.root, policy="all")
    model.wait_for_ready("v2", "v1")
    other.wait_for_default("v1")
    model.publish("v3", gated.SlowToOpen(3.0, str(pipe)))
    model.wait_for_reason("v3", "LOADING")

    configure(model.root, policy="all", default="v1")
    other.publish("v2", 2.0)
    try:
        model.wait_for_default("v1")
        other.wait_for_default("v2")
    finally:
        open_gate(pipe)

    assert ("v1", 1.0) == model.ask()
    assert ("v2", 2.0) == other.ask()
