"""Canaries: promoted, demoted for each reason, interrupted, and remembered over a restart."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from dataclasses import replace

import httpx
import numpy as np
import pytest

from bundleserver.errors import InvalidInput, PredictionError
from bundleserver.serving.execution.predict import predict
from bundleserver.serving.execution.thread_pool import ThreadPool
from bundleserver.serving.requests import PredictRequest
from bundleserver.serving.traffic import canary_store
from bundleserver.serving.traffic.canaries import Canaries
from bundleserver.serving.traffic.canary_state import (
    STATE_NAME,
    Phase,
    Progress,
    read_progress,
    write_progress,
)
from bundleserver.serving.traffic.mirroring import Shadows
from bundleserver.serving.traffic.splitting import Splitter
from bundleserver.versions.canary import CanaryRules
from bundleserver.versions.lifecycle import State
from bundleserver.versions.serving_config import ServingConfig
from tests.fakes import Clock
from tests.serving.fakes import (
    DEADLINE_SECONDS,
    FakeManager,
    FakeModel,
    FakeVersion,
    serving,
    split_and_answer,
    sums,
)

ROWS = [[1.0, 2.0], [2.0, 2.0]]
RULES = CanaryRules("2", (20, 50, 100), 60, 20, 0.05)


def crash(inputs, parameters):
    """Fail as a model's own code does."""
    raise PredictionError("'sums' version 2", "no such tree", "abc")


def refuse(inputs, parameters):
    """Call a request wrong that the default answers."""
    raise InvalidInput("unknown column")


def opposite(inputs, parameters):
    """Call low what is high, and high what is low."""
    answer = sums(inputs, parameters)
    swap = {"high": "low", "low": "high"}
    return {**answer, "label": np.array([swap[v] for v in answer["label"]], dtype=object)}


def settle():
    """Wait until the progress is read and written."""
    for thread in threading.enumerate():
        if thread.name == "canary":
            thread.join(DEADLINE_SECONDS)


class Served:
    """A model with a canary, requests for it, and a clock that goes when it is told to."""

    def __init__(self, rules=RULES, canary=sums, root=None, waits=True, **second):
        self.waits = waits
        self.clock = Clock()
        self.calls = {"1": sums, "2": canary}
        self.model = FakeModel(
            "sums",
            (FakeVersion("1"), FakeVersion("2", self._canary, **second)),
            config=ServingConfig(default="1", canary=rules),
            root=root,
        )
        self.manager = FakeManager(self.model)
        self.start()

    def _canary(self, inputs, parameters):
        return self.calls["2"](inputs, parameters)

    def start(self):
        """Begin as a new process does."""
        self.rollouts = Canaries(self.clock)
        self.splitter = Splitter(self.manager, self.rollouts)
        assert self.canary  # which has the progress read
        if self.waits:
            settle()

    def change(self, **changes):
        """Change the model as the manager shows it."""
        self.model = replace(self.model, **changes)
        self.manager.add(self.model)

    def rules(self, **changes):
        """Edit the rules in serving.json."""
        config = self.model.config
        self.change(config=replace(config, canary=replace(config.canary, **changes)))

    def ask(self, count=400):
        """Ask so often, each time with another key, and return how often the canary answered."""
        found = 0
        for number in range(count):
            answered_by = [""]
            request = PredictRequest("sums", rows=ROWS, routing_key=f"user-{number}")
            with suppress(PredictionError, InvalidInput):
                split_and_answer(self.splitter, request, answered_by)
            found += answered_by == ["2"]
            self.clock.now += 0.2
        if self.waits:
            settle()
        return found

    @property
    def canary(self):
        """How the canary stands."""
        return self.splitter.describe_traffic("sums")["canary"]


def test_a_canary_walks_its_steps_and_is_promoted(caplog):
    """Its share grows step by step, each is logged with its counters, and the last is kept."""
    caplog.set_level("INFO")
    served = Served()
    assert ("running", 20.0, 1) == (
        served.canary["state"],
        served.canary["percent"],
        served.canary["step"],
    )

    shares = [served.ask(), served.ask(), served.ask(), served.ask()]

    assert 0 < shares[0] < 400
    assert 400 == shares[3]
    assert ("promoted", 100) == (served.canary["state"], served.canary["percent"])
    assert "at 100 %" in served.canary["reason"]
    said = ["canary moved from 20 % to 50 %", "canary moved from 50 % to 100 %", "canary promoted"]
    assert said == [
        part for line, part in zip(caplog.messages, said, strict=True) if f"sums 2: {part}" in line
    ]


def test_a_step_takes_its_interval():
    """However many requests come, a step lasts as long as it says."""
    served = Served(replace(RULES, interval_seconds=10_000))

    served.ask()

    assert ("running", 20) == (served.canary["state"], served.canary["percent"])


@pytest.mark.parametrize(
    ("canary", "reason"),
    [
        (crash, "2 of 2 requests failed; max_error_rate is 0.05"),
        (
            refuse,
            "0 of 20 requests failed and 20 were rejected as invalid (400); max_error_rate is 0.05",
        ),
    ],
)
def test_a_canary_that_fails_is_demoted(canary, reason, caplog):
    """Its share goes back to the default at once, and the reason is kept and logged."""
    served = Served(canary=canary)

    served.ask()

    assert ("demoted", 0.0, reason) == (
        served.canary["state"],
        served.canary["percent"],
        served.canary["reason"],
    )
    assert f"sums 2: canary demoted: {reason}" in caplog.messages
    assert 0 == served.ask()


def test_a_canary_that_is_slow_is_demoted():
    """Its 99th percentile is held against the default's."""
    gate = threading.Event()

    def slow(inputs, parameters):
        gate.wait(0.01)
        return sums(inputs, parameters)

    served = Served(replace(RULES, steps=(50, 100), max_p99_ratio=1.5), slow)

    served.ask(120)

    assert "demoted" == served.canary["state"]
    assert "times the default's; max_p99_ratio is 1.5" in served.canary["reason"]


def test_a_canary_that_disagrees_is_demoted():
    """Its answers are compared with copies that the default answers, without further config."""
    served = Served(replace(RULES, min_agreement=0.98), opposite)
    compared = 0
    shadows = Shadows(served.manager, ThreadPool(threads=1), served.splitter.totals, predict)
    for number in range(300):
        request = PredictRequest("sums", rows=ROWS, routing_key=f"user-{number}")
        _, copies = split_and_answer(served.splitter, request)
        served.clock.now += 0.2
        for copy in copies:
            compared += 1
            assert ("2", "1") == (copy.pair.version, copy.pair.shadow)
            shadows._compare(copy)

    assert 20 == compared
    assert (
        "demoted",
        "0.0% of the compared values equal the default's; min_agreement is 0.98",
    ) == (
        served.canary["state"],
        served.canary["reason"],
    )


def test_a_demoted_canary_is_tried_again_only_when_it_is_published_again():
    """Other rules or another default change nothing; other files begin a new rollout."""
    served = Served(canary=crash)
    served.ask()
    served.rules(max_error_rate=1.0, steps=(50,))
    assert 0 == served.ask(50)
    served.change(config=ServingConfig(default="1"))
    served.ask(5)
    served.change(config=ServingConfig(default="1", canary=RULES))
    assert 0 == served.ask(50)

    served.calls["2"] = sums
    versions = served.model.versions
    served.change(versions=(versions[0], replace(versions[1], files="published again")))

    assert ("running", 20) == (served.canary["state"], served.canary["percent"])
    assert served.ask() > 0


def test_a_new_version_interrupts_a_rollout():
    """Another canary begins at the first step, whatever the one before had reached."""
    served = Served()
    served.ask()
    assert 50 == served.canary["percent"]

    served.change(versions=(*served.model.versions, FakeVersion("3")))
    served.rules(version="3")

    assert ("3", "running", 20) == tuple(
        served.canary[key] for key in ("version", "state", "percent")
    )


def test_rules_that_are_edited_midway_go_on_from_the_share_that_is_reached():
    """The share does not fall back, and counting begins anew."""
    served = Served()
    served.ask()
    assert 50 == served.canary["percent"]

    served.rules(steps=(10, 60, 100))

    assert (60, 0) == (served.canary["percent"], served.canary["requests"])


def test_a_canary_that_was_ended_begins_at_its_first_step():
    """A version that was promoted and taken back has all rules to hold again."""
    served = Served()
    for _ in range(3):
        served.ask()
    assert "promoted" == served.canary["state"]

    served.change(config=ServingConfig(default="1"))
    served.ask(5)
    served.change(config=ServingConfig(default="1", canary=RULES))

    assert ("running", 20) == (served.canary["state"], served.canary["percent"])


def test_rules_that_are_edited_after_a_promotion_have_to_hold():
    """A version that was promoted is demoted where it does not hold the new rules."""
    served = Served()
    for _ in range(3):
        served.ask()
    assert "promoted" == served.canary["state"]

    served.calls["2"] = crash
    served.rules(steps=(30, 60))
    served.ask()

    assert "demoted" == served.canary["state"]


def test_another_default_begins_the_step_anew():
    """What was counted beside one default says nothing of another."""
    served = Served(replace(RULES, interval_seconds=10_000))
    served.ask(100)
    assert served.canary["requests"] > 0
    versions = served.model.versions

    served.change(versions=(replace(versions[0], files="new"), versions[1]))

    assert ("running", 0) == (served.canary["state"], served.canary["requests"])


def test_a_canary_that_does_not_answer_waits():
    """Nothing is given to it, and it is said why."""
    served = Served(state=State.FAILED)

    assert 0 == served.ask(20)
    reason = "not ready, the default version itself, or its progress is being read"
    assert ("waiting", reason) == (
        served.canary["state"],
        served.canary["reason"],
    )


@pytest.mark.parametrize(("canary", "state"), [(sums, "promoted"), (crash, "demoted")])
def test_a_rollout_survives_a_restart_where_the_root_can_be_written(tmp_path, canary, state):
    """What was decided stands in a file beside the versions."""
    (tmp_path / "2").mkdir()
    served = Served(canary=canary, root=tmp_path)
    for _ in range(3):
        served.ask()
    reason = served.canary["reason"]

    served.start()

    assert (state, reason) == (served.canary["state"], served.canary["reason"])
    assert {"2"} == read_progress(tmp_path).keys()


def test_a_rollout_under_way_goes_on_after_a_restart(tmp_path):
    """It keeps its step and counts anew."""
    (tmp_path / "2").mkdir()
    served = Served(root=tmp_path)
    served.ask()

    served.start()

    assert ("running", 50, 0) == tuple(
        served.canary[key] for key in ("state", "percent", "requests")
    )


def test_a_rollout_begins_again_where_nothing_can_be_kept():
    """Without a directory to write into a restart begins at the first step."""
    served = Served()
    served.ask()

    served.start()

    assert 20 == served.canary["percent"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"format": "x"}', '{"format": "canary/v1", "versions": {"2": {"step": 1}}}'],
)
def test_a_state_file_that_cannot_be_used_begins_again(tmp_path, text, caplog):
    """It is said in the log, and no request fails for it."""
    (tmp_path / "2").mkdir()
    (tmp_path / STATE_NAME).write_text(text)
    served = Served(root=tmp_path)

    assert 20 == served.canary["percent"]
    assert served.ask() > 0
    assert any("canaries start again" in line for line in caplog.messages)
    assert 50 == served.canary["percent"]


def test_a_directory_that_cannot_be_written_fails_no_request(tmp_path):
    """The state is kept in memory only."""
    (tmp_path / "2").mkdir()
    (tmp_path / STATE_NAME).mkdir()
    served = Served(root=tmp_path)

    served.ask()

    assert 50 == served.canary["percent"]
    assert [STATE_NAME, "2"] == sorted(path.name for path in tmp_path.iterdir())


def test_a_demotion_by_another_replica_is_taken_over(tmp_path, caplog):
    """Whoever shares the directory does not go on with what one of them has sent back."""
    (tmp_path / "2").mkdir()
    served = Served(root=tmp_path)
    served.ask(1)
    write_progress(tmp_path, "2", Progress("files", Phase.DEMOTED, 0, "it failed elsewhere"))

    served.ask()

    assert ("demoted", "it failed elsewhere") == (served.canary["state"], served.canary["reason"])
    assert "demoted by another replica: it failed elsewhere" in caplog.text


class HangingFile:
    """A canary state file whose reads and writes end when the gate opens."""

    def __init__(self, monkeypatch):
        self.gate, self.written = threading.Event(), []
        monkeypatch.setattr(canary_store, "read_progress", self.read)
        monkeypatch.setattr(canary_store, "write_progress", self.write)

    def read(self, root):
        """Find nothing, late."""
        assert self.gate.wait(DEADLINE_SECONDS)
        return {}

    def write(self, root, version, progress):
        """Note what is written, late."""
        assert self.gate.wait(DEADLINE_SECONDS)
        self.written.append((progress.phase, progress.step))
        return progress


def threads_of_canaries():
    """Count the threads that read and write progress."""
    return sum(thread.name == "canary" for thread in threading.enumerate())


def test_while_a_volume_hangs_the_canary_waits_and_the_default_answers(tmp_path, monkeypatch):
    """Nobody waits for what is read of it: one thread does, and then the canary begins."""
    file = HangingFile(monkeypatch)
    served = Served(root=tmp_path, waits=False)

    during = (served.canary["state"], served.ask(50), threads_of_canaries())
    file.gate.set()
    settle()

    assert ("waiting", 0, 1) == during
    assert ("running", 20) == (served.canary["state"], served.canary["percent"])


def test_a_volume_that_hangs_later_keeps_no_request_and_no_step(tmp_path, monkeypatch):
    """The canary goes on in memory, one thread writes, and in the end the newest is written."""
    (tmp_path / "2").mkdir()
    served = Served(root=tmp_path)
    file, served.waits = HangingFile(monkeypatch), False

    for _ in range(3):
        served.ask()
    during = (served.canary["state"], threads_of_canaries())
    file.gate.set()
    settle()

    assert ("promoted", 1) == during
    assert [(Phase.RUNNING, 1), (Phase.PROMOTED, 2)] == file.written


def test_the_state_file_is_json_with_its_format(tmp_path):
    """An operator can read it, and delete it to begin again."""
    (tmp_path / "2").mkdir()
    write_progress(tmp_path, "2", Progress("abc", Phase.RUNNING, 1, "why"))

    document = json.loads((tmp_path / STATE_NAME).read_text())

    assert "canary/v1" == document["format"]
    assert {"files": "abc", "phase": "running", "step": 1, "reason": "why"} == document["versions"][
        "2"
    ]


def test_a_server_compares_and_shows_its_canary():
    """Over HTTP: the copies for min_agreement are made, and metrics and metadata show the state."""
    rules = CanaryRules("2", (50, 100), 0, 5, min_agreement=0.9)
    model = FakeModel(
        "sums",
        (FakeVersion("1"), FakeVersion("2", opposite)),
        config=ServingConfig(default="1", canary=rules),
    )
    with serving(FakeManager(model)) as server, httpx.Client(timeout=DEADLINE_SECONDS) as client:
        deadline = time.monotonic() + DEADLINE_SECONDS
        about, number = {}, 0
        while about.get("state") != "demoted":
            assert time.monotonic() < deadline, about
            number += 1
            client.post(
                f"{server.rest}/v1/models/sums:predict",
                json={"instances": ROWS},
                headers={"X-Routing-Key": f"user-{number}"},
            )
            about = client.get(f"{server.rest}/v2/models/sums").json()["traffic"]["canary"]
        labels = {"model": "sums", "version": "2"}

        assert "min_agreement is 0.9" in about["reason"]
        assert 1 == server.registry.get_sample_value(
            "bundleserver_canary_state", {**labels, "state": "demoted"}
        )
        assert 0 == server.registry.get_sample_value("bundleserver_canary_percent", labels)
