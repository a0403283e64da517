"""A browser for every test of this folder."""

from __future__ import annotations

import pytest

from tests.browser.browsing import WIDE, Browser, browsing


@pytest.fixture(scope="session")
def one_browser():
    """Run one browser for the whole session."""
    with browsing() as browser:
        yield browser


@pytest.fixture
def browser(one_browser: Browser):
    """Give the browser as if it had just been started; no page may break its own policy."""
    one_browser.resize(WIDE)
    one_browser.prefer("light")
    one_browser.complaints()
    yield one_browser
    refused = [said for said in one_browser.complaints() if "Content Security Policy" in said]
    one_browser.open("about:blank")

    assert [] == refused


@pytest.fixture(scope="session")
def plain_browser():
    """Run one browser that does not run JavaScript."""
    with browsing(javascript=False) as browser:
        yield browser
