"""A model of a real MLflow registry, from registering to answering, through every trouble."""

import errno
import json
import logging
import re
import resource
import shutil
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from bundleserver.bundle.integrity import file_sha256
from bundleserver.errors import (
    IntegrityError,
    NotReady,
    SourceError,
    VersionNotFound,
)
from bundleserver.manager import Manager
from bundleserver.sources import LastKnownListings
from bundleserver.sources.registry.bounded import Breaker
from bundleserver.sources.registry.cache import INDEX_NAME, Cache
from bundleserver.sources.registry.client import RegistryClient
from bundleserver.sources.registry.pulling import pull
from bundleserver.sources.registry.source import RegistrySource
from bundleserver.sources.registry.uri import ModelUri
from bundleserver.store.pushing import push
from bundleserver.tensors import NamedTensor
from bundleserver.versions import VersionPolicy
from tests.mlflow_server import DEADLINE_SECONDS, answering, make_bundle

import numpy as np  # isort: skip


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    """Three bundles; the first answers the sum once, the second twice, the third three times."""
    root = tmp_path_factory.mktemp("bundles")
    return [make_bundle(root, factor) for factor in (1.0, 2.0, 3.0)]


@pytest.fixture
def name(request):
    """Name a model of its own for each test."""
    return re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)[:100]


def register(server, bundle, name, *aliases):
    """Register a bundle as the server's own user does; returns the version's number."""
    client = RegistryClient()
    return push(bundle, ModelUri.parse(f"models:/{name}"), client, aliases=aliases).version


class Replica:
    """One server process's worth: a source and the manager that serves from it."""

    def __init__(
        self, uri, cache_dir, *, labels=(), policy=None, call_seconds=30.0, traffic=None, **limits
    ):
        parsed = ModelUri.parse(uri)
        self.ahead = 0.0
        self.client = RegistryClient(
            attempts=2, call_seconds=call_seconds, first_pause_seconds=0.01
        )
        self.cache = Cache(Path(cache_dir), parsed.name, "the test's", **limits)
        self.source = RegistrySource(
            parsed,
            self.cache,
            self.client,
            labels=labels,
            traffic=traffic or {},
            breaker=Breaker(0.0, 0.0),
            clock=lambda: time.time() + self.ahead,
        )
        self.name = parsed.name
        self.manager = Manager(
            self.source,
            model_name=parsed.name,
            policy=VersionPolicy.parse(policy) if policy else None,
            retry_pauses_seconds=(0.0, 0.0),
        )

    def look(self):
        self.manager.reconcile()
        return self

    def answer(self, version=None):
        """Return which version answers [1, 2], and what."""
        with self.manager.acquire(self.name, version) as bundle:
            tensor = NamedTensor("input-0", np.array([[1.0, 2.0]]))
            bound = bundle.signature.validate_tensors([tensor], bundle.identity)
            return bundle.version, round(float(bundle.predict(bound, {})["output-0"][0]), 6)

    def reason(self, version=None):
        """Return why nothing answers."""
        with pytest.raises((NotReady, VersionNotFound)) as caught:
            self.manager.check_ready(self.name, version)
        return str(caught.value)

    def states(self):
        return {v.version: v.state.value for v in self.manager.status(self.name).versions}


@pytest.fixture
def replica(tmp_path):
    """Make replicas that are closed at the end."""
    made = []

    def make(uri, cache_dir=tmp_path / "cache", **settings):
        made.append(Replica(uri, cache_dir, **settings))
        return made[-1]

    yield make
    for each in made:
        each.manager.close()


def break_bundle(bundle, target):
    """Copy a bundle whose example does not hold any more."""
    shutil.copytree(bundle, target)
    manifest = json.loads((target / "manifest.json").read_text())
    manifest["examples"][0]["outputs"]["output-0"] = [9.0, 9.0, 9.0]
    (target / "manifest.json").write_text(json.dumps(manifest))
    return target


def register_raw(server, directory, name, alias=None):
    """Register a directory without asking whether it could be served."""
    client = server.client()
    run = client.create_run("0")
    client.log_artifacts(run.info.run_id, str(directory), "model")
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException):  # it may be there
        client.create_registered_model(name)
    source = f"{run.info.artifact_uri}/model"
    number = str(client.create_model_version(name, source, run.info.run_id).version)
    if alias:
        client.set_registered_model_alias(name, alias, number)
    return number


def test_an_alias_is_the_default_and_its_move_is_a_swap(registry, bundles, name, replica):
    """Whatever the alias stands for answers, and nothing that it does not stand for is loaded."""
    register(registry, bundles[0], name, "champion")
    register(registry, bundles[1], name)
    served = replica(f"models:/{name}@champion").look()
    before = served.answer(), served.states()

    registry.client().set_registered_model_alias(name, "champion", "2")
    served.look()

    assert (("1", 3.0), {"1": "READY"}) == before
    assert ("2", 6.0) == served.answer()
    assert {"2": "READY"} == {v: s for v, s in served.states().items() if s == "READY"}


@pytest.mark.parametrize(
    "odd",
    ["two words", "x+y", "50%", "%42", "x%20y", "x?y", "x#y", "it's", 'it\'s "it"', "Ünïcode"],
)
def test_a_name_may_have_any_character_that_mlflow_allows(
    registry, bundles, replica, tmp_path, odd
):
    """It is served, from the cache too, and pulled, with a directory that MLflow can read."""
    push(bundles[1], ModelUri(odd), RegistryClient(), aliases=["champion"])
    chosen = ModelUri.parse(str(ModelUri(odd, alias="champion")))
    pulled = pull(chosen, tmp_path / odd, RegistryClient())

    assert ("1", 6.0) == replica(str(chosen)).look().answer()
    assert ("1", 6.0) == replica(str(ModelUri(odd, version="1"))).look().answer()
    assert odd == pulled.name
    (directory,) = (tmp_path / "cache").iterdir()
    assert re.fullmatch(r"[A-Za-z0-9._-]+", directory.name)


def test_names_that_look_alike_have_directories_of_their_own(tmp_path):
    """What replaces a character, or ends a long name, does not mix two models in one cache."""
    names = ["x y", "x_y", "x+y", "n" * 150, "n" * 151]
    roots = [Cache(tmp_path, name, "the test's").root for name in names]

    assert len(names) == len(set(roots))
    assert Cache(tmp_path, "x_y", "the test's").root != Cache(tmp_path, "x_y", "another").root


def test_further_labels_are_loaded_side_by_side(registry, bundles, name, replica):
    """A challenger answers under its label while the champion answers by default."""
    register(registry, bundles[0], name, "champion")
    register(registry, bundles[1], name, "challenger")
    served = replica(f"models:/{name}@champion", labels=("challenger",)).look()

    assert ("1", 3.0) == served.answer()
    assert ("2", 6.0) == served.answer("challenger")
    assert {"champion": "1", "challenger": "2"} == served.manager.status(name).labels


def test_requests_are_split_over_aliases(registry, bundles, name, replica):
    """Shares go to whatever the aliases stand for; a name that is no alias leaves the default."""
    register(registry, bundles[0], name, "champion")
    register(registry, bundles[1], name, "challenger")
    shares = {"champion": 90.0, "challenger": 10.0}
    uri = f"models:/{name}@champion"
    served = replica(uri, labels=("challenger",), traffic=shares).look()
    lost = replica(uri, traffic={"champion": 1.0, "nobody": 1.0}).look()

    assert shares == dict(served.manager.traffic(name).config.traffic)
    assert {} == dict(lost.manager.traffic(name).config.traffic)


def test_the_other_forms_choose_as_they_say(registry, bundles, name, replica, tmp_path):
    """A number pins, latest follows the newest, a bare name leaves it to the version policy."""
    for bundle in bundles:
        register(registry, bundle, name)
    registry.client().transition_model_version_stage(name, "2", "Staging")

    def ready(uri, **settings):
        served = replica(uri, **settings).look()
        return served.answer()[0], sorted(v for v, s in served.states().items() if s == "READY")

    assert ("1", ["1"]) == ready(f"models:/{name}/1")
    assert ("3", ["3"]) == ready(f"models:/{name}/latest", policy="latest:2")
    assert ("3", ["2", "3"]) == ready(f"models:/{name}", policy="latest:2")
    assert ("2", ["2"]) == ready(f"models:/{name}/Staging")


def test_what_the_registry_knows_is_in_the_metadata(registry, bundles, name, replica):
    """Run, metrics, tags, description, who and when can be read at the endpoint."""
    register(registry, bundles[1], name, "champion")
    client = registry.client()
    client.update_model_version(name, "1", description="the good one")
    client.set_model_version_tag(name, "1", "ticket", "42")
    run_id = client.get_model_version(name, "1").run_id
    client.log_param(run_id, "depth", 3)
    served = replica(f"models:/{name}@champion").look()

    known = served.manager.status(name).versions[0].metadata["registry"]
    assert "the good one" == known["description"]
    assert "42" == known["tags"]["ticket"]
    assert run_id == known["run_id"]
    assert {"factor": 2.0} == known["metrics"]
    assert {"depth": "3"} == known["params"]
    assert known["created_at"].endswith("Z")


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("{name}-unknown@champion", "has no model"),
        ("{name}@challenger", "has no alias 'challenger'"),
        ("{name}/7", "has no version 7"),
    ],
)
def test_what_is_not_in_the_registry_is_named(registry, bundles, name, replica, form, said):
    """A wrong model, alias or version: not ready, and the reason says what there is."""
    register(registry, bundles[0], name, "champion")
    served = replica("models:/" + form.format(name=name)).look()

    assert said in served.reason()
    assert not served.manager.is_server_ready()


def test_what_answers_goes_on_when_it_is_deleted(registry, bundles, name, replica):
    """Deleting a version, and with it the alias, takes nothing away from clients."""
    register(registry, bundles[0], name, "champion")
    served = replica(f"models:/{name}@champion").look()
    registry.client().delete_model_version(name, "1")
    served.look()

    assert ("1", 3.0) == served.answer()


def test_an_alias_of_a_deleted_version_is_named_as_such():
    """Registries that keep such an alias get a sentence that says so."""
    from bundleserver.sources.registry.listing import Choice, resolve
    from bundleserver.sources.registry.values import RegisteredModel, RegisteredVersion

    model = RegisteredModel("fraud", (RegisteredVersion("1"),), {"champion": "4"})
    choice = Choice(ModelUri.parse("models:/fraud@champion"), (), "fraud")

    said = resolve(choice, model, "here").missing["champion"]
    assert "alias 'champion' of 'fraud' refers to version 4, which is not in the registry" in said


def test_a_broken_newest_version_leaves_the_one_before_it(
    registry, bundles, name, replica, tmp_path
):
    """The alias moves to what does not load: its predecessor goes on, and after a restart too."""
    register(registry, bundles[0], name, "champion")
    served = replica(f"models:/{name}@champion").look()
    register_raw(registry, break_bundle(bundles[1], tmp_path / "broken"), name, "champion")
    served.look()
    restarted = replica(f"models:/{name}@champion", tmp_path / "empty").look()

    assert ("1", 3.0) == served.answer() == restarted.answer()
    assert "FAILED" == served.states()["2"] == restarted.states()["2"]
    assert "output-0" in served.reason("2")


def test_while_serving_an_outage_changes_nothing(proxy, bundles, name, replica, caplog):
    """The registry goes and comes: clients get their answers, the log one warning."""
    register(proxy, bundles[0], name, "champion")
    served = replica(f"models:/{name}@champion").look()
    proxy.set("refuse")
    with caplog.at_level(logging.WARNING):
        served.look().look()
    during = served.answer(), served.manager.status(name).stale_since
    proxy.set("pass")
    served.look()

    assert ("1", 3.0) == during[0] == served.answer()
    assert during[1] is not None
    assert served.manager.status(name).stale_since is None
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert 1 == len(warnings)
    assert "cannot be reached: connection refused" in warnings[0]


def test_a_start_in_an_outage_serves_from_the_cache(proxy, bundles, name, replica, caplog):
    """What was last registered answers, with its age, and follows the registry once it is back."""
    register(proxy, bundles[0], name, "champion")
    replica(f"models:/{name}@champion").look()
    proxy.set("refuse")
    with caplog.at_level(logging.WARNING):
        restarted = replica(f"models:/{name}@champion").look()
    during = restarted.answer(), restarted.manager.status(name).stale_since
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    proxy.set("pass")
    register(proxy, bundles[1], name, "champion")
    restarted.look()

    assert ("1", 3.0) == during[0]
    assert during[1] is not None
    assert restarted.manager.status(name).stale_since is None
    assert ("2", 6.0) == restarted.answer()
    assert 1 == len(warnings)
    assert "serving from the cache as of" in warnings[0]


def test_a_start_in_an_outage_without_a_cache_waits(proxy, bundles, name, replica, tmp_path):
    """Nothing answers and the reason says why; it answers by itself once the registry does."""
    register(proxy, bundles[0], name, "champion")
    proxy.set("refuse")
    started = replica(f"models:/{name}@champion", tmp_path / "empty").look()
    said = started.reason()
    proxy.set("pass")
    started.look()

    assert "connection refused" in said
    assert "is not in the cache" in said
    assert ("1", 3.0) == started.answer()


def test_in_an_outage_an_earlier_cached_version_answers(proxy, bundles, name, replica):
    """The alias has moved to what nobody fetched: its predecessor in the cache answers."""
    register(proxy, bundles[0], name, "champion")
    replica(f"models:/{name}@champion").look()
    register(proxy, bundles[1], name, "champion")
    other = replica(f"models:/{name}@champion")
    other.source.discover()  # writes down the move, fetches nothing
    proxy.set("refuse")
    restarted = replica(f"models:/{name}@champion").look()

    assert ("1", 3.0) == restarted.answer()
    assert "not in the cache" in restarted.reason("2")


@pytest.mark.parametrize("harm", ["truncate", "change", "delete"])
def test_a_damaged_file_in_the_cache_is_fetched_again(registry, bundles, name, replica, harm):
    """What is on the disk is held to the digests of the download before it is opened."""
    register(registry, bundles[0], name, "champion")
    first = replica(f"models:/{name}@champion").look()
    _harm(first.cache, harm)

    assert ("1", 3.0) == replica(f"models:/{name}@champion").look().answer()


def test_an_entry_that_is_not_as_its_manifest_says_is_fetched_again(
    registry, bundles, name, replica
):
    """Its own index says that it is as it was downloaded, which proves nothing."""
    register(registry, bundles[0], name, "champion")
    first = replica(f"models:/{name}@champion").look()
    file = next(first.cache.root.glob("*/model.joblib"))
    data = bytearray(file.read_bytes())
    data[50] ^= 1
    file.write_bytes(bytes(data))
    index = file.parent / INDEX_NAME
    document = json.loads(index.read_text())
    document["files"]["model.joblib"]["sha256"] = file_sha256(file)
    index.write_text(json.dumps(document))

    second = replica(f"models:/{name}@champion").look()
    while second.states() != {"1": "READY"}:
        second.look()

    assert ("1", 3.0) == second.answer()


def test_a_damaged_file_is_never_served_in_an_outage(proxy, bundles, name, replica):
    """Without the registry a damaged version is refused; there is nothing else to answer."""
    register(proxy, bundles[0], name, "champion")
    first = replica(f"models:/{name}@champion").look()
    _harm(first.cache, "change")
    proxy.set("refuse")
    restarted = replica(f"models:/{name}@champion").look()

    assert "connection refused" in restarted.reason()


def _harm(cache, how):
    path = next(cache.root.glob("*/model.joblib"))
    if how == "truncate":
        path.write_bytes(path.read_bytes()[:-10])
    elif how == "change":
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 255
        path.write_bytes(bytes(data))
    else:
        path.unlink()


@pytest.fixture
def small_disk(tmp_path):
    """Make a directory that holds few bytes, by a tmpfs, else by the limit on files."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        yield place
        subprocess.run(["umount", str(place)], check=True)
        return
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16384, limits[1]))
    yield place
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_a_reason_and_leaves_no_half_version(
    registry, bundles, name, replica, small_disk, tmp_path
):
    """What does not fit is refused with the disk's words, and what was written goes."""
    bulky = tmp_path / "bulky"
    shutil.copytree(bundles[0], bulky)
    (bulky / "weights.bin").write_bytes(b"w" * 100_000)
    register_raw(registry, bulky, name, "champion")
    served = replica(f"models:/{name}@champion", small_disk).look()

    said = served.reason()
    assert "cannot be written to" in said
    assert "no space left" in said or "file too large" in said
    assert [] == [*small_disk.rglob("weights.bin")]


def test_a_model_over_the_limit_is_refused_before_it_is_downloaded(
    registry, bundles, name, replica
):
    """The limit, the model's size and the flag stand in the reason."""
    register(registry, bundles[0], name, "champion")
    served = replica(f"models:/{name}@champion", max_bytes=100).look()

    assert "exceeds --cache_max_bytes 100" in served.reason()
    assert [] == [*served.cache.root.glob("*/model.joblib")]


def test_the_cache_keeps_what_is_served_and_the_last_few(registry, bundles, name, replica):
    """Of the versions that nobody serves only the last ones used stay."""
    served = replica(f"models:/{name}@champion", keep=1)
    for bundle in (*bundles, bundles[0]):
        register(registry, bundle, name, "champion")
        served.look()

    assert ["2", "3", "4"] == sorted(entry.number for entry in served.cache.entries())
    assert ("4", 3.0) == served.answer()


def test_a_registry_that_hangs_holds_nobody_up(proxy, bundles, name, replica):
    """Every question ends in time, however long the registry keeps silent."""
    register(proxy, bundles[0], name, "champion")
    served = replica(f"models:/{name}@champion", call_seconds=0.5).look()
    proxy.set("stall")
    done = threading.Event()
    thread = threading.Thread(target=lambda: (served.look(), done.set()), daemon=True)
    thread.start()

    assert ("1", 3.0) == served.answer()
    assert done.wait(20.0)
    assert "timeout" in served.manager.last_poll_error


def test_a_download_that_is_cut_leaves_nothing_and_is_made_again(
    proxy, bundles, name, replica, tmp_path
):
    """Half a file never counts; the version comes as soon as it can be had."""
    bulky = tmp_path / "bulky"
    shutil.copytree(bundles[0], bulky)
    (bulky / "weights.bin").write_bytes(b"w" * 2_000_000)
    register_raw(proxy_server(proxy), bulky, name, "champion")
    served = replica(f"models:/{name}@champion")
    proxy.cut_after = 500_000
    proxy.set("cut")
    served.look()
    said = served.reason()
    left = [*served.cache.root.rglob("weights.bin")]
    proxy.set("pass")
    served.ahead = 3600.0  # by then even what has failed too often is tried again
    served.look()

    assert "connection closed by the server" in said
    assert [] == left
    assert ("1", 3.0) == served.answer()


def proxy_server(proxy):
    """Return what registers through a proxy's target."""
    from tests.mlflow_server import MlflowServer

    return MlflowServer(Path("/nowhere"), port=proxy.target)


def test_two_replicas_on_one_cache_download_once(registry, bundles, name, replica, caplog):
    """Whoever comes second waits for the first and takes what it has fetched."""
    register(registry, bundles[0], name, "champion")
    both = [replica(f"models:/{name}@champion") for _ in range(2)]
    barrier = threading.Barrier(2)

    def start(served):
        barrier.wait(DEADLINE_SECONDS)
        served.look()

    with caplog.at_level(logging.INFO):
        threads = [threading.Thread(target=start, args=(served,)) for served in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_SECONDS)

    assert [("1", 3.0)] * 2 == [served.answer() for served in both]
    assert 1 == sum(": downloading " in record.getMessage() for record in caplog.records)


def test_wrong_credentials_are_named(monkeypatch, replica):
    """Who may not ask is told which variables say who asks."""
    with answering({"": (401, "text/plain", b"You are not authenticated.")}) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        served = replica("models:/fraud@champion").look()

        assert "rejected the credentials (401)" in served.reason()
        assert "MLFLOW_TRACKING_USERNAME" in served.reason()


def test_an_answer_that_is_not_json_is_named(monkeypatch, replica):
    """A login page at the registry's address is no registry."""
    with answering({"": (200, "text/html", b"<html>sign in</html>")}) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        served = replica("models:/fraud@champion").look()

        assert "did not return JSON" in served.reason()


@pytest.mark.parametrize("path", ["../escape", "/etc/escape", "a/../../escape", "%2e%2e/escape"])
def test_an_artifact_that_climbs_out_is_refused(monkeypatch, replica, tmp_path, path):
    """No answer of a registry makes this machine write outside of the cache."""
    version = {
        "name": "fraud",
        "version": "1",
        "status": "READY",
        "creation_timestamp": 1,
        "source": "mlflow-artifacts:/0/x",
    }
    model = {"name": "fraud", "aliases": [{"alias": "champion", "version": "1"}]}
    answers = {
        "registered-models/get": {"registered_model": model},
        "model-versions/search": {"model_versions": [version]},
        "model-versions/get-download-uri": {"artifact_uri": "mlflow-artifacts:/0/x"},
        "mlflow-artifacts/artifacts": {"files": [{"path": path, "is_dir": False, "file_size": 1}]},
    }
    pages = {end: (200, "application/json", json.dumps(a).encode()) for end, a in answers.items()}
    with answering({**pages, "escape": (200, "text/plain", b"x")}) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        served = replica("models:/fraud@champion").look()

        assert "escape" in served.reason() or "Invalid path" in served.reason()
    assert [] == [*tmp_path.rglob("escape")]


def test_a_source_error_before_any_answer_carries_what_was_known(proxy, bundles, name, replica):
    """An outage at the start is an error that says what was last registered, and when."""
    register(proxy, bundles[0], name, "champion")
    replica(f"models:/{name}@champion").look()
    proxy.set("refuse")
    with pytest.raises(LastKnownListings) as caught:
        replica(f"models:/{name}@champion").source.discover()

    assert ["1"] == [str(c.version) for c in caught.value.listings[0].candidates]


def test_a_version_that_could_not_be_fetched_is_new_after_an_outage(proxy, bundles, name, replica):
    """However often it has failed for want of the registry, it is fetched once that is back."""
    register(proxy, bundles[0], name, "champion")
    served = replica(f"models:/{name}@champion")
    (candidate,) = served.source.discover()[0].candidates
    proxy.set("refuse")
    with pytest.raises(SourceError):
        served.source.fetch(candidate)
    with pytest.raises(SourceError):
        served.source.discover()
    proxy.set("pass")

    (again,) = served.source.discover()[0].candidates
    assert candidate.fingerprint != again.fingerprint
    assert served.source.fetch(again)[0].is_dir()


def test_a_cache_that_cannot_be_written_is_a_reason(registry, bundles, name, replica, tmp_path):
    """A file where the cache should be is named, with the flag."""
    register(registry, bundles[0], name, "champion")
    (tmp_path / "taken").write_text("")
    served = replica(f"models:/{name}@champion", tmp_path / "taken").look()

    assert "--cache_dir" in served.reason()


def test_errors_of_this_machine_are_told_from_those_of_the_way():
    """Words differ by cause and hold nothing that changes from one time to the next."""
    from bundleserver.sources.registry.failures import PassingFailure, explain

    said = explain(TimeoutError("at 0x7f12"), "http://here", "x")
    assert isinstance(said, PassingFailure)
    assert "0x" not in str(said)
    unknown = explain(OSError(errno.EHOSTUNREACH, "No route"), "http://here", "x")
    assert "no route to host" in str(unknown)


def test_integrity_of_paths_is_checked_beyond_mlflow():
    """A store that MLflow does not check is held to the same rule."""
    from bundleserver.sources.registry.download import Artifacts

    artifacts = Artifacts(None, "fraud", "1")
    for path in ("../x", "/x", "a/../x", "a\\x", "b/x", "./x", "a//x"):
        with pytest.raises(IntegrityError, match="is outside of"):
            artifacts._check_path(path, "")
    artifacts._check_path("x", "")
    artifacts._check_path("a/x", "a")
