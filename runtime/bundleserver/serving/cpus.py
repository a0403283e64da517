"""How many CPUs this process may use, and keeping the libraries' own threads within them."""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOG = logging.getLogger(__name__)

_CGROUP = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def cpu_limit(cgroup: Path = _CGROUP, own: Path = _OWN) -> int:
    """Return on how many threads this process may compute: its share of CPUs, rounded up."""
    return max(1, math.ceil(cpu_share(cgroup, own)))


def cpu_share(cgroup: Path = _CGROUP, own: Path = _OWN) -> float:
    """Return how many CPUs this process may use, 0.1 of one too.

    That is its affinity, limited by the quotas of its control groups, of either version.
    """
    if hasattr(os, "sched_getaffinity"):
        available = len(os.sched_getaffinity(0))
    else:
        available = os.cpu_count() or 1
    return min(available, *_quotas(cgroup, own))


@contextmanager
def blas_within_limit() -> Iterator[None]:
    """Let the BLAS that numpy brings start no more threads than there are CPUs.

    It starts them when it is imported, for all CPUs of the machine, whatever the container's limit
    is. A number that the user has set stays.
    """
    names = {"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"}
    wanted = {} if names & os.environ.keys() else {"OPENBLAS_NUM_THREADS": str(cpu_limit())}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name in wanted:
            os.environ.pop(name, None)


def limit_library_threads(threads: int) -> None:
    """Let each OpenMP, BLAS and torch call of the calling thread use at most ``threads`` threads.

    OpenMP's limit is per thread, so every thread of the pool calls this. Libraries that are loaded
    later use the environment; a value set by the user stays. A library's error is only logged.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    wanted = min(threads, _integer(os.environ["OMP_NUM_THREADS"]) or threads)
    try:
        _limit_loaded_libraries(wanted)
    except Exception as error:  # noqa: BLE001  # libraries' own code
        LOG.warning("libraries may use more than %d threads per call: %r", wanted, error)


def _limit_loaded_libraries(threads: int) -> None:
    # While another thread is importing torch, the function is not there yet.
    set_threads_of_torch = getattr(sys.modules.get("torch"), "set_num_threads", None)
    if set_threads_of_torch is not None:
        set_threads_of_torch(threads)
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return  # It comes with scikit-learn; without it the environment is the only limit.
    threadpool_limits(limits=threads)


def _quotas(cgroup: Path, own: Path) -> Iterator[float]:
    """Yield the quota of each group that this process is in; infinity is that of the root."""
    yield math.inf
    new, old = _groups(own)
    for group in new:
        quota, _, period = _read(cgroup / group / "cpu.max").partition(" ")
        yield _ratio(quota, period)
    for group in old:
        directory = cgroup / "cpu" / group
        yield _ratio(_read(directory / "cpu.cfs_quota_us"), _read(directory / "cpu.cfs_period_us"))


def _groups(own: Path) -> tuple[set[Path], set[Path]]:
    """Return the process's groups of both versions, each with those that it is in, to the root.

    In a container the root is its own group, whatever path the system names.
    """
    found = ({Path()}, {Path()})
    for line in _read(own).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        group = Path(path.lstrip("/"))
        is_old = "cpu" in controllers.split(",")
        if ".." not in group.parts and (is_old or not controllers):
            found[is_old].update((group, *group.parents))
    return found


def _ratio(quota: str, period: str) -> float:
    """Divide two counts of microseconds; infinity where there is no limit (``max`` or -1)."""
    microseconds, per = _integer(quota), _integer(period)
    return microseconds / per if microseconds and per else math.inf


def _integer(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
