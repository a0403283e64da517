import re
import subprocess
import sys

SCRIPT = """
import logging
from bundleserver.serving.logs.config import set_up_logging
from bundleserver.serving.options import ServerOptions

set_up_logging(ServerOptions(log_level="{level}"))
logging.getLogger("bundleserver.manager").info("fraud 7: warming")
"""


def lines_at(level):
    """Log one line at INFO in a process of its own and return what came out."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(level=level)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stderr.splitlines()


def test_our_lines_have_time_level_and_logger():
    """A line of ours says when, how bad, who, and what, and no place in the source."""
    (line,) = lines_at("info")

    expected = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} INFO bundleserver\.manager: fraud 7: warming"
    assert re.fullmatch(expected, line), line


def test_lines_below_the_level_are_left_out():
    """The flag --log_level decides what is written."""
    assert [] == lines_at("warning")
