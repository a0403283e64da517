"""Run the tests; the few that fail are run once more alone, and reported by name.

Real processes on a busy machine may miss a deadline once. At most two tests in a run may need to be
repeated, and have to pass then.
"""

import subprocess
import sys
from pathlib import Path

import pytest

MOST_REPEATED = 2
REPORT = Path("build", "repeated-tests.txt")


class FailedTests:
    """Notes which tests failed, or which files cannot be imported, in all worker processes."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.failed and report.nodeid not in self.names:
            self.names.append(report.nodeid)

    pytest_collectreport = pytest_runtest_logreport


def main(arguments: list[str]) -> int:
    """Run pytest with these arguments; return 0 if every test passed, a few at the second try."""
    failed = FailedTests()
    code = int(pytest.main(arguments, plugins=[failed]))
    names = failed.names
    if code == pytest.ExitCode.TESTS_FAILED and 0 < len(names) <= MOST_REPEATED:
        codes = [_run_alone(name) for name in names]
        code = max(codes)
        lines = [
            f"repeated: {name} {'failed again' if again else 'passed'}"
            for name, again in zip(names, codes, strict=True)
        ]
    else:
        lines = [f"failed, not repeated: {name}" for name in names]
    if len(names) > MOST_REPEATED:
        lines.append(f"{len(names)} tests failed; at most {MOST_REPEATED} are repeated")
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text("".join(f"{line}\n" for line in lines))
    sys.stdout.write(REPORT.read_text())
    return code


def _run_alone(name: str) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", name], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
