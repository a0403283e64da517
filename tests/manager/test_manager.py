from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from bundleserver.errors import ModelNotFound, NotReady, VersionNotFound
from bundleserver.manager import Manager
from bundleserver.manager.admission import Admission
from bundleserver.manager.loading import WAIT_FOR_MEMBERS_SECONDS
from bundleserver.manager.orders import MOST_SETTLING_SECONDS
from bundleserver.manager.watcher import Watcher
from bundleserver.sources import Listing
from bundleserver.versions import Version, VersionPolicy
from bundleserver.versions.lifecycle import State, SwapPolicy
from tests.fakes import DEADLINE_SECONDS, Clock, FakeSource, Gate


@pytest.fixture
def source():
    """Lend a source with nothing in it."""
    return FakeSource()


@pytest.fixture
def clock():
    """Lend a clock that stands still."""
    return Clock()


@pytest.fixture
def make(source, clock):
    """Lend a maker of managers of that source, for the one model 'fraud'."""

    def make_manager(policy: str = "latest", **settings: object) -> Manager:
        settings = {"model_name": "fraud", "retry_pauses_seconds": (5.0, 15.0)} | settings
        return Manager(
            source,
            policy=VersionPolicy.parse(policy),
            open_bundle=source.open,
            clock=clock,
            **settings,
        )

    return make_manager


@pytest.fixture
def manager(make):
    """Lend a manager that serves the newest version."""
    return make()


@pytest.fixture
def watched():
    """Lend a starter of watchers that are stopped at the end."""
    with ExitStack() as started:

        def watch(manager: Manager, poll_interval_seconds: float = 0.01) -> Watcher:
            watcher = Watcher(manager, poll_interval_seconds)
            watcher.start()
            started.callback(watcher.stop)
            return watcher

        yield watch


def ask(manager: Manager, version: str | None = None, model: str = "fraud") -> str:
    """Ask a model for an answer, and return the version that gave it."""
    with manager.acquire(model, version) as bundle:
        (answer,) = bundle.predict({}, {})["version"]
        assert bundle.version == answer
        return answer


def states(manager: Manager, model: str = "fraud") -> dict[str, str]:
    """Return the state of every version."""
    return {it.version: it.state.value for it in manager.status(model).versions}


def reasons(manager: Manager, model: str = "fraud") -> dict[str, str]:
    """Return the reason of every version."""
    return {it.version: it.reason for it in manager.status(model).versions}


def refusal(manager: Manager, version: str | None = None, model: str = "fraud") -> str:
    """Return why a version does not answer now."""
    with pytest.raises((NotReady, VersionNotFound, ModelNotFound)) as caught:
        ask(manager, version, model)
    return str(caught.value)


def test_the_newest_version_is_served(manager, source):
    """Of the versions that are there, 'latest' loads the newest one only."""
    source.publish("v9")
    source.publish("v10")
    manager.reconcile()

    assert "v10" == ask(manager)
    assert {"v10": "READY", "v9": "DISCOVERED"} == states(manager)
    assert ["fraud v10"] == source.opened


def test_a_new_version_takes_over_and_the_old_one_is_closed(manager, source):
    """The new version answers before the old one is closed, and nothing else stays open."""
    source.publish("v1")
    manager.reconcile()
    source.publish("v2")
    manager.reconcile()

    assert "v2" == ask(manager)
    assert ["v2"] == source.open_labels()
    assert {"v2": "READY", "v1": "UNLOADED"} == states(manager)


def test_a_failed_version_leaves_the_previous_one_serving(manager, source):
    """When version 2 fails its warm-up, requests keep getting version 1, and it is shown why."""
    source.publish("v1")
    manager.reconcile()
    source.publish("v2", fails_at=State.WARMING, why="output 'score' is nan")
    manager.reconcile()

    assert "v1" == ask(manager)
    assert "FAILED while WARMING: output 'score' is nan" == reasons(manager)["v2"]
    assert (
        "'fraud' version v2 is not ready: FAILED while WARMING: output 'score' is nan"
        == refusal(manager, "v2")
    )
    assert {("fraud", State.WARMING): 1} == manager.failures()


@pytest.mark.parametrize("state", [State.FETCHING, State.VERIFYING, State.LOADING, State.WARMING])
def test_at_a_fresh_start_the_newest_that_loads_serves(manager, source, state):
    """A broken newest version is shown as FAILED, and the one before it answers."""
    source.publish("v1")
    source.publish("v2")
    source.publish("v3", fails_at=state)
    manager.reconcile()

    assert "v2" == ask(manager)
    assert {"v3": "FAILED", "v2": "READY", "v1": "DISCOVERED"} == states(manager)


@pytest.mark.parametrize("error", [MemoryError("no room"), RuntimeError("odd"), SystemExit(3)])
def test_an_unexpected_error_fails_the_version_only(manager, source, error):
    """Whatever a framework raises, the version is FAILED and the one before it answers."""
    source.publish("v1")
    source.publish("v2", fails_at=State.LOADING, why=error)
    manager.reconcile()

    assert "v1" == ask(manager)
    assert f"FAILED while LOADING: {type(error).__name__}: {error}" == reasons(manager)["v2"]


def test_a_failed_version_is_retried_with_growing_pauses_and_then_no_more(manager, source, clock):
    """It is tried again after each pause in turn, and left alone when they are used up."""
    source.publish("v1", fails_at=State.LOADING)
    tries = []
    for pause in (0.0, 4.9, 0.1, 14.9, 0.1, 1e6):
        clock.now += pause
        manager.reconcile()
        tries.append(len(source.opened))

    assert [1, 1, 2, 2, 3, 3] == tries


def test_a_failed_version_that_is_mended_by_itself_serves_at_a_retry(manager, source, clock):
    """A passing fault, such as a full memory, ends with a retry."""
    source.publish("v1", fails_at=State.LOADING)
    manager.reconcile()
    source.mend("v1")
    clock.now += 5.0
    manager.reconcile()

    assert "v1" == ask(manager)
    assert {"v1": ""} == reasons(manager)


def test_a_failed_version_is_tried_at_once_when_its_files_change(manager, source):
    """New files under the same name are a new try, without a pause."""
    source.publish("v1", fails_at=State.VERIFYING)
    manager.reconcile()
    source.publish("v1")
    manager.reconcile()

    assert "v1" == ask(manager)


def test_files_that_change_are_not_loaded_before_they_rest(manager, source):
    """A version whose files are still being written waits, and says so."""
    source.publish("v1", settled=False)
    manager.reconcile()
    before = refusal(manager)
    is_waiting = manager.is_settling()
    source.settle("v1")
    manager.reconcile()

    assert "its files are still changing" in before
    assert is_waiting
    assert "v1" == ask(manager)
    assert not manager.is_settling()


def test_a_version_with_a_problem_is_shown_and_not_opened(manager, source, clock):
    """What is wrong on sight is a failure, which ends when the problem does."""
    source.publish("v1")
    source.publish("v2", problem="'x.pkl' is a link to '/etc'")
    manager.reconcile()
    clock.now += 1e6
    manager.reconcile()
    told = reasons(manager)["v2"]
    answered = ask(manager)
    source.publish("v2")
    manager.reconcile()

    assert "FAILED while DISCOVERED: 'x.pkl' is a link to '/etc'" == told
    assert "v1" == answered
    assert "v2" == ask(manager)


def test_a_lent_bundle_is_not_closed_until_it_is_given_back(manager, source):
    """A version that a request holds drains until that request is over."""
    source.publish("v1")
    manager.reconcile()
    with manager.acquire("fraud") as bundle:
        source.publish("v2")
        manager.reconcile()
        during = (bundle.is_closed, states(manager), refusal(manager, "v1"))
        newer = ask(manager)
    manager.reconcile()

    assert (False, {"v2": "READY", "v1": "DRAINING"}) == during[:2]
    assert "DRAINING: waiting for requests in flight: 1" in during[2]
    assert "v2" == newer
    assert bundle.is_closed
    assert {"v2": "READY", "v1": "UNLOADED"} == states(manager)


def test_the_last_lease_wakes_the_watcher(manager, source):
    """Giving the last lease back does not wait for the next poll to close the bundle."""
    source.publish("v1")
    manager.reconcile()
    with manager.acquire("fraud"):
        source.publish("v2")
        manager.reconcile()
        manager.wait_for_work(0)
    manager.wait_for_work(DEADLINE_SECONDS)
    manager.reconcile()

    assert ["v2"] == source.open_labels()


def test_a_lease_is_given_back_when_the_request_fails(manager, source):
    """An error inside the block leaves no lease behind."""
    source.publish("v1")
    manager.reconcile()
    with pytest.raises(ZeroDivisionError), manager.acquire("fraud"):
        raise ZeroDivisionError

    assert 0 == manager.status("fraud").versions[0].in_flight


def test_a_version_that_drains_is_lent_again_when_it_is_wanted_again(manager, source):
    """A rollback to a version that is still open loads nothing."""
    source.publish("v1")
    manager.reconcile()
    with manager.acquire("fraud") as bundle:
        source.publish("v2")
        manager.reconcile()
        source.configure('{"default": "v1"}')
        manager.reconcile()
        answered = ask(manager)
    manager.reconcile()

    assert "v1" == answered
    assert not bundle.is_closed
    assert ["fraud v1", "fraud v2"] == source.opened


def test_a_version_replaced_in_place_is_loaded_anew(manager, source, caplog):
    """Other files under the same name are loaded, ready before the former ones are closed."""
    caplog.set_level(logging.INFO)
    source.publish("v1")
    manager.reconcile()
    source.publish("v1")
    manager.reconcile()
    first, second = source.bundles

    assert first.is_closed
    assert not second.is_closed
    assert "v1" == ask(manager)
    assert any(
        "fraud v1: ready in 0.0 s, replaces its previous files" in m for m in caplog.messages
    )


def test_a_version_replaced_in_place_by_a_broken_one_goes_on(manager, source, clock):
    """When the new files under a name fail, the former ones answer on, and the reason says so."""
    source.publish("v1")
    manager.reconcile()
    source.publish("v1", fails_at=State.VERIFYING, why="sha256 differs")
    manager.reconcile()
    tries = len(source.opened)
    manager.reconcile()
    clock.now += 5.0
    manager.reconcile()

    assert "v1" == ask(manager)
    assert {"v1": "READY"} == states(manager)
    assert (
        "READY (serving the previous files); reload FAILED while VERIFYING: sha256 differs"
        == reasons(manager)["v1"]
    )
    assert (2, 3) == (tries, len(source.opened))


@pytest.mark.parametrize(
    "harm",
    [
        lambda source: source.delete("v1"),
        lambda source: source.delete_model("fraud"),
        lambda source: setattr(source, "error", "'/models' does not exist any more"),
        lambda source: source.publish("v1", problem="permission denied"),
        lambda source: source.publish("v1", settled=False),
    ],
    ids=["empty listing", "no listing", "outage", "unreadable", "being rewritten"],
)
def test_the_last_version_that_answers_survives(manager, source, harm):
    """No outage and no empty listing takes away the last version that answers."""
    source.publish("v1")
    manager.reconcile()
    harm(source)
    manager.reconcile()
    manager.reconcile()

    assert "v1" == ask(manager)
    assert manager.is_server_ready()


def test_a_root_that_comes_back_changes_nothing(manager, source):
    """After an outage the same files are not loaded again."""
    source.publish("v1")
    manager.reconcile()
    source.error = "'/models' does not exist any more"
    manager.reconcile()
    during = manager.last_poll_error
    source.error = None
    manager.reconcile()

    assert "'/models' does not exist any more" == during
    assert manager.last_poll_error is None
    assert ["fraud v1"] == source.opened


def test_a_deleted_version_goes_when_another_one_answers(manager, source):
    """A version that is deleted on purpose is unloaded once a listed one answers."""
    source.publish("v1")
    source.publish("v2")
    manager.reconcile()
    source.delete("v2")
    manager.reconcile()

    assert "v1" == ask(manager)
    assert ["v1"] == source.open_labels()
    assert "model 'fraud' has no version or label 'v2': versions: 'v1'" == refusal(manager, "v2")


def test_nothing_there_is_not_ready_and_says_what_it_waits_for(manager, source):
    """A model that was asked for is known before it is there; the reason says what is awaited."""
    before = refusal(manager)
    source.list_as(Listing("fraud", reason="waiting for '/mnt/models', which does not exist yet"))
    manager.reconcile()

    assert "model 'fraud' is not ready: waiting for the first poll of the model source" == before
    assert refusal(manager).endswith("waiting for '/mnt/models', which does not exist yet")
    assert not manager.is_server_ready()


def test_an_outage_at_the_start_is_the_reason(manager, source):
    """While the source cannot be read at all, its error is what readiness says."""
    source.error = "'/mnt/models' cannot be read: Stale file handle"
    manager.reconcile()

    assert refusal(manager).endswith("'/mnt/models' cannot be read: Stale file handle")


def test_an_outage_is_logged_once(manager, source, caplog):
    """An error that stays the same is one line in the log, and its end another."""
    caplog.set_level(logging.INFO)
    source.error = "'/mnt/models' cannot be read: Stale file handle"
    for _ in range(3):
        manager.reconcile()
    source.error = None
    manager.reconcile()

    assert 1 == sum("Stale file handle" in message for message in caplog.messages)
    assert "the model source can be read again" in caplog.messages


def test_unknown_names_are_not_found(manager, source):
    """Unknown models, versions and labels are not found, and the error lists what is there."""
    source.publish("v1")
    manager.reconcile()

    assert "model 'nosuch' is not served here; served: 'fraud'" == refusal(manager, None, "nosuch")
    assert "model 'fraud' has no version or label 'v7': versions: 'v1'" == refusal(manager, "v7")
    assert "has no version or label 'stable'" in refusal(manager, "stable")


def test_a_version_that_the_policy_does_not_want_is_not_found_and_says_so(manager, source):
    """A version on disk that is not wanted is not found, and the error names the policy."""
    source.publish("v1")
    source.publish("v2")
    source.list_as(Listing("fraud", unseen=(Version("v0"),)))
    manager.reconcile()

    for version in ("v1", "v0"):
        with pytest.raises(VersionNotFound, match="not selected by the policy 'latest'"):
            ask(manager, version)


@pytest.mark.parametrize(
    ("policy", "opened"),
    [
        ("latest", ["v3"]),
        ("latest:2", ["v3", "v2"]),
        ("all", ["v3", "v2", "v1"]),
        ("specific:v1,v3", ["v3", "v1"]),
    ],
)
def test_policies_open_what_they_want(make, source, policy, opened):
    """Each policy opens its versions, and the newest of them answers by default."""
    for label in ("v1", "v2", "v3"):
        source.publish(label)
    manager = make(policy)
    manager.reconcile()

    assert opened == source.open_labels()
    assert "v3" == ask(manager)
    assert opened == [ask(manager, label) for label in opened]


def test_resource_preserving_unloads_before_it_loads(make, source):
    """With 'resource' no two bundles are ever open at once, and a lease delays the new one."""
    manager = make(swap=SwapPolicy.RESOURCE)
    source.publish("v1")
    manager.reconcile()
    with manager.acquire("fraud"):
        source.publish("v2")
        manager.reconcile()
        during = source.open_labels()
    manager.reconcile()

    assert ["v1"] == during
    assert ["v2"] == source.open_labels()
    assert "v2" == ask(manager)


def test_resource_preserving_goes_back_when_the_new_one_fails(make, source):
    """With 'resource' a broken newest version is answered by loading the one before again."""
    manager = make(swap=SwapPolicy.RESOURCE)
    source.publish("v1")
    manager.reconcile()
    source.publish("v2", fails_at=State.LOADING)
    manager.reconcile()

    assert "v1" == ask(manager)
    assert ["fraud v1", "fraud v2", "fraud v1"] == source.opened


def test_labels_and_default_take_effect_without_a_load(make, source):
    """A label moves and a default changes within one look, and no bundle is opened for it."""
    manager = make("all")
    source.publish("v1")
    source.publish("v2")
    manager.reconcile()
    source.configure('{"labels": {"stable": "v1"}, "default": "stable"}')
    manager.reconcile()
    first = (ask(manager), ask(manager, "stable"))
    source.configure('{"labels": {"stable": "v2"}}')
    manager.reconcile()

    assert ("v1", "v1") == first
    assert ("v2", "v2") == (ask(manager), ask(manager, "stable"))
    assert {"stable": "v2"} == manager.status("fraud").labels
    assert ["fraud v2", "fraud v1"] == source.opened


def test_versions_that_serving_json_names_are_loaded_before_it_takes_effect(manager, source):
    """A default outside of the policy is loaded, and the former one answers until it is ready."""
    source.publish("v1")
    source.publish("v2")
    manager.reconcile()
    source.configure('{"default": "v1", "labels": {"canary": "v2"}}')
    manager.reconcile()

    assert "v1" == ask(manager)
    assert "v2" == ask(manager, "canary")
    assert manager.status("fraud").config_problem is None


def test_a_version_that_serving_json_waits_for_is_no_problem(source, clock, caplog):
    """While the version of a roll-back is loaded, that is told, and nobody is warned."""
    caplog.set_level(logging.INFO)
    problems: list[str | None] = []

    def watch(candidate, enter):
        problems.append(manager.status("fraud").config_problem)
        return source.open(candidate, enter)

    manager = Manager(source, model_name="fraud", open_bundle=watch, clock=clock)
    source.publish("v1")
    source.publish("v2")
    manager.reconcile()
    source.configure('{"default": "v1"}')
    manager.reconcile()

    assert "v1" == ask(manager)
    assert ["fraud v2", "fraud v1"] == source.opened
    assert [None, None] == problems
    assert "fraud: serving.json takes effect once 'v1' is ready" in caplog.messages
    assert [] == [record for record in caplog.records if record.levelno > logging.INFO]


def test_a_version_that_was_unloaded_by_hand_is_named_in_vain(manager, source, watched):
    """A configuration does not bring back what somebody took away, and says so."""
    source.publish("v1")
    source.publish("v2")
    watcher = watched(manager)
    manager.load("fraud", timeout_seconds=DEADLINE_SECONDS)
    manager.unload("fraud", "v1", timeout_seconds=DEADLINE_SECONDS)
    watcher.stop()
    source.configure('{"default": "v1"}')
    manager.reconcile()

    assert "v2" == ask(manager)
    assert (
        "serving.json refers to 'v1', which is not ready" in manager.status("fraud").config_problem
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"default": "v9"}', "serving.json refers to unknown version 'v9'"),
        ('{"policy": "specific:v9"}', "serving.json refers to unknown version 'v9'"),
        ('{"labels": {"stable": "v9"}}', "serving.json refers to unknown version 'v9'"),
        ('{"traffic": {"v1": 90, "v9": 10}}', "serving.json refers to unknown version 'v9'"),
        ('{"default": "v2"}', "serving.json refers to 'v2', which FAILED while LOADING"),
    ],
)
def test_a_wrong_serving_json_is_reported_and_the_last_good_one_goes_on(
    manager, source, caplog, text, says
):
    """Naming what is not there or does not load changes nothing, and is shown and logged once."""
    source.publish("v1")
    source.publish("v2", fails_at=State.LOADING)
    source.configure('{"default": "v1", "labels": {"stable": "v1"}}')
    manager.reconcile()
    source.configure(text)
    for _ in range(3):
        manager.reconcile()
    problem = manager.status("fraud").config_problem

    assert says in problem
    assert problem.endswith("keeping the last valid configuration")
    assert ("v1", "v1") == (ask(manager), ask(manager, "stable"))
    assert 1 == sum(says in message for message in caplog.messages)


def test_a_policy_that_waits_for_a_broken_version_takes_nothing_away(make, source):
    """While a new 'serving.json' cannot take effect, the former policy keeps what it wants."""
    manager = make("latest:2")
    for label in ("v2", "v3"):
        source.publish(label)
    source.publish("v1", fails_at=State.LOADING)
    source.configure('{"default": "v2"}')
    manager.reconcile()
    source.configure('{"policy": "specific:v1"}')
    manager.reconcile()
    source.publish("v4")
    manager.reconcile()
    during = [ask(manager, label) for label in (None, "v3", "v4")]
    source.publish("v1")
    manager.reconcile()

    assert ["v2", "v3", "v4"] == during
    assert "v1" == ask(manager)
    assert ["v1"] == source.open_labels()


def test_a_broken_serving_json_is_reported_and_mended(manager, source):
    """A file that cannot be read leaves the last good one in effect until it can."""
    source.publish("v1")
    source.publish("v2")
    source.configure('{"default": "v1"}')
    manager.reconcile()
    source.list_as(Listing("fraud", config_problem="serving.json: is no JSON"))
    manager.reconcile()
    broken = (manager.status("fraud").config_problem, ask(manager))
    source.configure(None)
    manager.reconcile()

    assert ("serving.json: is no JSON; keeping the last valid configuration", "v1") == broken
    assert manager.status("fraud").config_problem is None
    assert "v2" == ask(manager)


def test_at_a_fresh_start_the_default_of_serving_json_is_loaded_first(manager, source):
    """After a restart a pinned default answers, and never the version it was rolled back from."""
    for label in ("v1", "v2", "v3"):
        source.publish(label)
    source.configure('{"default": "v1"}')
    manager.reconcile()

    assert "fraud v1" == source.opened[0]
    assert "v1" == ask(manager)


def test_at_a_fresh_start_a_default_that_fails_does_not_silence_the_model(manager, source):
    """When the pinned default cannot load and nothing answers, the newest that loads does."""
    source.publish("v1", fails_at=State.LOADING)
    source.publish("v2")
    source.configure('{"default": "v1"}')
    manager.reconcile()

    assert "v2" == ask(manager)
    assert "refers to 'v1', which FAILED while LOADING" in manager.status("fraud").config_problem


def test_an_empty_listing_leaves_the_configuration_alone(make, source):
    """A volume that has gone empty takes neither the versions nor the default away."""
    manager = make("all")
    source.publish("v1")
    source.publish("v2")
    source.configure('{"default": "v1"}')
    manager.reconcile()
    source.delete("v1")
    source.delete("v2")
    source.configure(None)
    manager.reconcile()

    assert "v1" == ask(manager)
    assert "v2" == ask(manager, "v2")


def test_status_shows_what_is_known(make, source):
    """A status names default, labels, policy, and each version with state, times and metadata."""
    manager = make("latest:2")
    source.publish("v1")
    source.publish("v2")
    source.configure('{"labels": {"stable": "v1"}}')
    manager.reconcile()
    with manager.acquire("fraud", "stable"):
        status = manager.status("fraud")
    newest, oldest = status.versions

    assert ("fraud", "v2", {"stable": "v1"}) == (status.name, status.default, status.labels)
    assert ("", None, "latest:2") == (status.reason, status.config_problem, status.policy)
    assert ("v2", State.READY, True, 0) == (
        newest.version,
        newest.state,
        newest.wanted,
        newest.in_flight,
    )
    assert ("v1", 1, 0.0) == (oldest.version, oldest.in_flight, oldest.load_seconds)
    assert {"digest": "digest of v1"} == oldest.metadata
    assert newest.loaded_at >= oldest.loaded_at - 1 > 0


@pytest.mark.parametrize(
    ("broken", "strict", "ready"),
    [([], False, True), (["churn"], False, True), (["churn"], True, False)],
)
def test_a_server_of_several_models(make, source, broken, strict, ready):
    """Each model answers or has failed and one answers; strict readiness asks for all."""
    manager = make(model_name=None, strict_readiness=strict)
    before = manager.is_server_ready()
    for model in ("churn", "fraud"):
        source.publish("v1", model, fails_at=State.LOADING if model in broken else None)
    manager.reconcile()

    assert not before
    assert ready == manager.is_server_ready()
    assert ("churn", "fraud") == manager.models()


def test_a_server_of_several_models_is_ready_when_none_is_pending(make, source):
    """A model that is still being copied keeps the server from being ready."""
    manager = make(model_name=None)
    source.publish("v1", "churn", settled=False)
    source.publish("v1", "fraud")
    manager.reconcile()
    before = manager.is_server_ready()
    source.settle("v1", "churn")
    manager.reconcile()

    assert not before
    assert manager.is_server_ready()


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("how", [{"settled": False}, {"fails_at": State.LOADING}])
def test_what_comes_later_never_makes_a_ready_server_unready(make, source, how, strict):
    """An upload, a load or a broken model beside what answers; what it had then still counts."""
    manager = make(model_name=None, strict_readiness=strict)
    source.publish("v1", "prices")
    source.publish("v1", "stock")
    manager.reconcile()
    source.publish("v1", "weather", **how)
    manager.reconcile()
    later = manager.is_server_ready()
    source.delete_model("stock")
    manager.reconcile()

    assert later
    assert manager.is_server_ready()


def test_a_model_that_was_there_before_still_counts_once_it_answers_no_more(make, source):
    """Strictly, a server is unready without one of its first models, and whatever came later."""
    manager = make(model_name=None, strict_readiness=True)
    source.publish("v1", "prices")
    source.publish("v1", "stock")
    manager.reconcile()
    source.publish("v1", "weather")
    manager.reconcile()
    before = manager.is_server_ready()
    manager._shared.models["stock"].manual.unload(Version("v1"), None)
    manager.reconcile(poll=False)

    assert before
    assert not manager.is_server_ready()


def test_a_process_that_joins_others_counts_what_they_serve(make, source):
    """A worker process that takes the place of another is not held up by what is uploaded."""

    class Joining(Admission):
        served = ("prices",)

    manager = make(model_name=None, admission=Joining())
    source.publish("v1", "prices")
    source.publish("v1", "weather", settled=False)
    before = manager.is_server_ready()
    manager.reconcile()

    assert not before
    assert manager.is_server_ready()


def test_a_model_that_goes_away_is_forgotten_unless_it_answers(make, source):
    """A model whose directory is gone is not known any more; one that answers goes on."""
    manager = make(model_name=None)
    source.publish("v1", "churn", fails_at=State.LOADING)
    source.publish("v1", "fraud")
    manager.reconcile()
    source.delete_model("churn")
    source.delete_model("fraud")
    manager.reconcile()

    assert ("fraud",) == manager.models()
    assert "v1" == ask(manager)


def test_a_model_that_waits_for_another_is_tried_for_as_long_as_it_takes(make, source, clock):
    """A member model that is not ready yet is waited for, beyond the pauses for failures."""
    manager = make(model_name=None)
    missing = NotReady("model 'member'", "LOADING")
    source.publish("v1", "ensemble", fails_at=State.WARMING, why=missing)
    for _ in range(10):
        manager.reconcile()
        clock.now += WAIT_FOR_MEMBERS_SECONDS[-1]
    source.mend("v1", "ensemble")
    manager.reconcile()

    assert "v1" == ask(manager, None, "ensemble")


def test_load_by_hand_of_an_unwanted_version_keeps_it(manager, source, watched):
    """A version that the policy does not want answers once it is loaded by hand, and stays."""
    source.publish("v1")
    source.publish("v2")
    watched(manager)
    manager.load("fraud", "v1", timeout_seconds=DEADLINE_SECONDS)
    source.publish("v3")
    manager.load("fraud", "v3", timeout_seconds=DEADLINE_SECONDS)

    assert "v1" == ask(manager, "v1")
    assert "v3" == ask(manager)


def test_load_by_hand_waits_for_files_to_rest(manager, source, watched):
    """A load of a version that is still being copied ends when it answers."""
    source.publish("v1", settled=False)
    watched(manager)
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(manager.load, "fraud", None, DEADLINE_SECONDS)
        source.settle("v1")
        load.result(DEADLINE_SECONDS)

    assert "v1" == ask(manager)


@pytest.mark.parametrize("version", [None, "v2"])
@pytest.mark.parametrize("is_changed_again", [False, True])
def test_load_by_hand_does_not_wait_for_ever_for_files_that_keep_changing(
    make, source, watched, clock, version, is_changed_again
):
    """Who asks is told that they do, in time; what serves goes on, and rest ends it."""
    manager = make()
    label = version or "v1"
    if version is not None:
        source.publish("v1")
        manager.reconcile()
    if is_changed_again and version is not None:
        source.publish(label)
        manager.reconcile()
    source.publish(label, settled=False)
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(manager.load, "fraud", version, DEADLINE_SECONDS)
        while not load.done():
            source.publish(label, settled=False)
            clock.now += MOST_SETTLING_SECONDS / 10
            manager.reconcile()
        error = load.exception()

    assert f"'fraud' version {label} is not ready: its files keep changing" in str(error)
    reasons = {it.version: it.reason for it in manager.status("fraud").versions}
    assert "its files are still changing" in reasons[label]
    if is_changed_again and version is not None:
        assert "READY (serving the previous files); reload waits" in reasons[label]
    source.settle(label)
    watched(manager)
    manager.load("fraud", version, timeout_seconds=DEADLINE_SECONDS)
    assert label == ask(manager, label)


def test_load_by_hand_tells_why_not(manager, source, watched):
    """A load that fails raises the reason, and a second one tries again without a pause."""
    source.publish("v1", fails_at=State.LOADING)
    watched(manager)
    for version in (None, "v1"):
        with pytest.raises(NotReady, match="FAILED while LOADING: its file is broken"):
            manager.load("fraud", version, timeout_seconds=DEADLINE_SECONDS)
    tried = len(source.opened)
    source.mend("v1")
    manager.load("fraud", "v1", timeout_seconds=DEADLINE_SECONDS)

    assert tried >= 2
    assert "v1" == ask(manager)


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_orders_for_what_is_unknown_are_not_found(manager, source, watched, verb):
    """Loading or unloading an unknown model, version or label is refused at the next look."""
    source.publish("v1")
    watched(manager)
    order = getattr(manager, verb)

    with pytest.raises(ModelNotFound):
        order("nosuch", timeout_seconds=DEADLINE_SECONDS)
    for version in ("v9", "stable"):
        with pytest.raises(VersionNotFound):
            order("fraud", version, timeout_seconds=DEADLINE_SECONDS)


def test_a_load_that_takes_too_long_is_told_and_goes_on(manager, source, watched):
    """When the caller's time is over it is told where the load stands, and the load goes on."""
    gate = Gate()
    source.publish("v1", gate=gate)
    watched(manager)
    gate.wait_until_reached()
    with pytest.raises(NotReady, match="version v1 is LOADING; the load has not finished"):
        manager.load("fraud", "v1", timeout_seconds=0.01)
    gate.open()
    manager.load("fraud", "v1", timeout_seconds=DEADLINE_SECONDS)

    assert "v1" == ask(manager)


def test_what_was_unloaded_by_hand_stays_so_until_it_is_asked_for(manager, source, watched):
    """An unloaded model stays silent over any number of looks, and a load brings it back."""
    source.publish("v1")
    source.publish("v2")
    watcher = watched(manager)
    manager.load("fraud", timeout_seconds=DEADLINE_SECONDS)
    manager.unload("fraud", timeout_seconds=DEADLINE_SECONDS)
    watcher.stop()
    for _ in range(3):
        manager.reconcile()
    silent = (source.open_labels(), refusal(manager), refusal(manager, "v2"))
    watched(manager)
    manager.load("fraud", timeout_seconds=DEADLINE_SECONDS)

    assert [] == silent[0]
    assert all("UNLOADED: manually" in reason for reason in silent[1:])
    assert "v2" == ask(manager)


@pytest.mark.parametrize("label", ["v1", "v2"])
def test_what_was_unloaded_by_hand_comes_back_when_it_is_published_again(
    manager, source, watched, label
):
    """New files under the old name, or a new version, are loaded as ever."""
    source.publish("v1")
    watched(manager)
    manager.load("fraud", timeout_seconds=DEADLINE_SECONDS)
    manager.unload("fraud", timeout_seconds=DEADLINE_SECONDS)
    source.publish(label)
    manager.load("fraud", label, timeout_seconds=DEADLINE_SECONDS)

    assert label == ask(manager)


def test_published_again_needs_no_order(manager, source, watched):
    """A version held by hand is loaded by the next look after it is published again."""
    source.publish("v1")
    watcher = watched(manager)
    manager.load("fraud", timeout_seconds=DEADLINE_SECONDS)
    manager.unload("fraud", timeout_seconds=DEADLINE_SECONDS)
    watcher.stop()
    source.publish("v1")
    manager.reconcile()

    assert "v1" == ask(manager)


def test_unloading_the_newest_by_hand_brings_the_one_before(manager, source, watched):
    """One version unloaded by hand leaves its place to the next older one, without a gap."""
    source.publish("v1")
    source.publish("v2")
    watched(manager)
    manager.load("fraud", timeout_seconds=DEADLINE_SECONDS)
    manager.unload("fraud", "v2", timeout_seconds=DEADLINE_SECONDS)

    assert "v1" == ask(manager)
    assert ["v1"] == source.open_labels()
    assert "UNLOADED: manually" in refusal(manager, "v2")


def test_unload_by_hand_waits_for_the_requests_that_hold_it(manager, source, watched):
    """An unload is over when the last lease is back, and says who is waited for when it is late."""
    source.publish("v1")
    watched(manager)
    manager.load("fraud", timeout_seconds=DEADLINE_SECONDS)
    with manager.acquire("fraud") as bundle:
        with pytest.raises(NotReady, match="waiting for requests in flight: 1"):
            manager.unload("fraud", "v1", timeout_seconds=0.1)
        during = bundle.is_closed
    manager.unload("fraud", "v1", timeout_seconds=DEADLINE_SECONDS)

    assert not during
    assert bundle.is_closed


def test_unload_by_hand_during_the_load(manager, source, watched):
    """A version that is ordered away while it loads is closed as soon as it is up."""
    gate = Gate()
    source.publish("v1", gate=gate)
    watched(manager)
    gate.wait_until_reached()
    with ThreadPoolExecutor(1) as pool:
        unload = pool.submit(manager.unload, "fraud", "v1", DEADLINE_SECONDS)
        gate.open()
        unload.result(DEADLINE_SECONDS)

    assert [] == source.open_labels()
    assert "UNLOADED: manually" in refusal(manager)


def test_others_answer_while_a_load_hangs(make, source, watched):
    """A version that takes long to load holds up no request, no status and no readiness."""
    manager = make(model_name=None)
    gate = Gate()
    source.publish("v1", "fraud")
    manager.reconcile()
    source.publish("v2", "fraud", gate=gate)
    watched(manager)
    gate.wait_until_reached()
    answered = [ask(manager) for _ in range(100)]
    during = (states(manager), refusal(manager, "v2"), manager.is_server_ready())
    gate.open()
    manager.load("fraud", "v2", timeout_seconds=DEADLINE_SECONDS)

    assert ["v1"] * 100 == answered
    assert ({"v2": "LOADING", "v1": "READY"}, True) == (during[0], during[2])
    assert "'fraud' version v2 is not ready: LOADING" == during[1]
    assert "v2" == ask(manager)


def test_no_request_is_lost_over_many_swaps(make, source, watched):
    """Eight clients get answers from open bundles all through 20 swaps, 5 of them broken."""
    manager = make(retry_pauses_seconds=())
    source.publish("v1")
    manager.reconcile()
    is_over = threading.Event()

    def client() -> set[str]:
        answers = set()
        while not is_over.is_set():
            answers.add(ask(manager))
        return answers

    watched(manager, 0.001)
    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(client) for _ in range(8)]
        try:
            for number in range(2, 22):
                broken = number % 4 == 0
                source.publish(f"v{number}", fails_at=State.LOADING if broken else None)
                if broken:
                    with pytest.raises(NotReady):
                        manager.load("fraud", f"v{number}", DEADLINE_SECONDS)
                else:
                    manager.load("fraud", f"v{number}", DEADLINE_SECONDS)
            source.configure('{"default": "v2"}')
            manager.load("fraud", "v2", DEADLINE_SECONDS)
        finally:
            is_over.set()
        answers = set().union(*(it.result(DEADLINE_SECONDS) for it in clients))
    manager.close(DEADLINE_SECONDS)

    assert answers
    assert not answers & {f"v{number}" for number in range(4, 22, 4)}
    assert [] == source.open_labels()


def test_close_waits_for_leases_and_closes_all(make, source):
    """Closing refuses new requests, waits for those that run, and leaves nothing open."""
    manager = make("all")
    source.publish("v1")
    source.publish("v2")
    manager.reconcile()
    with ThreadPoolExecutor(1) as pool:
        with manager.acquire("fraud", "v1") as bundle:
            closing = pool.submit(manager.close, DEADLINE_SECONDS)
            while manager.is_ready("fraud"):
                pass
            during = (refusal(manager, "v1"), bundle.is_closed, manager.is_server_ready())
        closing.result(DEADLINE_SECONDS)

    assert ("model 'fraud' is not ready: the server is shutting down", False, False) == during
    assert [] == source.open_labels()


def test_close_leaves_a_bundle_that_is_still_held(manager, source, caplog):
    """When the time is over a held bundle is left open, and the log says how many hold one."""
    source.publish("v1")
    manager.reconcile()
    with manager.acquire("fraud") as bundle:
        manager.close(timeout_seconds=0.01)
        during = bundle.is_closed
    manager.close(timeout_seconds=0.01)

    assert not during
    assert bundle.is_closed
    assert "1 requests are still in flight after 0.01 s" in caplog.text


def test_close_during_a_load_keeps_nothing_open(manager, source, watched):
    """A version that comes up after the end is closed at once."""
    gate = Gate()
    source.publish("v1", gate=gate)
    watcher = watched(manager)
    gate.wait_until_reached()
    manager.close(timeout_seconds=0.01)
    gate.open()
    watcher.stop(DEADLINE_SECONDS)

    assert ["v1"] == [bundle.version for bundle in source.bundles]
    assert [] == source.open_labels()


def test_orders_end_with_the_manager(manager, source, watched):
    """Whoever waits for a load is told that the server shuts down; no new order is taken."""
    gate = Gate()
    source.publish("v1", gate=gate)
    watched(manager)
    gate.wait_until_reached()
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(manager.load, "fraud", "v1", DEADLINE_SECONDS)
        manager.close(timeout_seconds=0.01)
        with pytest.raises(NotReady, match="shutting down"):
            load.result(DEADLINE_SECONDS)
        gate.open()

    with pytest.raises(NotReady, match="shutting down"):
        manager.load("fraud", timeout_seconds=DEADLINE_SECONDS)


def test_the_log_tells_the_life_of_a_version(manager, source, caplog):
    """Each change of state is one line: identity first, then the state's own word."""
    caplog.set_level(logging.INFO)
    source.publish("6")
    manager.reconcile()
    source.publish("7")
    manager.reconcile()
    source.publish("8", fails_at=State.VERIFYING, why="model.pkl is missing")
    manager.reconcile()

    assert [
        "fraud 6: fetching",
        "fraud 6: verifying",
        "fraud 6: loading",
        "fraud 6: warming",
        "fraud 6: ready in 0.0 s",
        "fraud 7: fetching",
        "fraud 7: verifying",
        "fraud 7: loading",
        "fraud 7: warming",
        "fraud 7: ready in 0.0 s, replaces 6",
        "fraud 6: draining",
        "fraud 6: unloaded",
        "fraud 8: fetching",
        "fraud 8: verifying",
        "fraud 8: failed while verifying: model.pkl is missing; kept 7",
    ] == caplog.messages
    assert logging.ERROR == caplog.records[-1].levelno


def test_warnings_of_the_source_are_logged_once(manager, source, caplog):
    """What somebody should mend is said when it is new, not at every look."""
    source.publish("v1")
    source.list_as(Listing("fraud", warnings=("versions '2' and 'v2' order alike",)))
    for _ in range(3):
        manager.reconcile()

    warned = [it.getMessage() for it in caplog.records if it.levelno >= logging.WARNING]
    assert ["fraud: versions '2' and 'v2' order alike"] == warned


def test_demand_reaches_beyond_what_failed_and_names_what_matters(make, source):
    """The source is asked to look at a further version per failure, and at all that is open."""
    asked = []
    manager = make("latest:2")
    for label in ("v1", "v2"):
        source.publish(label)
    source.publish("v3", fails_at=State.LOADING)
    source.list_as(Listing("fraud", unseen=(Version("v0"),)))
    discover = source.discover
    source.discover = lambda demand_of: asked.append(demand_of("fraud")) or discover(demand_of)
    manager.reconcile()

    assert (2, 0, frozenset()) == (asked[0].policy.count, asked[0].further, asked[0].versions)
    assert [0, 1] == [demand.further for demand in asked]
    assert {Version("v1"), Version("v2"), Version("v3")} == asked[-1].versions
