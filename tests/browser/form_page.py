"""The form of a model's page, as a person uses it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

from tests.browser.browsing import Browser

ANSWERED = ".form-result .form-status"


class FormPage:
    """A model's page, opened at its form."""

    def __init__(self, browser: Browser, rest: str, model: str, fragment: str = "") -> None:
        self.browser = browser
        browser.open("about:blank")
        browser.open(f"{rest}/page/models/{model}{fragment}")
        browser.find(".form-send")

    def field(self, place: str) -> WebElement:
        """Return a field by its row, input and field: ``0-0-2``."""
        return self.browser.find(f'[data-place="{place}"]')

    def labels(self) -> list[str]:
        """Return the texts of the fields' labels."""
        return [label.text for label in self.browser.all(".form-label")]

    def value(self, place: str) -> str:
        return self.field(place).get_property("value")

    def fill(self, place: str, text: str) -> None:
        """Put a text in the place of what a field has."""
        self.write(self.field(place), text)

    def write(self, element: WebElement, text: str) -> None:
        element.send_keys(Keys.CONTROL, "a")
        element.send_keys(Keys.DELETE)
        element.send_keys(text)

    def choose(self, name: str, value: str) -> None:
        """Choose a protocol or the kind of input."""
        self.browser.find(f'input[name="{name}"][value="{value}"]').click()

    def pick(self, label: str, text: str) -> None:
        """Pick from a list by its label."""
        for box in self.browser.all(".form-pick"):
            if box.text.startswith(label):
                Select(box.find_element("css selector", "select")).select_by_visible_text(text)
                return
        raise AssertionError(f"there is no list {label!r}")

    def tick(self, output: str) -> None:
        """Choose an output of V2."""
        boxes = [box for box in self.browser.all(".form-choice label") if box.text == output]
        boxes[0].click()

    def press(self, text: str) -> None:
        """Press a button."""
        next(b for b in self.browser.all(".form button") if b.text == text).click()

    def send(self) -> str:
        """Send, and return the line that tells of the answer."""
        self.clear()
        self.browser.find(".form-send").click()
        return self.browser.text(ANSWERED)

    def clear(self) -> None:
        """Take the last answer away, so that the next one is a new one."""
        self.browser.run("document.querySelector('.form-result').replaceChildren()")

    def cells(self) -> list[list[str]]:
        """Return the lines of the answer's table."""
        rows = self.browser.all(".form-result .form-scroll tbody tr")
        return [[c.text for c in row.find_elements("css selector", "th, td")] for row in rows]

    def compared(self, count: int) -> list[list[str]]:
        """Wait for a comparison of so many values, and return its lines."""
        self.browser.until(lambda: count == len(self.cells()), f"{count} values are compared")
        return self.cells()

    def fill_parameter(self, name: str, text: str) -> None:
        """Put a text in the place of a parameter's value."""
        boxes = [box for box in self.browser.all(".form-pick") if box.text.startswith(name)]
        self.write(boxes[0].find_element("css selector", "input"), text)

    def message(self) -> str:
        """Return what is wrong with a field."""
        return self.browser.text("form > .form-error:not([hidden])")

    def error(self) -> str:
        """Return what the server told of an error."""
        return self.browser.text(".form-result .form-error")

    @property
    def curl(self) -> str:
        return self.browser.run("return document.querySelector('.form-curl').textContent")


def in_a_shell(line: str, directory: Path | None = None) -> str:
    """Run a line as a person's shell does, and return what it prints."""
    ended = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=60, cwd=directory
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
