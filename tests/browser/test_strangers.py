"""The page of models whose names and reasons attack it, of very many models, and for strangers."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest

from bundleserver.serving.options import ServerOptions
from bundleserver.tensors import TensorSpec
from bundleserver.tensors.signature import Signature
from bundleserver.versions.lifecycle import State
from bundleserver.versions.serving_config import ServingConfig
from tests.browser.browsing import NARROW
from tests.end_to_end.processes import running
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
    until_refreshed(browser)

    assert "the request has another one" in browser.text()
    assert browser.run("return sessionStorage.length") == 0
    assert "secret" not in browser.driver.page_source


def until_refreshed(browser):
    """Wait until the page has shown itself anew."""
    browser.run("""
        window.refreshes = 0;
        document.addEventListener("page-refreshed", () => { window.refreshes += 1; });""")
    browser.until(lambda: browser.run("return window.refreshes > 1"), "it is refreshed twice")


def test_a_token_that_is_replaced_on_the_server_is_said_to_be_refused(browser, guarded, tmp_path):
    """What everybody is told follows with the reason, until the new token is given."""
    browser.open(guarded.rest)
    browser.find("#token").send_keys(TOKEN + "\n")
    browser.until_text("a secret path")
    (tmp_path / "token").write_text(TOKEN[::-1])
    browser.until_text("The token was refused and is forgotten")
    until_refreshed(browser)

    assert "The token was refused and is forgotten" in browser.text()
    assert "secret" not in browser.text()
    browser.find("#token").send_keys(TOKEN[::-1] + "\n")
    browser.until_text("a secret path")


def test_a_token_of_any_letters_is_sent_as_its_file_has_it(browser, guarded, tmp_path):
    """In UTF-8, as curl sends it, also what a header's characters do not have."""
    token = "\u65e5\u672c\u8a9e\u30c8\u30fc\u30af\u30f3-\u00e9\U0001f511"  # noqa: S105  # of this test
    (tmp_path / "token").write_text(token, encoding="utf-8")
    browser.open(guarded.rest)
    browser.run("sessionStorage.setItem('bundleserver-token', arguments[0])", token)
    browser.open(guarded.rest)
    browser.until_text("a secret path")

    assert "" == browser.text("#connection")


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


def test_a_server_that_hangs_is_said_not_to_answer(browser, tmp_path):
    """It takes connections and sends nothing, until it goes on."""
    with running(tmp_path, enable_page=True) as server:
        browser.open(server.rest)
        os.kill(server.popen.pid, signal.SIGSTOP)
        try:
            browser.until_text("The server does not answer", "header")
        finally:
            os.kill(server.popen.pid, signal.SIGCONT)
        browser.until(lambda: browser.text("#connection") == "", "the server answers again")


def test_traffic_is_no_wider_than_its_window(browser):
    """At 320 pixels, with names of versions that are long."""
    config = ServingConfig(traffic={"a-rather-long-name-of-a-label": 3, "1": 1234567})
    with serving(FakeManager(FakeModel("sums", config=config)), PAGE) as served:
        browser.resize((320, 800))
        browser.open(f"{served.rest}/page/models/sums")
        assert "a-rather-long-name" in browser.text("#traffic")

        shown = browser.run("return document.documentElement.scrollWidth")
        assert shown <= browser.run("return document.documentElement.clientWidth")


def test_a_cells_second_line_stands_below_its_first(browser):
    """On a narrow window too, not below the name of the column."""
    version = FakeVersion("1", loaded_at=1e9)
    with serving(FakeManager(FakeModel("sums", (version,))), PAGE) as served:
        browser.resize(NARROW)
        browser.open(f"{served.rest}/page/models/sums")
        loaded = browser.find("td[data-label=Since] .quiet")

        lefts = browser.run(
            """
            const range = document.createRange();
            range.selectNodeContents(arguments[0].parentElement.firstChild);
            return [range.getBoundingClientRect().left, arguments[0].getBoundingClientRect().left];
            """,
            loaded,
        )
        assert lefts[0] <= lefts[1]
