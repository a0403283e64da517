"""Several worker processes' managers: a version answers in all of them or in none."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from bundleserver.manager import Manager
from bundleserver.serving.workers.admission import SharedAdmission
from bundleserver.serving.workers.agreement import Agreement
from bundleserver.versions import VersionPolicy
from bundleserver.versions.lifecycle import State
from tests.end_to_end.processes import eventually
from tests.fakes import DEADLINE_SECONDS, Clock, FakeSource


class FreeToLoad(SharedAdmission):
    """Lets every load begin; ``test_trials`` is about turns."""

    def may_load(self, key):
        return True


class Worker:
    """One manager, what it has said, and the agreement that it takes part in."""

    def __init__(self, number, agreement, *, begins_with=(), manual_orders=None):
        self.number = number
        self.agreement = agreement
        self.source = FakeSource()
        self.clock = Clock()
        self.admission = FreeToLoad(begins_with)
        self.manager = Manager(
            self.source,
            policy=VersionPolicy.parse("latest"),
            open_bundle=self.source.open,
            clock=self.clock,
            load_threads=4,
            retry_pauses_seconds=(5.0,),
            admission=self.admission,
            manual_orders=manual_orders,
        )
        self.said = {}

    def look(self):
        """Poll the source, and start what follows."""
        self.manager.reconcile()

    def say(self):
        """Wait until there is something new to say, and say it."""
        self.said = self.manager.outcomes(self.said, DEADLINE_SECONDS)
        self.report()

    def report(self):
        """Report what has come of the versions."""
        said = self.manager.outcomes()
        opened = frozenset(key for key, why in said.items() if why is None)
        failed = {key: why for key, why in said.items() if why is not None}
        self.agreement.report(self.number, opened, failed)

    def hear(self):
        """Hear what all have."""
        failed = self.agreement.failed_elsewhere(self.number)
        self.admission.agree(self.agreement.agreed, failed)
        self.manager.reconsider()

    def answer(self):
        """Ask for an answer by default, and return the version that gave it."""
        with self.manager.acquire("fraud") as bundle:
            return str(bundle.predict({}, {})["version"][0])

    def answers(self, version):
        """Ask whether a version answers by default."""
        return self.manager.status("fraud").default == version

    def reason(self, version):
        """Return the reason of a version, or the word of its state."""
        versions = {
            v.version: v.reason or v.state.value for v in self.manager.status("fraud").versions
        }
        return versions[version]


@pytest.fixture
def workers():
    """Make two workers that count from the beginning."""
    agreement = Agreement()
    with ExitStack() as made:
        both = [Worker(number, agreement) for number in (1, 2)]
        for worker in both:
            agreement.report(worker.number, frozenset(), {})
            made.callback(worker.manager.close)
        yield both


def publish(workers, label, **how):
    """Publish a version for all workers."""
    for worker in workers:
        worker.source.publish(label, **how)


def serve(workers, label):
    """Publish a version and let all workers answer with it."""
    publish(workers, label)
    for worker in workers:
        worker.look()
        worker.say()
    for worker in workers:
        worker.hear()
    for worker in workers:
        eventually(lambda worker=worker: worker.answers(label), f"{label} answers")


def exchange(workers):
    """Let every worker look, say what it has, and hear what all have."""
    for worker in workers:
        worker.look()
        worker.report()
    for worker in workers:
        worker.hear()
    return True


def test_a_version_answers_in_none_before_all_have_it(workers):
    """What one worker has open waits for the other; then it answers in both."""
    first, second = workers
    publish(workers, "v1")
    first.look()
    first.say()
    first.hear()
    waiting = first.reason("v1"), first.manager.is_ready("fraud")
    second.look()
    second.say()
    for worker in workers:
        worker.hear()

    assert ("WARMING", False) == waiting
    for worker in workers:
        eventually(lambda worker=worker: worker.answers("v1"), "v1 answers")


def test_the_former_default_goes_on_while_a_version_waits(workers):
    """Nothing is unloaded for a version that another worker does not have yet."""
    serve(workers, "v1")
    publish(workers, "v2")
    workers[0].look()
    workers[0].say()
    workers[0].hear()
    workers[0].look()

    assert "v1" == workers[0].answer()
    assert ["v1", "v2"] == workers[0].source.open_labels()


def test_a_version_that_fails_in_one_worker_answers_in_none(workers):
    """It counts as failed everywhere, with the reason, and is closed where it was open."""
    first, second = workers
    serve(workers, "v1")
    first.source.publish("v2")
    second.source.publish("v2", fails_at=State.LOADING, why="no memory is left")
    for worker in workers:
        worker.look()
        worker.say()
    first.hear()

    eventually(lambda: ["v1"] == first.source.open_labels(), "v2 is closed again")
    assert "FAILED in another worker process while LOADING: no memory is left" == first.reason("v2")
    assert ["v1", "v1"] == [worker.answer() for worker in workers]


def test_a_version_that_loads_at_the_second_try_answers_in_all(workers):
    """When the worker in which it failed tries again, the others do so too."""
    first, second = workers
    serve(workers, "v1")
    first.source.publish("v2")
    second.source.publish("v2", fails_at=State.LOADING)
    for worker in workers:
        worker.look()
        worker.say()
    first.hear()
    first.say()
    second.source.mend("v2")
    second.clock.now += 5

    eventually(lambda: exchange(workers) and all(w.answers("v2") for w in workers), "v2 answers")


def test_new_files_of_a_version_answer_in_all_or_none(workers):
    """A version that is published again goes on with its former files until all have the new."""
    first, second = workers
    serve(workers, "v1")
    publish(workers, "v1")
    first.look()
    first.say()
    first.hear()
    waiting = first.reason("v1")
    second.look()
    second.say()
    for worker in workers:
        worker.hear()

    assert "READY (serving the previous files); reload WARMING" == waiting
    for worker in workers:
        eventually(
            lambda worker=worker: (
                "READY" == worker.reason("v1") and len(worker.source.bundles) == 2
            ),
            "the new files answer",
        )


@pytest.mark.parametrize("change", ["publish", "delete"])
def test_what_waits_is_closed_when_it_is_not_there_any_more(workers, change):
    """A version whose files change or go while it waits is closed, and nothing waits for it."""
    first, _ = workers
    publish(workers, "v1")
    first.look()
    first.say()
    getattr(first.source, change)("v1")
    first.look()
    first.hear()

    eventually(lambda: first.source.bundles[0].is_closed, "the former files are closed")


def test_what_waits_is_closed_with_the_manager(workers):
    """The end does not wait for the others."""
    first, _ = workers
    publish(workers, "v1")
    first.look()
    first.say()
    first.manager.close()

    eventually(lambda: [] == first.source.open_labels(), "everything is closed")


def test_a_worker_that_begins_loads_what_the_others_have(workers):
    """It answers with their version, though a newer one is there that waits for them."""
    first, _ = workers
    serve(workers, "v1")
    first.agreement.leave(2)
    late = Worker(2, first.agreement, begins_with=first.agreement.agreed)
    publish([late], "v1")
    publish([first, late], "v2")
    late.look()
    eventually(lambda: late.manager.is_ready("fraud", "v1"), "v1 answers")
    late.say()
    late.hear()
    late.admission.join()

    assert {1, 2} == first.agreement.joined
    assert "v1" == late.answer()
    assert {} == late.manager.manual_orders()
    late.manager.close()


def test_a_worker_that_begins_knows_the_manual_orders(workers):
    """What was manually unloaded stays so in a worker process that begins later."""
    first, _ = workers
    orders = {"fraud": {"unloaded": {"v2": None}, "loaded": ["v1"]}}
    late = Worker(3, first.agreement, manual_orders=orders)
    publish([late], "v1")
    publish([late], "v2")
    late.look()

    late.say()

    assert {"v1"} == {key.version for key, why in late.said.items() if why is None}
    assert "UNLOADED: manually" in late.reason("v2")
    assert ["v1"] == late.manager.manual_orders()["fraud"]["loaded"]
    late.manager.close()


def test_a_process_that_serves_alone_waits_for_nobody():
    """Without others a version answers as soon as it is open."""
    source = FakeSource()
    source.publish("v1")
    manager = Manager(source, open_bundle=source.open)
    manager.reconcile()

    assert manager.is_ready("fraud", "v1")
    manager.close()
