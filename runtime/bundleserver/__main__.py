"""``python -m bundleserver``: as the command line, but nothing at all means ``serve``."""

import sys

from bundleserver.cli import main

main(sys.argv[1:] or ["serve"])
