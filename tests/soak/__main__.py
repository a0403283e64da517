"""``python -m tests.soak --minutes 10 --seed 0``: exit status 1 if anything was lost or wrong."""

from __future__ import annotations

import argparse
import signal
import sys

from tests.soak.soak import Soak
from tests.soak.tally import say


def main() -> int:
    """Run a soak and say whether it has passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long it takes")
    parser.add_argument("--seed", type=int, default=0, help="of the directors' order")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        reasons = Soak(given.minutes, given.seed).run()
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    say(f"the soak FAILED: {', '.join(reasons)}" if reasons else "the soak passed")
    return 1 if reasons else 0


if __name__ == "__main__":
    sys.exit(main())
