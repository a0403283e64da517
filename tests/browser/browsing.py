"""A headless Chromium, what it shows, and what it complains about."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

T = TypeVar("T")

DEADLINE_SECONDS = 60.0
WIDE, NARROW = (1280, 900), (400, 800)


def program(name: str) -> str:
    """Find a program of Debian's; a test that needs it fails where it is missing."""
    found = shutil.which(name)
    assert found, (
        f"{name} is not installed; run: apt-get install --no-install-recommends chromium "
        "chromium-driver, or let make browser-test INSTALL_BROWSER=1 do that"
    )
    return found


class Browser:
    """A browser that has one page open."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        self.driver.get(url)

    def find(self, selector: str) -> WebElement:
        """Wait for an element and return it."""
        return self.until(
            lambda: next(iter(self.all(selector)), None), f"there is an element {selector}"
        )

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str = "main") -> str:
        return self.find(selector).text

    def until(self, ask: Callable[[], T], what: str) -> T:
        """Ask again until the answer is true, and return it; parts of the page may be replaced."""
        waiting = WebDriverWait(self.driver, DEADLINE_SECONDS, poll_frequency=0.05)
        return waiting.until(lambda _: _or_none(ask), f"waited in vain until {what}")

    def until_text(self, text: str, selector: str = "main") -> None:
        self.until(lambda: text in self.text(selector), f"{selector} says {text!r}")

    def run(self, script: str, *arguments: object) -> object:
        """Run JavaScript in the page and return what it returns."""
        return self.driver.execute_script(script, *arguments)

    def resize(self, size: tuple[int, int]) -> None:
        """Show the page as a window of this size does."""
        width, height = size
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def prefer(self, scheme: str) -> None:
        """Prefer ``light`` or ``dark``."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.command("Emulation.setEmulatedMedia", features=features)

    def command(self, name: str, **parameters: object) -> dict[str, object]:
        """Send a command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def complaints(self) -> list[str]:
        """Return what the browser has logged since the last call: errors, violations of the CSP."""
        return [entry["message"] for entry in self.driver.get_log("browser")]


def _or_none(ask: Callable[[], T]) -> T | None:
    """Ask; None if an element went away meanwhile."""
    from selenium.common.exceptions import StaleElementReferenceException

    try:
        return ask()
    except StaleElementReferenceException:
        return None


@contextmanager
def browsing(*, javascript: bool = True) -> Iterator[Browser]:
    """Run a browser while the block does."""
    options = webdriver.ChromeOptions()
    options.binary_location = program("chromium")
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"),
        # Whatever a page asks for, only this machine answers.
        *("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--no-proxy-server"),
        *("--disable-background-networking", "--disable-component-update", "--no-first-run"),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if not javascript:
        content = {"profile.managed_default_content_settings.javascript": 2}
        options.add_experimental_option("prefs", content)
    driver = webdriver.Chrome(options=options, service=Service(program("chromedriver")))
    try:
        driver.set_page_load_timeout(DEADLINE_SECONDS)
        browser = Browser(driver)
        browser.resize(WIDE)
        yield browser
    finally:
        driver.quit()
