"""Servers that check signatures, and volumes and registries that others write to."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import mlflow
import pytest
from model_signing import hashing, signing

from tests.end_to_end.processes import command, eventually, running
from tests.signatures import fitted, publish, sign, write_key

ROWS = {"instances": [[0.1, 0.2]]}


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """Make a trusted key."""
    return write_key(tmp_path, "release")


def answer(server, model="fraud"):
    """Return what a model says."""
    return server.predict(model, ROWS).json()["predictions"]


def signature_of(server, model="fraud"):
    """Return what the metadata say of a model's signature."""
    return server.get(f"/v2/models/{model}").json()["metadata"]["verification"]["signature"]


def reordered(metrics):
    """Return the lines of signatures with their version and status together."""
    found = re.findall(r"bundleserver_version_verified\{(.*)\} ", metrics)
    labels = [dict(re.findall(r'(\w+)="([^"]*)"', line)) for line in found]
    return [f'version="{it["version"]}",status="{it["status"]}"' for it in labels]


def failing(server, version, text, model="fraud"):
    """Wait until a version is not served for this reason."""
    return eventually(
        lambda: text in (said := server.index(model).get(version, {}).get("reason", "")) and said,
        f"{version} fails with {text!r}; the index says {server.index(model)}",
    )


def test_a_hot_version_that_does_not_verify_leaves_the_one_before_serving(tmp_path, key):
    """Each load is checked; what is refused says why in the index, and nothing else stops."""
    root = tmp_path / "store"
    publish(root, 1, sign_with=key)
    with running(root, trusted_keys=tmp_path / "keys") as server:
        server.wait_until_ready("fraud")
        unsigned = publish(root, 2)
        failing(server, "v2", "there is no 'model.sig'")
        moved = root / "fraud" / "v3"
        shutil.copytree(root / "fraud" / "v1", root / "fraud" / ".staging-3")
        (root / "fraud" / ".staging-3").rename(moved)
        failing(server, "v3", "made for 'fraud' version 'v1', and this is 'fraud' version 'v3'")
        metrics = server.get("/metrics").text

        assert [1] == answer(server)
        assert "verified" == signature_of(server)["status"]
        assert "release.pub" == signature_of(server)["key"]["name"]
        values = {
            version: line.rpartition(" ")[2]
            for line in metrics.splitlines()
            for version in ("v1", "v2", "v3")
            if "version_verified{" in line and f'version="{version}"' in line
        }
        assert {"v1": "1.0", "v2": "0.0", "v3": "0.0"} == values
        assert 'version="v2",status="unsigned"' in reordered(metrics)
        assert 'version="v3",status="invalid"' in reordered(metrics)
        shutil.rmtree(moved)
        shutil.rmtree(unsigned)
        signed = publish(root, 4, sign_with=key)
        eventually(lambda: [4] == answer(server), f"{signed} is served")


def test_a_revoked_key_keeps_the_next_load_out_and_what_is_ready_ready(tmp_path, key):
    """Keys are read anew at each load: a removed one opens nothing more."""
    root = tmp_path / "store"
    publish(root, 1, sign_with=key)
    other = write_key(tmp_path, "other")
    with running(root, trusted_keys=tmp_path / "keys") as server:
        server.wait_until_ready("fraud")
        (tmp_path / "keys" / "release.pub").unlink()
        publish(root, 2, sign_with=key)
        failing(server, "v2", "that is not trusted made it; trusted are: 'other.pub'")

        assert [1] == answer(server)
        publish(root, 3, sign_with=other)
        eventually(lambda: [3] == answer(server), "the key that is left opens the next version")


def test_with_warn_an_unsigned_version_is_served_and_told_everywhere(tmp_path, key):
    """The index, the metadata, the log and the metrics say that it is not verified."""
    root = tmp_path / "store"
    publish(root, 1)
    with running(root, trusted_keys=tmp_path / "keys", signatures="warn") as server:
        server.wait_until_ready("fraud")

        assert [1] == answer(server)
        assert "unsigned" == signature_of(server)["status"]
        assert "READY although" in server.index("fraud")["v1"]["reason"]
        assert "there is no 'model.sig'" in server.log
        verified = [
            line for line in server.get("/metrics").text.splitlines() if "verified{" in line
        ]
        (line,) = verified
        assert 'status="unsigned"' in line
        assert 0 == float(line.rpartition(" ")[2])


@pytest.mark.parametrize("workers", [1, 2])
def test_without_a_usable_key_no_server_starts(tmp_path, workers):
    """One line says what is missing, and the server ends."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "notes.txt").write_text("no key")
    root = tmp_path / "store"

    for keys, told in ((tmp_path / "keys", "notes.txt"), (tmp_path / "none", "cannot be read")):
        ended = command("serve", "--model_dir", root, "--trusted_keys", keys, "--workers", workers)
        assert ended.code == 1
        assert told in ended.err
        assert 1 == len(ended.err.strip().splitlines())


def test_a_version_is_signed_and_verified_on_the_command_line(tmp_path, key):
    """Sign writes model.sig, verify says who signed, inspect shows it, and a change is told."""
    root = tmp_path / "store"
    directory = publish(root, 1)

    signed = command("sign", directory, "--private_key", key)
    verified = command("verify", directory, "--trusted_keys", tmp_path / "keys", "--json")
    inspected = command("inspect", root, "--trusted_keys", tmp_path / "keys", "--json")
    (directory / "extra").write_text("x")
    refused = command("verify", directory, "--trusted_keys", tmp_path / "keys")

    assert 0 == signed.code, signed.err
    assert "verified" == verified.document["signature"]["status"]
    assert "verified" == inspected.document[0]["versions"][0]["signature"]["status"]
    assert 1 == refused.code
    assert "extra: was not signed" in refused.err


@pytest.mark.parametrize("policy", ["enforce", "warn"])
def test_a_missing_library_is_never_an_unsigned_version(tmp_path, key, policy, monkeypatch):
    """A server that cannot check signatures does not start."""
    hidden = tmp_path / "hidden" / "model_signing"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", str(hidden.parent), prepend=os.pathsep)

    ended = command(
        "serve",
        "--model_dir",
        tmp_path,
        "--trusted_keys",
        tmp_path / "keys",
        "--signatures",
        policy,
    )

    assert 1 == ended.code
    assert "pip install 'bundleserver[signing]'" in ended.err


def test_a_signed_bundle_keeps_its_signature_through_a_registry(tmp_path, key, registry):
    """Push uploads what was signed; a server checks it, and refuses what a registry changed."""
    root = tmp_path / "store"
    name = f"signed-{tmp_path.name[-8:]}"
    directory = publish(root, 1, sign_with=key, name=name)
    pushed = command("push", directory, f"models:/{name}", "--alias", "live", "--json")
    assert 0 == pushed.code, pushed.err
    flags = {"trusted_keys": tmp_path / "keys", "model_uri": f"models:/{name}@live"}

    with running(tmp_path / "unused", cache_dir=tmp_path / "cache", **flags) as server:
        server.wait_until_ready(name)
        assert "verified" == signature_of(server, name)["status"]
    bad = tmp_path / "bad"
    shutil.copytree(directory, bad)
    document = json.loads((bad / "manifest.json").read_text())
    document["metadata"]["owner"] = "somebody else"
    (bad / "manifest.json").write_text(json.dumps(document))
    assert 1 == command("push", bad, f"models:/{name}", "--alias", "live").code
    # Whoever may write to the registry needs no push.
    client = mlflow.MlflowClient(registry.uri)
    run = client.create_run(client.create_experiment(name))
    client.log_artifacts(run.info.run_id, str(bad), "bundle")
    made = client.create_model_version(name, f"{run.info.artifact_uri}/bundle", run.info.run_id)
    client.set_registered_model_alias(name, "live", made.version)
    with running(tmp_path / "unused", cache_dir=tmp_path / "cache", **flags) as server:
        server.wait_for_reason(name, "manifest.json: was edited after it was signed")


def test_a_signed_mlflow_model_is_verified_from_a_registry(tmp_path, key, registry):
    """A model that MLflow itself wrote is covered file by file, under the name that was signed."""
    name = f"native-{tmp_path.name[-8:]}"
    directory = tmp_path / "native"
    mlflow.sklearn.save_model(fitted(1), directory, serialization_format="cloudpickle")
    sign(directory, key, name)
    client = mlflow.MlflowClient(registry.uri)

    def register():
        run = client.create_run(client.create_experiment(f"{name}-{len(list(tmp_path.iterdir()))}"))
        client.log_artifacts(run.info.run_id, str(directory), "model")
        return client.create_model_version(
            name, f"{run.info.artifact_uri}/model", run.info.run_id
        ).version

    client.create_registered_model(name)
    client.set_registered_model_alias(name, "live", register())
    flags = {"trusted_keys": tmp_path / "keys", "model_uri": f"models:/{name}@live"}
    with running(tmp_path / "unused", cache_dir=tmp_path / "cache", **flags) as server:
        server.wait_until_ready(name)
        assert "verified" == signature_of(server, name)["status"]
        assert [1] == answer(server, name)
        (directory / "added.py").write_text("raise SystemExit")
        client.set_registered_model_alias(name, "live", register())
        failing(server, "2", "added.py: was not signed", name)
        assert [1] == answer(server, name)


def test_a_command_says_which_of_two_ways_it_needs(tmp_path, key):
    """A key or sigstore, trusted keys or an identity: neither both nor none."""
    directory = publish(tmp_path / "store", 1)

    assert 2 == command("sign", directory).code
    assert 2 == command("sign", directory, "--private_key", key, "--sigstore").code
    assert 2 == command("verify", directory).code
    assert 2 == command("verify", directory, "--identity", "somebody").code


def test_a_signed_version_is_published_with_its_signature_on_the_command_line(tmp_path, key):
    """Publishing keeps what was signed, or signs anew what it changes."""
    directory = publish(tmp_path / "store", 1, sign_with=key)
    kept = command("publish", directory, tmp_path / "live" / "fraud")
    refused = command("publish", directory, tmp_path / "live" / "other")
    signed = command("publish", directory, tmp_path / "live" / "other", "--sign_with", key)

    assert 0 == kept.code, kept.err
    assert "its signature would not hold" in refused.err
    assert 0 == signed.code, signed.err
    for model in ("fraud", "other"):
        version = tmp_path / "live" / model / "v1"
        trusted = ("--trusted_keys", tmp_path / "keys", "--name", model)
        assert 0 == command("verify", version, *trusted).code


def test_worker_processes_check_signatures_each(tmp_path, key):
    """A version that does not verify is READY in none of several worker processes."""
    root = tmp_path / "store"
    publish(root, 1, sign_with=key)
    with running(root, trusted_keys=tmp_path / "keys", workers=2) as server:
        server.wait_until_ready("fraud")
        publish(root, 2)
        failing(server, "v2", "there is no 'model.sig'")

        assert [1] == answer(server)


def test_verify_compares_the_model_and_version_of_the_path_as_a_server_does(tmp_path, key):
    """A version that was moved is refused by both, unless somebody says what it is."""
    directory = publish(tmp_path / "store", sign_with=key)
    moved, elsewhere = tmp_path / "store" / "fraud" / "v2", tmp_path / "store" / "credit" / "v1"
    shutil.copytree(directory, moved)
    shutil.copytree(directory, elsewhere)
    loose = tmp_path / "download"
    shutil.copytree(directory, loose)

    def verified(place, *more):
        return command("verify", place, "--trusted_keys", tmp_path / "keys", *more)

    assert "'fraud v1'" in verified(directory).out
    for place in (moved, elsewhere):
        assert 1 == verified(place).code
        assert "it was made for 'fraud' version 'v1', and this is" in verified(place).err
        assert 0 == verified(place, "--name", "fraud", "--version", "v1").code
    assert "no name was compared" in verified(loose).out
    assert 1 == verified(loose, "--name", "credit").code
    assert 1 == verified(loose, "--version", "v3").code
    assert 2 == verified(loose, "--name", "").code
    assert 2 == verified(loose, "--version", "latest").code


def test_verify_answers_in_json_whatever_comes_of_it(tmp_path, key):
    """Who asks for JSON gets the status and the reason, and exit code 1."""
    directory = publish(tmp_path / "store")
    asked = ("verify", directory, "--json", "--trusted_keys")

    unsigned = command(*asked, tmp_path / "keys")
    without = command(*asked, tmp_path / "none")

    assert (1, 1) == (unsigned.code, without.code)
    assert "unsigned" == unsigned.document["signature"]["status"]
    assert "there is no 'model.sig'" in unsigned.document["signature"]["problem"]
    assert "unchecked" == without.document["signature"]["status"]
    assert "cannot be read" in without.document["signature"]["problem"]


def test_what_a_signer_leaves_out_is_told_alike_by_serve_verify_and_inspect(tmp_path, key):
    """One check says it, so that nobody takes a version for whole that a server refuses."""
    root = tmp_path / "store"
    directory = publish(root)
    config = hashing.Config().set_ignored_paths(paths=["model.sig", "manifest.json"])
    signer = signing.Config().use_elliptic_key_signer(private_key=key).set_hashing_config(config)
    signer.sign(directory, directory / "model.sig")
    told = "manifest.json: was not signed, as whoever signed left it out"

    verified = command("verify", directory, "--trusted_keys", tmp_path / "keys")
    inspected = command("inspect", root, "--trusted_keys", tmp_path / "keys", "--json")

    assert 1 == verified.code
    assert told in verified.err
    signature = inspected.document[0]["versions"][0]["signature"]
    assert "invalid" == signature["status"]
    assert told in signature["problem"]
    with running(root, trusted_keys=tmp_path / "keys") as server:
        server.wait_for_reason("fraud", told)
