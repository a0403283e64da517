"""What the form's routes answer, and what the page has in its place at first."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from bundleserver.serving.page.form_routes import FormRoutes
from bundleserver.serving.page.query import Query
from bundleserver.versions.lifecycle import State
from tests.serving.fakes import FakeManager, FakeModel, FakeVersion

LABELS = {"stable": "1", "next": "3"}
READY = FakeModel("m", (FakeVersion("2"), FakeVersion("1")), labels=LABELS)
HIDDEN = "FAILED while LOADING: /mnt/models/m has a secret"
FAILED = FakeModel("m", (FakeVersion("1", state=State.FAILED, reason=HIDDEN),))


def asked(model, what, query=b"", is_whole=True):
    """Ask a route, and return its status and its document."""
    routes = FormRoutes(FakeManager(model))
    answer = asyncio.run(routes.answer(what, "m", Query(query), is_whole))
    return answer.status, json.loads(answer.body)


def test_a_form_names_the_versions_that_can_be_chosen():
    """The ready versions, their labels and the default one stand beside the fields."""
    status, form = asked(READY, "form", b"version=2")

    assert (200, "2", "1") == (status, form["version"], form["default"])
    assert (["2", "1"], {"stable": "1"}) == (form["versions"], form["labels"])
    assert ["cpu", "memory"] == [field["name"] for field in form["inputs"][0]["fields"]]


def test_a_label_of_a_version_that_is_not_ready_is_no_choice():
    """It would not answer, and only administrators see what is not ready."""
    versions = (FakeVersion("1"), FakeVersion("2", state=State.FAILED))
    model = FakeModel("m", versions, labels={"stable": "1", "next": "2"})
    form = asked(model, "form")[1]

    assert (["1"], {"stable": "1"}) == (form["versions"], form["labels"])


@pytest.mark.parametrize("query", [b"version=stable", b""])
def test_a_version_may_be_a_label_or_left_out(query):
    """As in the addresses of predictions."""
    assert "1" == asked(READY, "form", query)[1]["version"]


@pytest.mark.parametrize("what", ["form", "history"])
def test_reasons_are_for_those_who_may_read_them(what):
    """Without the administrator's token a version that is not ready says no more than that."""
    status, told = asked(FAILED, what)
    hidden = asked(FAILED, what, is_whole=False)

    assert (503, True) == (status, HIDDEN in told["error"])
    assert (503, False) == (hidden[0], "secret" in hidden[1]["error"])


@pytest.mark.parametrize(("query", "status"), [(b"version=9", 404), (b"points=x", 200)])
def test_what_is_not_there_is_told(query, status):
    """An unknown version is a 404; points that are no number are as many as there may be."""
    assert status == asked(READY, "history", query)[0]


def test_the_page_says_what_stands_in_the_forms_place():
    """Without a version that answers, and without an example, there is no line of curl."""
    nothing = replace(READY, default=None)

    for model, said in ((nothing, "No version answers"), (READY, "no short example")):
        first = asyncio.run(FormRoutes(FakeManager(model)).first("m"))
        assert first["curl"] == ""
        assert said in first["why"]


@pytest.mark.parametrize(
    "changes",
    [
        {"default": "2"},
        {"labels": {"stable": "2"}},
        {"versions": (FakeVersion("1"),)},
        {"versions": (FakeVersion("2", metadata={"digest": "ab"}), FakeVersion("1"))},
    ],
)
def test_a_mark_tells_that_what_can_be_chosen_has_changed(changes):
    """The page and the form have the same mark, which is another one for another version."""
    marks = {asked(model, "form")[1]["mark"] for model in (READY, READY, replace(READY, **changes))}
    first = asyncio.run(FormRoutes(FakeManager(READY)).first("m"))

    assert 2 == len(marks)
    assert first["mark"] in marks


def test_a_model_that_has_gone_has_no_mark():
    """The page is drawn all the same; its next refresh says that the model is gone."""
    first = asyncio.run(FormRoutes(FakeManager(READY)).first("other"))

    assert "" == first["mark"]
