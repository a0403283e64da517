"""What the manager says of traffic: serving.json, the flags, and what is wrong with either."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest

from bundleserver.manager import Manager
from bundleserver.sources import Listing
from bundleserver.versions.lifecycle import State
from tests.fakes import FakeSource

TWO = {"1": 50.0, "2": 50.0}


@pytest.fixture
def source():
    """Publish three versions."""
    source = FakeSource()
    for label in ("1", "2", "3"):
        source.publish(label)
    return source


def managed(source, text=None, traffic=None):
    """Reconcile a manager of that source once."""
    if text is not None:
        source.configure(text)
    manager = Manager(source, model_name="fraud", open_bundle=source.open, traffic=traffic)
    manager.reconcile()
    return manager


def split(manager):
    """Return the weights in effect."""
    return dict(manager.traffic("fraud").config.traffic)


def problem(manager):
    """Return what is wrong with the configuration."""
    return manager.status("fraud").config_problem


def test_traffic_says_who_is_ready_where_they_lie_and_who_answers_by_default(source):
    """It has the default, the files of the versions that answer, and their directory."""
    traffic = managed(source, '{"policy": "latest:2"}').traffic("fraud")

    assert "3" == traffic.default
    assert {"3", "2"} == traffic.ready.keys()
    assert Path("/models/fraud") == traffic.root


def test_the_flag_splits_where_serving_json_says_nothing(source):
    """--traffic holds without a serving.json, and its versions are loaded."""
    manager = managed(source, traffic=TWO)

    assert split(manager) == TWO
    assert {"1", "2", "3"} == manager.traffic("fraud").ready.keys()
    assert problem(manager) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"policy": "latest:2"}', TWO),
        ('{"traffic": {"3": 1}}', {"3": 1}),
        ('{"default": "1"}', {}),
        ('{"default": "1", "canary": {"version": "2"}}', {}),
    ],
)
def test_serving_json_goes_before_the_flag(source, text, expected):
    """Its traffic, and a default or canary too: whoever rolls back wants one version to answer."""
    assert expected == split(managed(source, text, TWO))


def test_a_flag_that_names_an_unknown_label_is_told(source):
    """The problem names the flag and the label, until serving.json has the label."""
    manager = managed(source, traffic={"stable": 90.0, "canary": 10.0})

    assert "--traffic refers to 'stable', which is not a version or a label" in problem(manager)
    source.configure('{"labels": {"stable": "1", "canary": "2"}}')
    manager.reconcile()
    assert problem(manager) is None


def test_a_flag_that_names_a_version_that_is_not_there_is_told(source):
    """As is a version that nobody published."""
    assert (
        problem(managed(source, traffic={"9": 1.0}))
        == "--traffic refers to '9', which does not exist"
    )


def test_a_shadow_of_the_version_that_answers_by_default_is_told(source):
    """Where the policy makes the shadow the default, it has nothing to be compared with."""
    manager = managed(source, '{"shadow": ["3"]}')

    assert "serving.json has the shadow '3', which is the default version itself" == problem(
        manager
    )


@pytest.mark.parametrize(
    "text",
    [
        '{"default": "1", "canary": {"version": "9"}}',
        '{"default": "1", "traffic": {"1": 1, "9": 1}}',
        '{"default": "1", "shadow": ["9"]}',
    ],
)
def test_a_version_that_is_not_there_leaves_the_last_good_configuration(source, text):
    """A canary, a share or a shadow of nobody is reported, and the split before goes on."""
    manager = managed(source, '{"traffic": {"1": 50, "2": 50}}')
    source.configure(text)
    manager.reconcile()

    assert split(manager) == TWO
    assert "refers to unknown version '9'; keeping the last valid configuration" in problem(manager)


def test_a_file_that_breaks_its_rules_leaves_the_last_good_configuration(source):
    """What the source could not read is reported, and the split before goes on."""
    manager = managed(source, '{"traffic": {"1": 50, "2": 50}}')
    source.list_as(Listing("fraud", config_problem="serving.json: traffic.1: is -1"))
    manager.reconcile()

    assert split(manager) == TWO
    assert "traffic.1: is -1; keeping the last valid configuration" in problem(manager)


def test_a_canary_is_loaded_before_its_configuration_takes_effect(source):
    """The version that a rollout names is wanted though no policy wants it."""
    manager = managed(source, '{"default": "3", "canary": {"version": "1"}}')

    assert {"3", "1"} == manager.traffic("fraud").ready.keys()
    assert "1" == manager.traffic("fraud").config.canary.version


def test_the_traffic_of_a_model_that_is_gone_is_forgotten(source):
    """Models that come and go leave nothing behind."""
    source.publish("1", "goes", fails_at=State.LOADING)
    manager = Manager(source, open_bundle=source.open)
    manager.reconcile()
    config = manager.traffic("goes").config
    gone = weakref.ref(config)
    del config
    source.delete_model("goes")
    manager.reconcile()
    gc.collect()

    assert "goes" not in manager.models()
    assert gone() is None
