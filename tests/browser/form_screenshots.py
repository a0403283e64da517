"""Pictures of the form for docs/: ``python -m tests.browser.form_screenshots [DIRECTORY]``."""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path

from bundleserver import BundleStore
from tests.browser.browsing import Browser, browsing
from tests.browser.form_models import save_demand
from tests.browser.form_page import FormPage
from tests.end_to_end.processes import running
from tests.end_to_end.published import Detector

SIZE = (900, 900)


def main() -> None:
    """Serve a forecaster and two versions of a detector, and take the pictures."""
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else "build/page")
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as root:
        save_demand(Path(root))
        for seed in (1, 2):
            Detector(seed).save(BundleStore(root))
        flags = {"enable_page": True, "version_policy": "all", "load_threads": 1}
        with running(root, **flags) as server, browsing() as browser:
            for model, version in (("demand", None), ("detector", "v1"), ("detector", "v2")):
                server.wait_until_ready(model, version)
            browser.resize(SIZE)
            form = FormPage(browser, server.rest, "demand")
            form.send()
            browser.find(".form-plot canvas")
            take(browser, directory / "page-forecast.png", ".form-forecast")
            form = FormPage(browser, server.rest, "detector", "#compare=v1&with=v2")
            form.send()
            form.compared(2)
            take(browser, directory / "page-compare.png", ".form-comparison")


def take(browser: Browser, path: Path, selector: str) -> None:
    """Take a picture from the form's title to the end of an element."""
    top, bottom = browser.run(
        "const place = (one) => document.querySelector(one).getBoundingClientRect();"
        "return [place('#try').top + scrollY, place(arguments[0]).bottom + scrollY]",
        selector,
    )
    clip = {"x": 0, "y": top, "width": SIZE[0], "height": bottom - top + 4, "scale": 1}
    shot = browser.command(
        "Page.captureScreenshot", captureBeyondViewport=True, format="png", clip=clip
    )
    path.write_bytes(base64.b64decode(str(shot["data"])))


if __name__ == "__main__":
    main()
