"""``python -m bundleserver``: as the command line, but nothing at all means ``serve``."""

import os
import signal
import sys

# As cli.py decides: flags without a command are those of serve.
_SERVES = len(sys.argv) < 2 or sys.argv[1] == "serve" or sys.argv[1].startswith("--")


def _end(number: int, _: object) -> None:
    os._exit(0 if _SERVES else 128 + number)


if _SERVES or os.getpid() == 1:
    # The kernel keeps SIGTERM from process 1 of a container until something handles it, and the
    # imports below take seconds. A server that ends before it served has ended well.
    signal.signal(signal.SIGTERM, _end)

from bundleserver.serving.cpus import blas_within_limit  # noqa: E402  # as above

with blas_within_limit():
    from bundleserver.cli import main  # what takes the time

main(sys.argv[1:] or ["serve"])
