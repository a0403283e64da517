"""Memory: how much there is to open a file in, and which errors say that there is none."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
_MACHINE = Path("/proc/meminfo")


def free_memory(cgroup: Path = _CGROUP, machine: Path = _MACHINE, own: Path = _OWN) -> int:
    """Return the bytes that can be had now; what the system would give back counts as free.

    Where nothing tells, the largest number.
    """
    new, old = _groups(own)
    found = [_table(machine).get("MemAvailable:", sys.maxsize >> 10) << 10]
    found += [_left(cgroup / it, "memory.max", "memory.current", "") for it in new]
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
    found += [_left(cgroup / "memory" / it, *names) for it in old]
    return min(found)


def _groups(own: Path) -> tuple[list[Path], list[Path]]:
    """Return the process's groups of both versions, each with those that it is in, to the root.

    In a container the root is its own group, and often no other can be seen.
    """
    found = ([Path()], [Path()])
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        group = Path(path.lstrip("/"))
        is_old = "memory" in controllers.split(",")
        if ".." not in group.parts and (is_old or not controllers):
            found[is_old].extend([group, *group.parents])
    return found


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


_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "std::bad_alloc")
"""What libraries say in errors of theirs; Python's own may have a client's words."""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Tell whether a library's error, or its cause, says that there is too little memory."""
    for _ in range(16):  # causes may be a circle
        if error is None:
            break
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        is_librarys = isinstance(error, RuntimeError) or type(error).__module__ != "builtins"
        if is_librarys and any(words in _text_of(error) for words in _NO_MEMORY):
            return True
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False


def _text_of(error: BaseException) -> str:
    try:
        return str(error).lower()
    except Exception:  # noqa: BLE001  # of a library's own error
        return ""
