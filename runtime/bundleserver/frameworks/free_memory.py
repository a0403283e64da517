"""How much memory there is to open a file in: of the container, else of the machine."""

from __future__ import annotations

import sys
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_MACHINE = Path("/proc/meminfo")


def free_memory(cgroup: Path = _CGROUP, machine: Path = _MACHINE) -> int:
    """Return the bytes that can be had now; what the system would give back counts as free.

    Where nothing tells, the largest number.
    """
    found = (
        _left(cgroup, "memory.max", "memory.current", ""),
        _left(cgroup / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
        _table(machine).get("MemAvailable:", sys.maxsize >> 10) << 10,
    )
    return min(found)


def _left(directory: Path, limit: str, used: str, prefix: str) -> int:
    """Return what is left of a limit; cached content of files is not used."""
    try:
        most = int((directory / limit).read_text())
        now = int((directory / used).read_text())
    except (OSError, ValueError):  # no such limit, or "max"
        return sys.maxsize
    facts = _table(directory / "memory.stat")
    cached = sum(facts.get(f"{prefix}{name}", 0) for name in ("active_file", "inactive_file"))
    return max(0, most - now + cached)


def _table(path: Path) -> dict[str, int]:
    """Read lines of a name and a number."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {line[0]: int(line[1]) for line in lines if len(line) > 1 and line[1].isdigit()}
