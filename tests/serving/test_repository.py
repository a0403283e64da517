"""BundleRepository: the manager's models as kserve asks for them."""

from __future__ import annotations

import asyncio
import threading

import pytest
from kserve.errors import ModelNotFound as KServeModelNotFound
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension

from bundleserver.errors import ModelNotFound, NotReady, VersionNotFound
from bundleserver.lifecycle import State
from bundleserver.serving.repository import BundleRepository
from bundleserver.serving.requests import PredictRequest
from tests.serving.fakes import DEADLINE_SECONDS, FakeManager, FakeModel, all_versions

LOADING = FakeModel("loading", all_versions([("1", State.LOADING, "")]))
BROKEN = FakeModel("broken", all_versions([("1", State.FAILED, "sha256 differs")]))


@pytest.fixture
def manager():
    """Make a manager with one model of each kind."""
    return FakeManager(FakeModel("sums"), LOADING, BROKEN)


@pytest.fixture
def repository(manager):
    """Make a repository over it."""
    return BundleRepository(manager)


def test_models_are_those_of_the_manager(repository, manager):
    """Every model that the manager knows is there, and one that appears later too."""
    before = list(repository.get_models())
    manager.add(FakeModel("new"))

    assert ["sums", "loading", "broken"] == before
    assert [*before, "new"] == list(repository.get_models())


def test_a_model_is_one_object(repository):
    """The same name gives the same object each time."""
    assert repository.get_model("sums") is repository.get_model("sums")
    assert repository.get_models()["sums"] is repository.get_model("sums")


def test_an_unknown_model_is_none(repository):
    """A name that the manager does not know gives nothing and makes nothing."""
    assert repository.get_model("nope") is None
    assert "nope" not in repository.models


@pytest.mark.parametrize(
    ("name", "ready"), [("sums", True), ("loading", False), ("broken", False), ("nope", False)]
)
def test_readiness_is_the_managers(repository, name, ready):
    """A model is ready when its default version answers; an unknown one is not."""
    assert ready == asyncio.run(repository.is_model_ready(name))


def test_load_and_unload_move_the_manager(repository, manager):
    """A model that is unloaded does not answer until it is loaded."""
    asyncio.run(repository.unload_version("sums"))
    unloaded = manager.is_ready("sums")
    asyncio.run(repository.load("sums"))

    assert (False, True) == (unloaded, manager.is_ready("sums"))


@pytest.mark.parametrize(
    ("name", "version", "error"),
    [("nope", None, ModelNotFound), ("sums", "9", VersionNotFound), ("broken", None, NotReady)],
)
def test_load_raises_the_managers_reason(repository, name, version, error):
    """A load that cannot be done says why."""
    with pytest.raises(error):
        asyncio.run(repository.load(name, version))


def test_a_load_leaves_the_event_loop_free():
    """Other tasks run while a load waits."""
    gate = threading.Event()

    class Slow(FakeManager):
        def load(self, model, version=None, *, timeout_seconds):
            assert gate.wait(DEADLINE_SECONDS)

    async def both():
        loading = asyncio.create_task(BundleRepository(Slow(LOADING)).load("loading"))
        await asyncio.wait({loading}, timeout=0)
        gate.set()
        return await loading

    assert asyncio.run(both())


def test_kserves_own_extension_works_over_it(repository):
    """The index, load and unload of kserve's repository extension reflect the manager."""
    extension = ModelRepositoryExtension(repository)

    async def drive():
        before = await extension.index(filter_ready=True)
        await extension.unload("sums")
        after = await extension.index(filter_ready=True)
        await extension.load("sums")
        with pytest.raises(KServeModelNotFound):
            await extension.unload("nope")
        return before, after, await extension.index(filter_ready=True)

    before, after, again = asyncio.run(drive())

    assert ["sums"] == [entry["name"] for entry in before]
    assert [] == after
    assert before == again


def test_kserves_dataplane_reads_metadata_from_it(repository):
    """Kserve's data plane finds the tensors of a model."""
    about = asyncio.run(DataPlane(repository).model_metadata("sums"))

    assert ["features"] == [tensor["name"] for tensor in about["inputs"]]


def test_answer_finds_the_model(repository):
    """A request goes to the model that it names."""
    response = asyncio.run(repository.answer(PredictRequest("sums", rows=[[1.0, 2.0]])))

    assert [3.0] == response.outputs["sum"].tolist()


def test_answer_for_an_unknown_model_names_those_served(repository):
    """A request for a model that is not there says which are."""
    with pytest.raises(ModelNotFound, match="'nope' is not served here; served: 'sums', 'loading'"):
        asyncio.run(repository.answer(PredictRequest("nope", rows=[[1.0, 2.0]])))
