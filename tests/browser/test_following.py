"""A form that is open while versions are published."""

from __future__ import annotations

from selenium.webdriver.common.keys import Keys

from tests.browser.form_gaps import save_sum
from tests.browser.form_page import FormPage
from tests.end_to_end.processes import running

VERSIONS = "return [...document.querySelector('.form-choices select').options].map((o) => o.text)"


def test_a_form_follows_what_is_published(browser, tmp_path):
    """Versions can be chosen as they come; what was typed, the focus and the answer stay."""
    save_sum(tmp_path, "a", "b")
    with running(tmp_path, enable_page=True, version_policy="all") as started:
        started.wait_until_ready("sum")
        form = FormPage(browser, started.rest, "sum")
        form.fill("0-0-0", "0.25")
        form.send()
        form.field("0-0-0").send_keys(Keys.HOME)
        assert ["by default (v1)", "v1"] == browser.run(VERSIONS)

        save_sum(tmp_path, "a", "b")
        started.wait_until_ready("sum", "v2")
        offered(browser, ["by default (v2)", "v2", "v1"])
        assert "" == browser.run("return document.querySelector('.form-notice').textContent")
        assert form.cells()

        save_sum(tmp_path, "a", "c")
        started.wait_until_ready("sum", "v3")
        offered(browser, ["by default (v3)", "v3", "v2", "v1"])
        said = browser.text(".form-notice")
        assert "Version v3" in said
        assert "'c' is new, 'b' is gone" in said
        assert ["a FP64", "c FP64"] == form.labels()
        browser.driver.switch_to.active_element.send_keys("1")
        assert "10.25" == form.value("0-0-0")
        assert form.send().startswith("200")


def test_a_version_that_goes_leaves_its_form(browser, tmp_path):
    """Whoever has chosen it is told, keeps what was typed, and can choose another one."""
    save_sum(tmp_path, "a", "b")
    with running(tmp_path, enable_page=True, version_policy="latest") as started:
        started.wait_until_ready("sum")
        form = FormPage(browser, started.rest, "sum")
        form.pick("Version", "v1")
        browser.until(lambda: "versions/v1" in form.curl, "version v1 is chosen")
        form.fill("0-0-0", "0.25")
        save_sum(tmp_path, "a", "b")
        started.wait_until_ready("sum", "v2")
        offered(browser, ["by default (v2)", "v2", "v1"])

        assert "v1" in browser.text(".form-notice")
        assert "0.25" == form.value("0-0-0")
        form.pick("Version", "v2")
        browser.until(lambda: "versions/v2" in form.curl, "version v2 is chosen")
        assert "0.25" == form.value("0-0-0")
        assert "" == browser.run("return document.querySelector('.form-notice').textContent")
        assert form.send().startswith("200")


def offered(browser, versions):
    """Wait until these versions can be chosen."""

    def is_so():
        browser.run("window.bundleserverPage.refresh()")
        return versions == browser.run(VERSIONS)

    browser.until(is_so, f"the versions are {versions}")
