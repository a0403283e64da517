"""A browser and a server with a page, for every test of this folder."""

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
    """Give the browser as if it had just been started; its log must end without complaints."""
    one_browser.resize(WIDE)
    one_browser.prefer("light")
    one_browser.complaints()
    yield one_browser
    one_browser.open("about:blank")
