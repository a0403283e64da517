"""BundleRepository: the manager's models as kserve asks for them."""

from __future__ import annotations

import asyncio

import pytest
from kserve.errors import ModelNotFound as KServeModelNotFound
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension

from bundleserver.serving.kserve.repository import BundleRepository
from bundleserver.versions.lifecycle import State
from tests.serving.fakes import FakeManager, FakeModel, all_versions

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
