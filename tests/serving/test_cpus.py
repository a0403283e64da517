"""How many CPUs a process may use, and what its libraries start for them."""

from __future__ import annotations

import os

import pytest

from bundleserver.serving.cpus import blas_within_limit, cpu_limit, cpu_share

ALL = len(os.sched_getaffinity(0))
OLD = "4:memory:/pod/main\n1:cpu,cpuacct:/pod/main\n"
NEW = "0::/pod/main\n"


def quota(hundredths, period=100_000):
    """Return the files of a limit of version 1, in hundredths of a CPU."""
    microseconds = hundredths * period // 100
    return {"cpu.cfs_quota_us": str(microseconds), "cpu.cfs_period_us": str(period)}


def below(directory, files):
    """Put files into a directory."""
    return {f"{directory}/{name}": text for name, text in files.items()}


@pytest.mark.parametrize(
    ("own", "files", "share"),
    [
        ("", {}, ALL),
        (NEW, {"cpu.max": "max 100000"}, ALL),
        (NEW, {"cpu.max": "nonsense"}, ALL),
        (NEW, {"cpu.max": "10000 100000"}, 0.1),
        (NEW, {"cpu.max": "5000 50000"}, 0.1),
        (NEW, {"cpu.max": "100000 100000"}, 1.0),
        (NEW, {"cpu.max": f"{ALL + 1}00000 100000"}, ALL),
        # A container that sees the groups of the whole machine, or a service of systemd.
        (NEW, {"pod/main/cpu.max": "30000 100000"}, 0.3),
        (NEW, {"pod/main/cpu.max": "max 100000", "pod/cpu.max": "20000 100000"}, 0.2),
        (NEW, {"pod/main/cpu.max": "20000 100000", "pod/cpu.max": "30000 100000"}, 0.2),
        (NEW, {"other/cpu.max": "20000 100000"}, ALL),
        ("0::/../pod\n", {"pod/cpu.max": "20000 100000"}, ALL),
        (OLD, below("cpu", quota(10)), 0.1),
        (OLD, below("cpu", quota(50, period=10_000)), 0.5),
        (OLD, below("cpu", {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}), ALL),
        (OLD, below("cpu/pod/main", quota(30)), 0.3),
        (OLD, below("cpu/pod", quota(20)), 0.2),
        (OLD, below("memory/pod", quota(20)), ALL),
        # Both versions are mounted, and one has the CPUs.
        (OLD + NEW, below("cpu", quota(10)), 0.1),
    ],
)
def test_the_share_of_cpus_is_the_least_quota_around_the_process(tmp_path, own, files, share):
    """A limit of either cgroup version counts, of the container or of what it is in."""
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        file = tmp_path / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")

    assert share == cpu_share(tmp_path / "cgroup", tmp_path / "own")


@pytest.mark.parametrize(
    ("quota", "threads"),
    [(1, 1), (10, 1), (50, 1), (99, 1), (100, 1), (101, 2), (150, 2), (ALL * 100 + 50, ALL)],
)
def test_threads_are_the_share_rounded_up(tmp_path, quota, threads):
    """A part of a CPU is one thread, of which there is always one; never more than CPUs."""
    (tmp_path / "cpu.max").write_text(f"{quota}000 100000")

    assert min(threads, ALL) == cpu_limit(tmp_path, tmp_path / "missing")


@pytest.mark.skipif(ALL < 2, reason="one CPU is one thread")
def test_affinity_limits_as_a_quota_does():
    """What a cpuset or taskset leaves is what there is."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert 1 == cpu_limit()
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("given", "inside"),
    [
        ({}, str(cpu_limit())),
        ({"OMP_NUM_THREADS": "3"}, None),
        ({"OPENBLAS_NUM_THREADS": "5"}, "5"),
    ],
)
def test_blas_is_imported_with_as_many_threads_as_cpus(monkeypatch, given, inside):
    """The environment says so while numpy is imported, unless the user has; later it does not."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    with blas_within_limit():
        assert inside == os.environ.get("OPENBLAS_NUM_THREADS")

    assert given.get("OPENBLAS_NUM_THREADS") == os.environ.get("OPENBLAS_NUM_THREADS")
