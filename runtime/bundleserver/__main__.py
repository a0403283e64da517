"""``python -m bundleserver``: as the command line, but nothing at all means ``serve``."""

import os
import signal
import sys


def _end(number: int, _: object) -> None:
    os._exit(128 + number)


if os.getpid() == 1:
    # The kernel keeps SIGTERM from process 1 of a container until something handles it, and the
    # imports below take seconds. The server's own handler comes once it listens.
    signal.signal(signal.SIGTERM, _end)

from bundleserver.cli import main  # noqa: E402  # what takes the time

main(sys.argv[1:] or ["serve"])
