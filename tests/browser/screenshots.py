"""Pictures of the page for docs/: ``python -m tests.browser.screenshots [DIRECTORY]``."""

from __future__ import annotations

import sys
import tempfile
import threading
from pathlib import Path

from tests.browser.browsing import NARROW, WIDE, Browser, browsing
from tests.browser.scene import ask, save_scene
from tests.end_to_end.processes import ServerProcess, running

PAUSE_SECONDS = 5.0
PICTURES = {
    "page-overview": ("/", WIDE, "light"),
    "page-overview-dark": ("/", WIDE, "dark"),
    "page-model": ("/page/models/detector", (1280, 1700), "light"),
    "page-model-dark": ("/page/models/detector", (1280, 1700), "dark"),
    "page-narrow": ("/page/models/detector", NARROW, "light"),
    "page-overview-narrow": ("/", NARROW, "dark"),
}


def main() -> None:
    """Serve a scene, ask for a while, and take the pictures."""
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else "build/page")
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as root:
        save_scene(Path(root))
        with running(root, enable_page=True) as server, browsing() as browser:
            server.wait_until_ready("detector", "v2")
            server.wait_until_ready("sentiment")
            # What the plots show takes as long as it says.
            for burst in (20, 60, 40, 90, 30, 50):
                ask(server, burst)
                threading.Event().wait(PAUSE_SECONDS)
            take(browser, server, directory)


def take(browser: Browser, server: ServerProcess, directory: Path) -> None:
    """Take every picture."""
    for name, (path, size, scheme) in PICTURES.items():
        browser.prefer(scheme)
        browser.resize(size)
        browser.open(server.rest + path)
        if "model" in path:
            browser.find("#plots canvas")
        (directory / f"{name}.png").write_bytes(browser.driver.get_screenshot_as_png())
    print(*browser.complaints(), sep="\n")  # noqa: T201


if __name__ == "__main__":
    main()
