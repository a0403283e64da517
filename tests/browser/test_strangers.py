"""The page of models whose names and reasons attack it, of very many models, and for strangers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bundleserver.serving.options import ServerOptions
from bundleserver.tensors import TensorSpec
from bundleserver.tensors.signature import Signature
from bundleserver.versions.lifecycle import State
from tests.browser.browsing import NARROW
from tests.serving.fakes import FakeManager, FakeModel, FakeVersion, serving

PAGE = ServerOptions(enable_page=True)
TOKEN = "a-token-of-32-bytes-and-some-more"  # noqa: S105  # of the tests
EVIL = (
    '"><script>window.hacked = 1</script>',
    "'><img src=x onerror='window.hacked = 2'>",
    "</script><svg onload=window.hacked=3>",
    "{{ 7 * 191 }}\u202eevil\u2066",
    "line\nbreak\ttab\x00nul",
    "javascript:window.hacked=4",
    "a/../b?c#d%2F&amp;",
    "l" + "o" * 10_000 + "ng",
)
CHECK = "return window.hacked === undefined"


def evil_model(name: str) -> FakeModel:
    """Make a model that says the same evil thing wherever it can."""
    spec = TensorSpec(name, "FP64", (-1, 1), (name,))
    about = {"digest": name, "trained_at": name, "metrics": {name: 1}, "tags": {name: name}}
    return FakeModel(
        name,
        versions=(
            FakeVersion(name, state=State.FAILED, reason=f"FAILED while LOADING: {name}"),
            FakeVersion("1", metadata={**about, name: name}, signature=Signature((spec,), (spec,))),
        ),
        labels={name: "1"},
        config_problem=name,
        source_problem=name,
        known=(name,),
    )


@pytest.fixture(scope="module")
def evil():
    """Serve models with evil names."""
    with serving(FakeManager(*map(evil_model, EVIL)), PAGE) as served:
        yield served


def test_names_do_not_run(browser, evil):
    """Whatever a disk says is text: nothing runs, nothing becomes an element of its own."""
    browser.open(evil.rest)

    assert len(EVIL) == len(browser.all("tbody th a"))
    assert browser.run(CHECK)
    assert [] == browser.all("main img, main script, main tbody svg:not(.spark)")


@pytest.mark.parametrize("at", range(len(EVIL)))
def test_each_evil_models_page_opens_by_its_link(browser, evil, at):
    """Names are encoded in addresses, and their pages show them and are no wider."""
    browser.resize(NARROW)
    browser.open(evil.rest)
    links = [link.get_attribute("href") for link in browser.all("tbody th a")]
    link = links[sorted(EVIL).index(EVIL[at])]
    browser.open(link)
    browser.until_text("version 1 answers by default")
    browser.run("document.querySelectorAll('details').forEach((d) => { d.open = true })")

    assert browser.run(CHECK)
    assert [] == browser.all("main img, main script")
    shown = browser.run("return document.documentElement.scrollWidth")
    assert shown <= browser.run("return document.documentElement.clientWidth")


def test_the_policy_stops_what_would_slip_through(browser, evil):
    """Even an element in the page runs no script of its own, and loads nothing from elsewhere."""
    browser.open(evil.rest)
    browser.run("""
        const script = document.createElement("script");
        script.textContent = "window.hacked = 6";
        document.body.append(script);
        document.body.setAttribute("onclick", "window.hacked = 7");
        document.body.click();""")

    assert browser.run(CHECK)
    assert any("Content Security Policy" in said for said in browser.complaints())


def test_a_refresh_runs_nothing_either(browser, evil):
    """What scripts put in place of the old is HTML of the server, escaped as it was."""
    browser.open(evil.rest)
    evil.manager.add(evil_model("<img src=y onerror=window.hacked=5>"))
    browser.until_text(f"{len(EVIL) + 1} models")

    assert browser.run(CHECK)
    assert [] == browser.all("main img")


def test_what_is_typed_survives_a_refresh(browser, evil):
    """The filter keeps its text and its focus while the list changes below it."""
    browser.open(evil.rest)
    field = browser.find("#filter-text")
    field.send_keys("javascript")
    browser.until(lambda: len(browser.all("tbody th a")) == 1, "the list follows")
    evil.manager.add(evil_model("javascript too"))
    browser.until(lambda: len(browser.all("tbody th a")) == 2, "the list is refreshed")

    assert "javascript" == field.get_attribute("value")
    assert browser.run("return document.activeElement.id === 'filter-text'")


def test_a_thousand_models_come_in_pages_and_are_found_by_name(browser):
    """A hundred at a time, with links to the others, and those with problems by themselves."""
    models = [FakeModel(f"model-{at:04}") for at in range(1000)]
    models[777] = replace(
        models[777],
        versions=(
            FakeVersion("2", state=State.FAILED, reason="FAILED while LOADING: its file is broken"),
            FakeVersion("1"),
        ),
    )
    with serving(FakeManager(*models), PAGE) as served:
        browser.open(served.rest)
        assert 100 == len(browser.all("tbody th"))
        browser.find("a[rel=next]").click()
        browser.until_text("101 to 200 of 1000")
        browser.find("#filter-text").send_keys("0999")
        browser.until(lambda: len(browser.all("tbody th a")) == 1, "one is found")
        browser.find("#filter-text").clear()
        browser.find("[name=only]").click()
        browser.until_text("its file is broken")

        assert "model-0777" == browser.text("tbody th")


@pytest.fixture
def guarded(tmp_path):
    """Serve a model with a broken version; the index is for administrators."""
    token = tmp_path / "token"
    token.write_text(TOKEN)
    broken = FakeVersion("2", state=State.FAILED, reason="FAILED while LOADING: a secret path")
    model = FakeModel("sums", versions=(broken, FakeVersion("1")))
    options = replace(PAGE, repository_index="admin", admin_token_file=token)
    with serving(FakeManager(model), options) as served:
        yield served


def test_the_token_opens_reasons_and_stays_in_the_tab(browser, guarded):
    """Without it only what everybody is told; with it all; it is nowhere but in the tab."""
    browser.open(f"{guarded.rest}/page/models/sums")
    assert "for administrators" in browser.text()
    assert "secret" not in browser.driver.page_source
    assert "FAILED" not in browser.driver.page_source

    browser.find("#token").send_keys(TOKEN + "\n")
    browser.until_text("a secret path")
    browser.find(".brand").click()
    browser.until_text("a secret path")

    assert [] == browser.driver.get_cookies()
    assert TOKEN not in browser.driver.current_url
    assert not browser.all("#token")


def test_another_token_is_refused_with_the_servers_words(browser, guarded):
    """The page forgets it and shows what it showed before."""
    browser.open(guarded.rest)
    browser.find("#token").send_keys("another\n")
    browser.until_text("the request has another one")

    assert browser.run("return sessionStorage.length") == 0
    assert "secret" not in browser.driver.page_source


def test_the_token_is_forgotten_on_request(browser, guarded):
    """A button takes it out of the tab."""
    browser.open(guarded.rest)
    browser.find("#token").send_keys(TOKEN + "\n")
    browser.until_text("a secret path")
    browser.find("#forget").click()
    browser.until_text("for administrators")

    assert browser.run("return sessionStorage.length") == 0


def test_a_server_that_ends_is_said_to_be_gone(browser):
    """What is on the screen stays, with a word that it is old."""
    with serving(FakeManager(FakeModel("sums")), PAGE) as served:
        browser.open(served.rest)
        browser.find("a[href$=sums]")
    browser.until_text("The server does not answer", "header")

    assert "sums" in browser.text()
