"""A slow or odd download, and a cache that hangs, are the trouble of one version or one poll."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from bundleserver.errors import IntegrityError, SourceError
from bundleserver.sources import Candidate, Demand
from bundleserver.sources.registry.bounded import (
    Breaker,
    EndsWithItsCall,
    call_within,
    ended_by,
)
from bundleserver.sources.registry.cache import Cache
from bundleserver.sources.registry.cache.index import write_index
from bundleserver.sources.registry.client import RegistryClient
from bundleserver.sources.registry.download import Artifact, Artifacts
from bundleserver.sources.registry.listing import Choice, list_model
from bundleserver.sources.registry.source import RegistrySource
from bundleserver.sources.registry.state import LastKnown, recall, remember
from bundleserver.sources.registry.uri import ModelUri
from bundleserver.sources.registry.values import RegisteredModel, RegisteredVersion
from bundleserver.sources.slow_reads import SlowReads
from bundleserver.versions import Version, VersionPolicy
from tests.end_to_end.processes import DEADLINE_SECONDS, eventually
from tests.hostile.hanging_volume import hanging_volume, why_not

V1, V2 = (RegisteredVersion(number, created_at=1) for number in ("1", "2"))
MODEL = RegisteredModel("m", (V2, V1), {"champion": "2"})


class FakeClient:
    """A registry with two versions; the files of the second never end."""

    place = "http://registry"

    def __init__(self):
        self.downloading = threading.Event()
        self.ended = threading.Event()
        self.sock, self.registry = socket.socketpair()

    def model(self, name):
        return MODEL

    def run(self, version):
        return {}

    def trickle(self):
        connection = Connection()
        connection.sock = self.sock
        connection.request()
        self.downloading.set()
        while self.sock.recv(1):
            pass
        self.ended.set()


class Sending:
    """As much of a connection as a call needs to end with it."""

    def request(self):
        pass


class Connection(EndsWithItsCall, Sending):
    """As those of MLflow's sessions are."""


class FakeArtifacts:
    """One file for each version."""

    def __init__(self, client, name, number):
        self.client, self.number = client, number

    def list(self):
        return ()

    def fetch(self, files, directory):
        if self.number == "2":
            call_within(DEADLINE_SECONDS, "trickle", self.client.trickle)
        (directory / "model.bin").write_bytes(b"model")


@pytest.fixture
def fetching(tmp_path, monkeypatch):
    """Lend a source of both versions, its client and candidates, oldest first."""
    monkeypatch.setattr("bundleserver.sources.registry.source.Artifacts", FakeArtifacts)
    monkeypatch.setattr(RegistrySource, "_verified", lambda self, directory, candidate: None)
    monkeypatch.setattr(
        "bundleserver.sources.registry.source.with_facts", lambda manifest, facts: manifest
    )
    client = FakeClient()
    cache = Cache(tmp_path / "cache", "m", client.place)
    source = RegistrySource(ModelUri.parse("models:/m"), cache, client, breaker=Breaker(0.0, 0.0))
    (listing,) = source.discover()
    yield source, client, sorted(listing.candidates, key=lambda candidate: candidate.version)
    client.sock.close()
    client.registry.close()


def test_a_slow_download_holds_up_no_other_version_and_ends_with_its_load(fetching):
    """Another version is fetched meanwhile; one that is given up leaves neither files nor lock."""
    source, client, (first, second) = fetching
    errors: list[SourceError] = []

    def fetch():
        try:
            source.fetch(second)
        except SourceError as error:
            errors.append(error)

    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    assert client.downloading.wait(DEADLINE_SECONDS)
    directory, _ = source.fetch(first)
    again, _ = source.fetch(first)
    source.give_up(second)
    thread.join(DEADLINE_SECONDS)

    assert ["its load was given up"] == list(map(str, errors))
    assert client.ended.wait(DEADLINE_SECONDS)
    assert (directory / "model.bin").read_bytes() == b"model"
    assert directory == again
    assert [] == [path.name for path in directory.parent.glob(".part-*")]
    with (directory.parent / ".lock-2").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_load_that_was_not_given_up_is_not_ended_with_another(fetching):
    """Giving up what is not fetched does nothing."""
    source, _, (first, second) = fetching
    source.give_up(second)
    source.give_up(first)

    assert source.fetch(first)[0].is_dir()


@pytest.mark.parametrize("is_writing", [False, True])
def test_a_replica_that_hangs_with_its_lock_is_waited_for_while_it_writes(tmp_path, is_writing):
    """Then the version is fetched without the lock, and the other's files are left alone."""
    cache = Cache(tmp_path, "m", "registry", lock_seconds=0.5)
    cache.root.mkdir()
    part = cache.root / ".part-1-other"
    part.mkdir()
    stopped = threading.Event()
    seen: list[bool] = []

    def write():
        for at in range(8):
            (part / f"{at}").write_bytes(b"x")
            stopped.wait(0.2)
        stopped.set()

    def fill(directory):
        seen.append(stopped.is_set())
        (directory / "model.bin").write_bytes(b"model")
        return {}

    with (cache.root / ".lock-1").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if is_writing:
            threading.Thread(target=write, daemon=True).start()
        directory, _ = cache.add(V1, fill)

    assert [is_writing] == seen
    assert part.is_dir()
    assert (directory / "model.bin").is_file()


def test_a_wait_for_another_replica_ends_with_its_load(tmp_path):
    """Whoever is given up does not stay in the queue for the lock."""
    cache = Cache(tmp_path, "m", "registry")
    cache.root.mkdir()

    def give_up():
        raise SourceError("given up")

    with (cache.root / ".lock-1").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(SourceError, match="given up"), ended_by(give_up):
            cache.add(V1, lambda directory: {})


@pytest.fixture
def store(monkeypatch):
    """Let a function be what downloads, as a library that writes files as it likes."""

    def use(download):
        repository = SimpleNamespace(_download_file=lambda remote, local: download(Path(local)))
        monkeypatch.setattr(
            "mlflow.store.artifact.artifact_repository_registry.get_artifact_repository",
            lambda uri: repository,
        )

    return use


@pytest.mark.parametrize("name", ["{}", "{}.6eF3B", ".{}.part"])
@pytest.mark.parametrize("size", [3_000, None])
def test_a_file_that_grows_beyond_its_size_fails_its_load(tmp_path, store, name, size, monkeypatch):
    """Whatever the store, and whatever it calls a file that is not complete; nothing is left."""
    gate = threading.Event()

    def download(local):
        with local.with_name(name.format(local.name)).open("wb", buffering=0) as file:
            file.write(b"x" * 3_001)
            gate.wait(DEADLINE_SECONDS)
            file.write(b"x")

    store(download)
    usage = SimpleNamespace(free=6_000)
    monkeypatch.setattr("bundleserver.sources.registry.download.shutil.disk_usage", lambda _: usage)
    what = (
        "more than the announced 3000 bytes" if size else "more than 3000 bytes, half of the free"
    )
    with pytest.raises(IntegrityError, match=what):
        Artifacts(RegistryClient(), "m", "1").fetch((Artifact("model.pt", size),), tmp_path)
    gate.set()

    assert [] == [*tmp_path.iterdir()]


def test_an_attempt_that_was_given_up_writes_into_no_later_one(tmp_path, store):
    """What hung at first, and goes on after the next attempt has the file, changes nothing."""
    gates = [threading.Event(), threading.Event()]
    done = threading.Event()

    def download(local):
        if gates[1].is_set():
            local.write_bytes(b"good")
            return
        gates[1].set()
        with suppress(OSError):
            gates[0].wait(DEADLINE_SECONDS)
            local.write_bytes(b"late")
        done.set()

    store(download)
    client = RegistryClient(attempts=2, first_pause_seconds=0.01)
    files = (Artifact("model.pt", 4),)
    Artifacts(client, "m", "1", file_seconds=0.5).fetch(files, tmp_path)
    gates[0].set()
    assert done.wait(DEADLINE_SECONDS)

    assert b"good" == (tmp_path / "model.pt").read_bytes()
    assert ["model.pt"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("is_http", [False, True])
def test_many_small_files_do_not_list_their_directory_for_each(tmp_path, monkeypatch, is_http):
    """A directory of many files is not read once for each of them; over HTTP it never is."""
    count, scans = 300, []

    class Repository:
        def _download_file(self, remote, local):
            if remote == "f0":
                never.wait(0.3)
            with open(local, "wb") as file:  # noqa: PTH123  # as MLflow does
                file.write(b"x")

    never = threading.Event()
    monkeypatch.setattr(
        "bundleserver.sources.registry.download._streams", lambda repository: is_http
    )
    monkeypatch.setattr(
        "mlflow.store.artifact.artifact_repository_registry.get_artifact_repository",
        lambda uri: Repository(),
    )
    scandir = os.scandir
    monkeypatch.setattr(
        os, "scandir", lambda path: (path == tmp_path and scans.append(path)) or scandir(path)
    )
    client = RegistryClient()
    files = tuple(Artifact(f"f{at}", 1) for at in range(count))

    Artifacts(client, "m", "1").fetch(files, tmp_path)

    assert count == len([*tmp_path.iterdir()])
    assert len(scans) < count / 2
    assert not (is_http and scans)


def test_without_locks_no_replica_removes_what_another_one_writes(tmp_path, monkeypatch):
    """Where the file system has none, both fetch, and both have the version."""

    def without_locks(descriptor, operation):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", without_locks)
    cache, other = (Cache(tmp_path, "m", "registry") for _ in range(2))

    def fill(directory):
        (directory / "model.bin").write_bytes(b"model")
        return {}

    def fill_slowly(directory):
        fill(directory)
        other.add(V1, fill)
        return {"files": str(sorted(path.name for path in directory.iterdir()))}

    _, facts = cache.add(V1, fill_slowly)

    assert {"files": "['model.bin']"} == facts
    assert cache.find(V1) == other.find(V1) is not None
    assert [] == [path.name for path in cache.root.glob(".part-*")]


def test_what_was_begun_without_the_lock_is_left_by_those_who_have_it(tmp_path):
    """A replica that hung kept the lock, another one fetches without, a third one later with."""
    cache, other = (Cache(tmp_path, "m", "registry", lock_seconds=0.3) for _ in range(2))
    cache.root.mkdir()
    held = (cache.root / ".lock-1").open("wb")
    fcntl.flock(held, fcntl.LOCK_EX)

    def fill(directory):
        (directory / "model.bin").write_bytes(b"model")
        return {}

    def fill_slowly(directory):
        held.close()
        fill(directory)
        other.add(V1, fill)
        return {"files": str(sorted(path.name for path in directory.iterdir()))}

    assert {"files": "['model.bin']"} == cache.add(V1, fill_slowly)[1]


def test_a_replica_that_computes_long_digests_is_seen_to_go_on(tmp_path, monkeypatch):
    """A large file is no reason to fetch it again elsewhere; and its load can be given up."""
    monkeypatch.setattr("bundleserver.sources.registry.cache.locks._BEAT_SECONDS", 0.0)
    monkeypatch.setattr("bundleserver.bundle.integrity._CHUNK_BYTES", 1)
    (tmp_path / "model.bin").write_bytes(b"model")
    touched = []

    def check():
        touched.append(tmp_path.stat().st_mtime)
        os.utime(tmp_path, (1.0, 1.0))
        if len(touched) > 4:
            raise SourceError("given up")

    with pytest.raises(SourceError, match="given up"), ended_by(check):
        write_index(tmp_path, {})

    assert all(at > 1.0 for at in touched)


def test_downloads_that_hang_hold_up_no_poll():
    """They have places of their own."""
    gate = threading.Semaphore(0)
    with ended_by(lambda: None):
        for _ in range(16):
            with pytest.raises(TimeoutError, match="no response"):
                call_within(0.01, "hang", gate.acquire)
    assert call_within(DEADLINE_SECONDS, "poll", lambda: 1) == 1
    gate.release(16)
    hanging = "registry: hang"
    eventually(
        lambda: hanging not in [thread.name for thread in threading.enumerate()], "they have ended"
    )


def test_versions_together_are_bounded_and_stored_in_pieces(tmp_path):
    """A state beyond the limit leaves what was stored; one below is read back equal."""
    versions = [replace(V1, number=str(n), description='é"\n' * 50) for n in range(2_000)]
    known = LastKnown(replace(MODEL, versions=tuple(versions)), 5.0, {"champion": ("2", "1")})
    remember(known, tmp_path)
    assert known == recall(tmp_path)
    size = (tmp_path / "registry.json").stat().st_size

    long = (replace(V1, description="x" * 2**20, number=str(n)) for n in range(70))
    remember(LastKnown(replace(MODEL, versions=tuple(long)), 6.0, {}), tmp_path)
    assert known == recall(tmp_path)
    assert ["registry.json"] == [path.name for path in tmp_path.iterdir()]
    assert 2_000 * 150 < size


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_a_cache_that_hangs_fails_the_poll_with_a_reason(tmp_path):
    """Its flag is named, nobody waits, and the next poll after its return succeeds."""
    cache = Cache(tmp_path / "cache", "m", "http://registry")
    (tmp_path / "cache").mkdir()
    source = RegistrySource(ModelUri.parse("models:/m"), cache, FakeClient())
    source._stored._reads = SlowReads(0.2)
    source._stored.poll = source._stored._reads.poll
    with hanging_volume(tmp_path / "cache"):
        for _ in range(3):
            with pytest.raises(SourceError, match=r"--cache_dir\) does not answer"):
                source.discover()

    def is_back():
        with suppress(SourceError):
            return source.discover()
        return None

    assert eventually(is_back, "the volume is read again")[0].candidates
    assert recall(cache.root) is not None


@pytest.mark.parametrize(
    ("alias", "failed", "policy"),
    [("3", "2", "specific:3"), ("3", "3", "specific:2,3"), ("3", "23", "specific:1,3")],
)
def test_only_a_version_that_a_label_refers_to_is_replaced(alias, failed, policy):
    """And by none that failed too, which would keep the label from taking effect."""
    model = RegisteredModel("m", (replace(V1, number="3"), V2, V1), {"champion": alias})
    known = LastKnown(model, 1.0, {"champion": ("3", "2", "1")})
    left_out = frozenset(map(Version, failed))
    demand = Demand(VersionPolicy(), left_out, left_out)
    choice = Choice(ModelUri.parse("models:/m@champion"), (), "m")

    def candidate_of(version):
        return Candidate("m", version.version, Path(), version.fingerprint, settled=True)

    listing = list_model(choice, known, demand, "here", candidate_of)

    assert policy == listing.config.policy
