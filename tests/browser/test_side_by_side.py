"""Two versions of a model, asked with the same input."""

from __future__ import annotations

import pytest

from bundleserver import BundleStore
from tests.browser.browsing import NARROW
from tests.browser.form_page import FormPage, in_a_shell
from tests.browser.scene import save_scene
from tests.end_to_end.processes import ServerProcess, running
from tests.end_to_end.published import Detector

ROW = [[0.5, 0.3, 0.8]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    """Serve two versions of a detector, with the page."""
    root = tmp_path_factory.mktemp("versions")
    store = BundleStore(root)
    for seed in (1, 2):
        Detector(seed).save(store)
    with running(root, enable_page=True, version_policy="all") as started:
        for version in ("v1", "v2"):
            started.wait_until_ready("detector", version)
        yield started


@pytest.fixture
def page(browser, server: ServerProcess):
    """Open the detector's page; the browser must have nothing to complain about afterwards."""
    yield lambda fragment="": FormPage(browser, server.rest, "detector", fragment)
    assert [] == [told for told in browser.complaints() if "status of 400" not in told]


def answers(output: str) -> list[str]:
    """Return an output of each version, as JSON has it."""
    return [str(Detector(seed).answer(ROW)[output][0]) for seed in (1, 2)]


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_differences_are_marked(page, protocol):
    """Both answers stand next to each other; what differs is marked by a sign and a number."""
    form = page()
    form.choose("protocol", protocol)
    form.pick("Version", "v1")
    form.browser.until(lambda: "versions/v1" in form.curl, "version v1 is chosen")
    form.pick("Compare with", "v2")
    form.send()
    rows = {row[0]: row for row in form.compared(2)}

    assert ["label", "1", *answers("label"), "≠ -2"] == rows["label"]
    assert ["score", "1", *answers("score")] == rows["score"][:4]
    assert rows["score"][4].startswith("≠ ")
    assert "2 of 2 values differ." == form.browser.text(".form-verdict")
    assert 2 == len(form.browser.all(".form-differs"))


def test_equal_answers_are_told(page):
    """A version beside itself has no difference."""
    form = page("#compare=v2&with=v2")
    form.send()

    assert {"equal"} == {row[4] for row in form.compared(2)}
    assert "All values are equal." == form.browser.text(".form-verdict")


def test_a_link_opens_both_versions(page):
    """Links from a canary or a mirrored version choose the two; curl shows both requests."""
    form = page("#compare=v1&with=v2")
    first, second = form.curl.split("\ncurl ")

    assert "/versions/v1" in first
    assert "/versions/v2" in second
    assert "Send to both" == form.browser.text(".form-send")
    in_a_shell(form.curl)


def test_times_and_versions_of_both_are_told(page):
    """Each version has its line with status and time."""
    form = page("#compare=v1&with=v2")
    form.send()
    form.compared(2)
    lines = [line.text for line in form.browser.all(".form-status")]

    assert [True, True] == [" ms" in line for line in lines]
    assert ["Version v1: 200 OK", "Version v2: 200 OK"] == [line[:18] for line in lines]


def test_an_error_of_both_is_told_as_the_server_does(page):
    """A wrong input has each version's own message, and no table."""
    form = page("#compare=v1&with=v2")
    form.choose("mode", "json")
    form.write(form.browser.find(".form-raw"), '{"instances": [[1]]}')
    form.send()
    errors = [error.text for error in form.browser.all(".form-result .form-error")]

    assert ["'detector' version v1", "'detector' version v2"] == [
        next(name for name in ("'detector' version v1", "'detector' version v2") if name in error)
        for error in errors
    ]
    assert not form.browser.all(".form-comparison table")


def test_what_was_typed_stays_with_another_version(page):
    """Another version's form has the same fields, and what was typed in them."""
    form = page()
    form.fill("0-0-0", "0.125")
    form.pick("Version", "v1")
    form.browser.until(lambda: "versions/v1" in form.curl, "version v1 is chosen")

    assert "0.125" == form.value("0-0-0")


def test_it_fits_a_narrow_window(page, browser):
    """At 400 pixels nothing but the table scrolls sideways."""
    browser.resize(NARROW)
    form = page("#compare=v1&with=v2")
    form.send()
    form.compared(2)

    assert 400 >= browser.run("return document.documentElement.scrollWidth")


def test_a_canary_links_to_its_comparison(browser, tmp_path):
    """The page of traffic has a link that chooses the canary and what it is compared with."""
    save_scene(tmp_path)
    with running(tmp_path, enable_page=True) as started:
        for version in ("v1", "v2"):
            started.wait_until_ready("detector", version)
        started.predict("detector", {"instances": ROW})
        form = FormPage(browser, started.rest, "detector")
        browser.find('#traffic a[href="#compare=v1&with=v2"]').click()
        browser.until(lambda: "versions/v2" in form.curl, "both versions are chosen")
        form.send()

        assert ["label", "score"] == [row[0] for row in form.compared(2)]
