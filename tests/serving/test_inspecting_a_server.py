"""``bundleserver inspect --url``: a running server's traffic, for people and machines."""

from __future__ import annotations

import json
import threading
import time

import httpx
import pytest
from typer.testing import CliRunner

from bundleserver.cli import app
from bundleserver.versions.canary import CanaryRules
from bundleserver.versions.lifecycle import State
from bundleserver.versions.serving_config import ServingConfig
from tests.serving.fakes import DEADLINE_SECONDS, FakeManager, FakeModel, FakeVersion, serving

ROWS = [[1.0, 2.0]]


def run(*arguments):
    """Run one command in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def two(**about):
    """Make the model 'sums' with two versions."""
    return FakeModel("sums", (FakeVersion("1"), FakeVersion("2")), **about)


def test_it_shows_the_shares_and_the_canary():
    """Whoever is on call sees who gets how much, and how the rollout stands."""
    config = ServingConfig(default="1", canary=CanaryRules("2", (5, 100)))
    broken = FakeModel("other", (FakeVersion("1", state=State.FAILED, reason="no"),))
    with serving(FakeManager(two(config=config), broken)) as server:
        done = run("inspect", "--url", server.rest)

    sums = done.output[done.output.index("sums:") :].partition("other:")[0]
    rows = {line.split()[0]: line.split() for line in sums.splitlines() if line.split()}

    assert 0 == done.exit_code, done.output
    assert "sums: default 1\n" in done.output
    assert ("95.0%", "5.0%") == (rows["1"][2], rows["2"][2])
    assert "canary 2 running at 5 %: just started" in done.output
    assert "other: 'other' version 1 is not ready: FAILED: no" in done.output


def test_a_share_of_a_label_is_said_beside_the_versions():
    """The table has the versions' shares; a label says which of them is its own."""
    config = ServingConfig(labels={"next": "2"}, traffic={"1": 3, "next": 1})
    with serving(FakeManager(two(config=config))) as server:
        done = run("inspect", "--url", server.rest)

    assert "\n  25.0% to next\n" in done.output
    assert "to 1\n" not in done.output


def test_it_shows_every_version_with_its_state_and_reason():
    """What answers, by which share, what is broken and why: one row per version, labels above."""
    versions = (
        FakeVersion("1", metadata={"trained_at": "2026-11-01", "metrics": {"f1": 0.92}}),
        FakeVersion("2", state=State.FAILED, reason="FAILED while LOADING: no file"),
    )
    model = FakeModel("sums", versions, labels={"stable": "1"})
    with serving(FakeManager(model)) as server:
        done = run("inspect", "--url", server.rest)
        (machine,) = json.loads(run("inspect", "--url", server.rest, "--json").output)["models"]
    rows = {line.split()[0]: line for line in done.output.splitlines() if line.split()}

    assert "sums: default 1, stable → 1\n" in done.output
    assert all(it in rows["1"] for it in ("READY", "by default", "2026-11-01", "f1 0.92"))
    assert rows["2"].endswith("FAILED while LOADING: no file")
    assert ["1", "2"] == [version["version"] for version in machine["states"]]


def test_it_shows_what_shadows_have_in_common_with_who_answers():
    """Agreement, differences and the latency ratio stand in a table, one row per output."""
    config = ServingConfig(default="1", shadow=("2",))
    with serving(FakeManager(two(config=config))) as server:
        httpx.post(f"{server.rest}/v1/models/sums:predict", json={"instances": ROWS})
        totals = server.server.served.splitter.totals
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not totals.snapshot():
            assert time.monotonic() < deadline
            threading.Event().wait(0.01)
        done = run("inspect", "--url", server.rest + "/")
        machine = json.loads(run("inspect", "--url", server.rest, "--json").output)

    (row,) = [line.split() for line in done.output.splitlines() if " label " in line]
    assert ["2", "1", "label", "1", "100.0%"] == row[:5]
    assert "1 compared" in done.output
    (pair,) = machine["models"][0]["traffic"]["shadow"]
    assert 1.0 == pair["outputs"]["sum"]["agreement"]


def test_a_server_without_models_says_so():
    """There is nothing to show."""
    with serving(FakeManager()) as server:
        assert "the server has no models\n" == run("inspect", "--url", server.rest).output


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("localhost:8080", "'localhost:8080' is not a valid server URL; expected http://host:port"),
        ("file:///etc", "'file:///etc' is not a valid server URL"),
        ("http://127.0.0.1:1", "'http://127.0.0.1:1/v2/models' does not respond: "),
        ("http://[", "does not respond: "),
    ],
)
def test_an_address_that_nobody_answers_at_ends_with_one_line(url, said):
    """The sentence names the address and what is wrong with it."""
    done = run("inspect", "--url", url)

    assert 1 == done.exit_code
    assert said in done.output
    assert 1 == len(done.output.splitlines())


@pytest.mark.parametrize("arguments", [[], [".", "--url", "http://127.0.0.1:1"]])
def test_a_directory_or_a_server_not_both(arguments):
    """One of the two is to be looked at."""
    done = run("inspect", *arguments)

    assert 2 == done.exit_code
    assert "expected either a directory or --url" in done.output
