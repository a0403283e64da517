"""A roll-back starts at what the server serves, and the policy of serving.json counts."""

from __future__ import annotations

import json
import logging

import pytest

from bundleserver import BundleStore
from bundleserver.commands.inspecting import Row, _roles
from bundleserver.errors import ConfigError, StoreError
from bundleserver.manager import Manager
from bundleserver.manifest import MANIFEST_NAME, Manifest
from bundleserver.sources.directory import DirectorySource
from bundleserver.store.serving_json import read_config, serving_version
from bundleserver.versions import Version
from tests.fakes import FakeBundle


@pytest.fixture
def root(tmp_path):
    """Put six versions there, v5 with a file that is missing."""
    for number in range(1, 7):
        version = tmp_path / "line" / f"v{number}"
        version.mkdir(parents=True)
        sha256 = "0" * 64
        component = {"framework": "sklearn", "path": "model.joblib", "sha256": sha256, "size": 1}
        document = {"format": "bundle/v1", "components": {"model": component}}
        if number != 5:
            (version / "model.joblib").write_bytes(b"x")
        (version / MANIFEST_NAME).write_text(json.dumps(document))
    return tmp_path / "line"


def configure(root, **config):
    """Write a serving.json."""
    (root / "serving.json").write_text(json.dumps(config))


def served(root):
    """Return the version that a manager of the same files serves by default."""

    def open_bundle(candidate, enter):
        if candidate.version == Version("v5"):
            raise StoreError("it is broken")
        return FakeBundle(candidate.model, candidate.version.label)

    manager = Manager(DirectorySource(root.parent), model_name="line", open_bundle=open_bundle)
    manager.reconcile()
    default = manager.status("line").default
    manager.close()
    return default


@pytest.mark.parametrize(
    ("config", "serves", "before"),
    [
        ({}, "v6", "v4"),
        ({"policy": "latest:2"}, "v6", "v4"),
        ({"policy": "all"}, "v6", "v4"),
        ({"policy": "specific:v2,v4"}, "v4", "v2"),
        ({"policy": "specific:v2,v5"}, "v2", None),
        ({"policy": "specific:v1,v5,v6"}, "v6", "v1"),
        ({"policy": "specific:v1,v4", "labels": {"stable": "v3"}}, "v4", "v1"),
        ({"policy": "specific:v1,v4", "default": "v3"}, "v3", "v1"),
        ({"labels": {"stable": "v4"}, "default": "stable"}, "v4", "v3"),
        ({"policy": "specific:v9", "labels": {"stable": "v2"}}, "v2", None),
        ({"policy": "latest:3", "default": "v2"}, "v2", "v1"),
        ({"default": "v1"}, "v1", None),
        ({"default": "v9"}, "v6", "v4"),
    ],
)
def test_a_rollback_goes_back_from_what_the_server_serves(root, config, serves, before):
    """Files and server agree on what serves, and the selected version before it is pinned."""
    configure(root, **config)

    assert serves == served(root) == serving_version(root, read_config(root)).label
    if before is None:
        with pytest.raises(StoreError, match="no earlier sound version"):
            BundleStore(root.parent).rollback("line")
        return
    BundleStore(root.parent).rollback("line")
    assert before == read_config(root).default == served(root)


@pytest.mark.parametrize(
    ("config", "before"),
    [
        ({"traffic": {"v3": 90, "v4": 10}}, "v3"),
        ({"traffic": {"v4": 100, "v6": 0}}, "v3"),
        ({"policy": "specific:v1,v6", "traffic": {"v2": 1, "v3": 1}}, "v2"),
        ({"default": "v3", "canary": {"version": "v4"}}, "v3"),
        ({"default": "v2", "policy": "specific:v1", "canary": {"version": "v6"}}, "v2"),
        ({"traffic": {"v9": 1}}, "v4"),
        ({"default": "v2", "canary": {"version": "v6"}}, "v2"),
        ({"default": "v3", "traffic": {"v3": 90, "v6": 10}}, "v3"),
        ({"labels": {"a": "v2", "b": "v4"}, "traffic": {"a": 90, "b": 10}}, "v2"),
    ],
)
def test_a_rollback_ends_a_split_and_a_rollout(root, config, before):
    """It goes back from the newest version that gets requests, to one that may get them."""
    configure(root, **config)
    after = BundleStore(root.parent).rollback("line")

    assert (before, {}, None) == (after.default, after.traffic, after.canary)


@pytest.mark.parametrize(
    ("config", "label", "shadow", "ended"),
    [
        ({"default": "v2", "shadow": ["v3", "v4"]}, None, ("v4",), "shadow"),
        ({"shadow": ["next"], "labels": {"next": "v3"}}, "default", (), "shadow"),
        ({"default": "v2", "canary": {"version": "v3"}}, None, (), "canary"),
        (
            {"default": "stable", "labels": {"stable": "v2"}, "shadow": ["v3"]},
            "stable",
            (),
            "shadow",
        ),
        (
            {"default": "stable", "labels": {"stable": "v2"}, "canary": {"version": "v3"}},
            "stable",
            (),
            "canary",
        ),
    ],
)
def test_a_promoted_version_is_neither_a_shadow_nor_a_canary(
    root, caplog, config, label, shadow, ended
):
    """A version that becomes the default is dropped from the others, with a line that says so."""
    configure(root, **config)
    after = BundleStore(root.parent).promote("line", "v3", label)

    assert ("v3", shadow, None) == (after.resolve(after.default), after.shadow, after.canary)
    assert after == read_config(root)
    assert ended in caplog.text


def test_a_label_that_is_not_the_default_moves_to_no_shadow(root):
    """A change that makes the default version its own shadow by a label is refused."""
    configure(root, default="v2", labels={"next": "v3"}, shadow=["next"])

    with pytest.raises(ConfigError):
        BundleStore(root.parent).promote("line", "v2", "next")
    assert {"next": "v3"} == read_config(root).labels


@pytest.mark.parametrize(("config", "is_told"), [({}, True), ({"policy": "all"}, False)])
def test_a_policy_that_is_not_in_serving_json_is_assumed_and_told(root, caplog, config, is_told):
    """Where a flag may decide, the rollback says what it takes for granted."""
    caplog.set_level(logging.WARNING)
    configure(root, **config)
    BundleStore(root.parent).rollback("line")

    assert is_told == ("assuming 'latest', as --version_policy is unknown here" in caplog.text)


@pytest.mark.parametrize(
    ("config", "roles"),
    [
        ({"policy": "specific:v2,v4"}, {"v4": "default", "v2": "yes"}),
        ({"policy": "latest:2"}, {"v6": "default", "v4": "yes"}),
        ({"policy": "specific:v9", "labels": {"old": "v1"}}, {"v1": "default"}),
        ({"default": "v5"}, {"v6": "default"}),
        ({"default": "v2", "shadow": ["v3"]}, {"v2": "default", "v3": "yes", "v6": "yes"}),
    ],
)
def test_inspect_shows_what_the_server_does(root, config, roles):
    """A version's role follows from the policy, the names and the files, as in a server."""
    configure(root, **config)
    manifest = Manifest.from_json((root / "v1" / MANIFEST_NAME).read_text(), "manifest.json")
    rows = [Row(Version(f"v{n}"), manifest, "broken" if n == 5 else "") for n in range(6, 0, -1)]
    shown = {v.label: role for v, role in _roles(rows, read_config(root)).items()}

    assert {f"v{n}": "no" for n in range(1, 7)} | {"v5": "cannot"} | roles == shown
