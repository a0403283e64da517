"""How many CPUs this process may use, and keeping the libraries' own threads within them."""

from __future__ import annotations

import logging
import math
import os
import sys
from pathlib import Path

LOG = logging.getLogger(__name__)

CGROUP = Path("/sys/fs/cgroup")


def cpu_limit(cgroup: Path = CGROUP) -> int:
    """Return how many CPUs this process may use: its affinity, limited by the container's quota."""
    if hasattr(os, "sched_getaffinity"):
        available = len(os.sched_getaffinity(0))
    else:
        available = os.cpu_count() or 1
    quota = _quota_v2(cgroup / "cpu.max") or _quota_v1(cgroup / "cpu") or math.inf
    return max(1, min(available, math.ceil(quota) if quota < math.inf else available))


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


def _quota_v2(file: Path) -> float | None:
    quota, _, period = _read(file).partition(" ")
    return _ratio(quota, period)


def _quota_v1(directory: Path) -> float | None:
    return _ratio(_read(directory / "cpu.cfs_quota_us"), _read(directory / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> float | None:
    """Divide two counts of microseconds; None where there is no limit (``max`` or -1)."""
    microseconds, per = _integer(quota), _integer(period)
    return microseconds / per if microseconds and per else None


def _integer(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
