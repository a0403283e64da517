"""Pictures of the page: ``python -m tests.browser.screenshots`` makes those of docs/ anew.

Beside them it puts others into build/page, of the dark page and of the narrow one, to look at.
"""

from __future__ import annotations

import io
import math
import random
import tempfile
import threading
from pathlib import Path

from PIL import Image

from tests.browser.browsing import NARROW, WIDE, Browser, browsing
from tests.browser.scene import ask, save_scene
from tests.end_to_end.processes import ServerProcess, running

DOCS, LOOKED_AT = Path("docs"), Path("build/page")
STEPS = 40
STEP_SECONDS = 5.0
OVERVIEW, MODEL = "/", "/page/models/detector"
PICTURES = {
    DOCS / "page-overview.png": (OVERVIEW, (1280, 470), "light"),
    DOCS / "page-model.png": (MODEL, (1280, 1300), "light"),
    DOCS / "page-narrow.png": (MODEL, NARROW, "light"),
    LOOKED_AT / "overview-dark.png": (OVERVIEW, WIDE, "dark"),
    LOOKED_AT / "overview-narrow-dark.png": (OVERVIEW, (400, 1200), "dark"),
    LOOKED_AT / "model-dark.png": (MODEL, (1280, 2400), "dark"),
    LOOKED_AT / "model-narrow.png": (MODEL, (400, 4000), "light"),
}


def main() -> None:
    """Serve a scene, ask for a few minutes, and take the pictures."""
    LOOKED_AT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="models-") as root:
        save_scene(Path(root), interval_seconds=STEPS * STEP_SECONDS / 2.5)
        with running(root, enable_page=True) as server, browsing() as browser:
            server.wait_until_ready("detector", "v2")
            server.wait_until_ready("sentiment")
            # What the plots show takes as long as it says.
            for at in range(STEPS):
                ask(server, round(30 + 20 * math.sin(at / 4) + random.uniform(-5, 5)))  # noqa: S311
                threading.Event().wait(STEP_SECONDS)
            take(browser, server)


def take(browser: Browser, server: ServerProcess) -> None:
    """Take every picture, in few colours, which makes small files."""
    browser.command("Emulation.setScrollbarsHidden", hidden=True)
    for path, (address, size, scheme) in PICTURES.items():
        browser.prefer(scheme)
        browser.resize(size)
        browser.open(server.rest + address)
        if address == MODEL:
            browser.find("#plots canvas")
        picture = Image.open(io.BytesIO(browser.driver.get_screenshot_as_png()))
        picture.convert("RGB").quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    main()
