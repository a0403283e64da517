"""The page of a server with real models: what it shows, how it looks, and that it stays current."""

from __future__ import annotations

import pytest
from selenium.webdriver import ActionChains, Keys

from bundleserver import BundleStore
from tests.browser.browsing import NARROW, WIDE
from tests.browser.scene import ask, save_scene
from tests.end_to_end.processes import eventually, running
from tests.end_to_end.published import save_sentiment

MODEL = "/page/models/detector"
WIDTHS = "const e = document.documentElement; return [e.scrollWidth, e.clientWidth]"
GROUND = "return getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Save the models."""
    root = tmp_path_factory.mktemp("models")
    save_scene(root, interval_seconds=3600)
    return root


@pytest.fixture(scope="module")
def server(root):
    """Serve them, and ask until the page's history has seen it."""
    with running(root, enable_page=True) as server:
        for model, version in (("detector", "v1"), ("detector", "v2"), ("sentiment", "v1")):
            server.wait_until_ready(model, version)
        server.wait_for_reason("turbine-anomalies", "FAILED")
        ask(server, 20)
        data = f"{MODEL}/data"
        eventually(
            lambda: sum(server.get(data).json()["plots"]["requests"]) > 0, "the page has seen them"
        )
        yield server


def test_the_overview_shows_every_model_and_why_one_fails(browser, server):
    """Each model has its state in a word, and a failed one the reason that the index tells."""
    browser.open(server.rest)

    assert "3 models: 2 ready" in browser.text()
    assert "READY" in browser.text("tr:has(a[href$=sentiment])")
    assert "FAILED" in browser.text("tr:has(a[href$=turbine-anomalies])")
    assert server.index("turbine-anomalies")["v1"]["reason"] in browser.text()


def test_a_models_page_is_a_click_away_and_shows_a_failed_versions_reason(browser, server):
    """Its versions, since when, and why v3 does not answer although v1 does."""
    browser.open(server.rest)
    browser.find("a[href$=detector]").click()
    browser.until_text("version v1 answers by default")

    reason = server.index("detector")["v3"]["reason"].removeprefix("FAILED ")
    assert reason in browser.text("#versions")
    assert " UTC" in browser.text("#versions")


def test_a_models_page_shows_its_canary_its_training_and_its_signature(browser, server):
    """What metadata tell programs a person can read."""
    browser.open(server.rest + MODEL)

    traffic, details = browser.text("#traffic"), browser.text("#details")
    assert "Canary v2 running" in traffic
    assert "10 %" in traffic
    assert "Mirrored requests: v2 beside v1" in traffic
    for told in ("s3://metrics/hosts-2025-11.parquet", "f1", "features", "cpu", "[n, 3]"):
        assert told in details


def test_plots_are_drawn_and_nothing_complains(browser, server):
    """Three plots are canvases with something on them, and the browser logs nothing at all."""
    browser.open(server.rest + MODEL)
    browser.until(lambda: len(browser.all("#plots canvas")) == 3, "three plots are drawn")

    drawn = browser.run("""
        return [...document.querySelectorAll("#plots canvas")].map((canvas) => {
          const { width, height } = canvas;
          return canvas.getContext("2d").getImageData(0, 0, width, height).data.some((b) => b);
        })""")
    assert [True, True, True] == drawn
    assert [] == browser.complaints()


@pytest.mark.parametrize("path", ["/", MODEL])
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_no_page_is_wider_than_its_window(browser, server, path, size):
    """Nobody has to scroll sideways, at 400 pixels neither."""
    browser.resize(size)
    browser.open(server.rest + path)
    if path == MODEL:
        browser.find("#plots canvas")

    wanted, there = browser.run(WIDTHS)
    assert wanted <= there


def test_the_page_is_dark_where_that_is_preferred(browser, server):
    """The ground is nearly white or nearly black."""
    browser.open(server.rest)
    assert "rgb(251, 251, 250)" == browser.run(GROUND)

    browser.prefer("dark")

    assert "rgb(21, 24, 27)" == browser.run(GROUND)


CONTRASTS = """
const channel = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const ground = (e) => {
  for (; e; e = e.parentElement) {
    const colour = parts(getComputedStyle(e).backgroundColor);
    if (colour.length < 4 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
};
const low = [];
for (const e of document.querySelectorAll("body *")) {
  if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
  if (["SCRIPT", "NOSCRIPT"].includes(e.tagName)) continue;
  const [a, b] = [light(parts(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
  if ((a + 0.05) / (b + 0.05) < 4.5) low.push(`${e.tagName}.${e.className} ${e.textContent}`);
}
return low;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", MODEL])
def test_every_text_can_be_read(browser, server, path, scheme):
    """Text has a contrast of at least 4.5 to its ground, as WCAG's level AA asks."""
    browser.prefer(scheme)
    browser.open(server.rest + path)

    assert [] == browser.run(CONTRASTS)


def test_the_page_is_read_without_javascript(plain_browser, server):
    """Models, reasons, figures and a small plot are in the HTML itself."""
    plain_browser.open(server.rest)
    assert server.index("turbine-anomalies")["v1"]["reason"] in plain_browser.text()

    plain_browser.open(server.rest + MODEL)

    assert "FAILED" in plain_browser.text("#versions")
    assert "p99" in plain_browser.text("#requests")
    assert plain_browser.find("noscript svg.spark polyline").is_displayed()


def test_the_filter_works_without_javascript(plain_browser, server):
    """It is an ordinary form."""
    plain_browser.open(server.rest)
    plain_browser.find("#filter-text").send_keys("senti")
    plain_browser.find("#filter button").click()
    plain_browser.until_text("1 found")

    assert not plain_browser.all("a[href$=detector]")


def test_a_new_version_appears_and_what_a_person_opened_stays_open(browser, server, root):
    """The page asks again by itself, and leaves alone what was opened, closed and focused."""
    browser.open(server.rest + "/page/models/sentiment")
    browser.find("#details summary").click()
    assert browser.find("#about-v1").get_attribute("open") is None

    save_sentiment(BundleStore(root))
    browser.until_text("version v2 answers by default", "#summary")

    assert browser.find("#about-v1").get_attribute("open") is None
    assert "about-v1" == browser.run("return document.activeElement.parentElement.id")


def test_the_page_is_used_by_keyboard(browser, server):
    """The first Tab leads past the header, and what has the focus can be seen."""
    browser.open(server.rest)
    ActionChains(browser.driver).send_keys(Keys.TAB).perform()
    assert "Skip to the content" == browser.run("return document.activeElement.textContent")
    assert browser.find(".skip").is_displayed()
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert "none" != browser.run(outline)

    field = browser.find("#filter-text")
    field.send_keys("detec", Keys.ENTER)
    browser.until_text("1 found")
