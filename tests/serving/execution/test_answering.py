"""ServedModels: requests answered and models loaded, off the event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from bundleserver.errors import ModelNotFound, NotReady, VersionNotFound
from bundleserver.serving.execution.answering import ServedModels
from bundleserver.serving.requests import PredictRequest
from bundleserver.versions.lifecycle import State
from tests.serving.fakes import DEADLINE_SECONDS, FakeManager, FakeModel, all_versions

LOADING = FakeModel("loading", all_versions([("1", State.LOADING, "")]))
BROKEN = FakeModel("broken", all_versions([("1", State.FAILED, "sha256 differs")]))


@pytest.fixture
def manager():
    """Make a manager with one model of each kind."""
    return FakeManager(FakeModel("sums"), LOADING, BROKEN)


@pytest.fixture
def served(manager):
    """Serve its models."""
    return ServedModels(manager)


def test_load_and_unload_move_the_manager(served, manager):
    """A model that is unloaded does not answer until it is loaded."""
    asyncio.run(served.unload("sums"))
    unloaded = manager.is_ready("sums")
    asyncio.run(served.load("sums"))

    assert (False, True) == (unloaded, manager.is_ready("sums"))


@pytest.mark.parametrize(
    ("name", "version", "error"),
    [("nope", None, ModelNotFound), ("sums", "9", VersionNotFound), ("broken", None, NotReady)],
)
def test_load_raises_the_managers_reason(served, name, version, error):
    """A load that cannot be done says why."""
    with pytest.raises(error):
        asyncio.run(served.load(name, version))


def test_a_load_leaves_the_event_loop_free():
    """Other tasks run while a load waits."""
    gate = threading.Event()

    class Slow(FakeManager):
        def load(self, model, version=None, *, timeout_seconds):
            assert gate.wait(DEADLINE_SECONDS)

    async def both():
        loading = asyncio.create_task(ServedModels(Slow(LOADING)).load("loading"))
        await asyncio.wait({loading}, timeout=0)
        gate.set()
        return await loading

    assert asyncio.run(both())


def test_answer_finds_the_model(served):
    """A request goes to the model that it names."""
    response = asyncio.run(served.answer(PredictRequest("sums", rows=[[1.0, 2.0]])))

    assert [3.0] == response.outputs["sum"].tolist()


def test_answer_for_an_unknown_model_names_those_served(served):
    """A request for a model that is not there says which are."""
    with pytest.raises(ModelNotFound, match="'nope' is not served here; served: 'sums', 'loading'"):
        asyncio.run(served.answer(PredictRequest("nope", rows=[[1.0, 2.0]])))
