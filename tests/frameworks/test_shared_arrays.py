from __future__ import annotations

import fcntl
import logging
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from bundleserver.frameworks.shared_arrays import SharedArrays, share_arrays_in, shared_arrays

DRAWN = np.random.default_rng(0).normal(size=(300, 1000))

OTHER_WORKER = """
import sys
from pathlib import Path
import numpy as np
from bundleserver.frameworks.shared_arrays import SharedArrays
drawn = np.random.default_rng(0).normal(size=(300, 1000))
array = SharedArrays(Path(sys.argv[1])).share(drawn)
print(array.sum() == drawn.sum(), flush=True)
for line in sys.stdin:
    array[0, 0] = 7.0
    print(array[0, 0], flush=True)
"""


def inodes(pid: int | str = "self") -> set[str]:
    """Return the memory files that a process has mapped."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {line.split()[4] for line in lines if "/memfd:" in line}


def descriptors() -> int:
    """Count the open file descriptors of this process."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@contextmanager
def other_worker(directory: Path):
    """Run a process that shares the drawn array, and writes into it when it is told a line."""
    with subprocess.Popen(
        [sys.executable, "-c", OTHER_WORKER, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert "True\n" == process.stdout.readline()
        yield process
        process.kill()


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(DRAWN, id="C order"),
        pytest.param(np.asfortranarray(DRAWN), id="Fortran order"),
        pytest.param(DRAWN.ravel().astype(">f4"), id="another byte order"),
        pytest.param(DRAWN.reshape(3, 100, 1000)[:2], id="three axes"),
        pytest.param((DRAWN * 1e9).astype("datetime64[ns]"), id="times"),
        pytest.param(np.zeros(200_000, [("a", "i4"), ("b", "f8")]), id="records"),
        pytest.param(np.full(100_000, "ä" * 4), id="text"),
        pytest.param(np.full((1000, 2000), True), id="booleans"),
    ],
)
def test_a_shared_array_is_an_array_like_any_other(tmp_path, array):
    """Datatype, shape, order and every bit are those of what was read, and it can be written to."""
    shared = SharedArrays(tmp_path).share(array)

    assert shared is not array
    assert inodes()
    assert (np.ndarray, array.dtype, array.shape) == (type(shared), shared.dtype, shared.shape)
    assert array.strides == shared.strides
    assert array.tobytes() == shared.tobytes()
    assert shared.flags.writeable
    assert not memoryview(shared.view("V1") if shared.dtype.kind == "M" else shared).readonly


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(DRAWN[:100], id="small"),
        pytest.param(DRAWN[:, ::2], id="with gaps"),
        pytest.param(np.full(200_000, "x", dtype=object), id="objects"),
        pytest.param(np.broadcast_to(1.0, (1000, 1000)), id="repeated"),
        pytest.param(np.ma.masked_array(DRAWN), id="masked"),
        pytest.param(np.asmatrix(DRAWN), id="a matrix"),
    ],
)
def test_what_cannot_be_shared_stays_as_it_is(tmp_path, array):
    """Small arrays, objects, gaps and subclasses are handed back themselves."""
    assert SharedArrays(tmp_path).share(array) is array


def test_processes_map_the_same_memory_and_write_for_themselves(tmp_path):
    """All map one copy, and what one of them writes no other sees."""
    shared = SharedArrays(tmp_path).share(DRAWN)
    with other_worker(tmp_path) as first, other_worker(tmp_path) as second:
        assert inodes() & inodes(first.pid) & inodes(second.pid)
        first.stdin.write("write\n")
        first.stdin.flush()
        assert "7.0\n" == first.stdout.readline()
        again = SharedArrays(tmp_path).share(DRAWN)

    assert DRAWN.tobytes() == shared.tobytes() == again.tobytes()


def test_memory_outlives_the_process_that_made_it(tmp_path):
    """When the first is killed, a later one finds the memory with the others."""
    with other_worker(tmp_path) as first, other_worker(tmp_path) as second:
        made = inodes(first.pid)
        first.send_signal(signal.SIGKILL)
        first.wait()
        with other_worker(tmp_path) as third:
            found = inodes(third.pid)
            kept = inodes(second.pid)

    assert made
    assert made == kept == found


def test_nobody_can_change_shared_memory(tmp_path):
    """Neither writing nor cutting it short gets through, not even from its owner."""
    shared = SharedArrays(tmp_path).share(DRAWN)
    (link,) = tmp_path.iterdir()
    descriptor = os.open(link, os.O_RDWR)
    try:
        with pytest.raises(PermissionError):
            os.write(descriptor, b"other")
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 10)
        with pytest.raises(PermissionError):
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, 0)
    finally:
        os.close(descriptor)

    assert DRAWN.tobytes() == shared.tobytes()


def test_nothing_is_left_when_the_array_is_gone(tmp_path):
    """Mapping, link and descriptors end with the last view of the array."""
    before = inodes(), descriptors()
    shared = SharedArrays(tmp_path).share(DRAWN)
    view = shared[5:, ::3]
    del shared
    during = len(inodes() - before[0]), len(list(tmp_path.iterdir()))
    del view

    assert (1, 1) == during
    assert before == (inodes(), descriptors())
    assert [] == list(tmp_path.iterdir())


def test_a_link_that_leads_elsewhere_is_not_followed(tmp_path):
    """A process number that has a new owner gives nobody the wrong numbers."""
    shared = SharedArrays(tmp_path).share(DRAWN)
    (link,) = tmp_path.iterdir()
    digest = link.name.split("-")[0]
    other = os.memfd_create("other")
    os.write(other, bytes(DRAWN.nbytes))
    unsealed = os.memfd_create(digest, os.MFD_ALLOW_SEALING)
    reading, writing = os.pipe()
    try:
        link.unlink()
        for number, descriptor in enumerate((other, unsealed, reading, writing)):
            (tmp_path / f"{digest}-1-{number}").symlink_to(f"/proc/{os.getpid()}/fd/{descriptor}")
        (tmp_path / f"{digest}-1-9").symlink_to("/proc/self/fd/99999")
        again = SharedArrays(tmp_path).share(DRAWN)
    finally:
        for descriptor in (other, unsealed, reading, writing):
            os.close(descriptor)

    assert DRAWN.tobytes() == again.tobytes() == shared.tobytes()


def test_without_its_directory_arrays_stay_as_they_are(tmp_path, caplog):
    """Where sharing fails the array itself is used, and one line says so, once."""
    sharing = SharedArrays(tmp_path / "gone")
    with caplog.at_level(logging.WARNING):
        kept = [sharing.share(DRAWN), sharing.share(DRAWN)]

    assert all(array is DRAWN for array in kept)
    assert 1 == len(caplog.records)
    assert "each worker keeps arrays of its own, as sharing fails: " in caplog.messages[0]


def test_descriptors_are_left_for_requests(tmp_path):
    """Where more than a quarter of the descriptors is taken nothing is shared, and none is lost."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = descriptors()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken + 10, limits[1]))
        kept = SharedArrays(tmp_path).share(DRAWN)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert kept is DRAWN
    assert taken == descriptors()
    assert [] == list(tmp_path.iterdir())


def test_links_of_processes_that_are_gone_are_cleared_away(tmp_path):
    """A worker that begins takes away what leads nowhere, and leaves everything else."""
    kept = SharedArrays(tmp_path).share(DRAWN)
    (link,) = tmp_path.iterdir()
    (tmp_path / "supervisor.sock").touch()
    (tmp_path / "digest-99999999-4").symlink_to("/proc/99999999/fd/4")
    try:
        share_arrays_in(tmp_path)

        assert isinstance(shared_arrays(), SharedArrays)
        assert {link.name, "supervisor.sock"} == {path.name for path in tmp_path.iterdir()}
    finally:
        share_arrays_in(None)
    assert shared_arrays() is None
    assert DRAWN.tobytes() == kept.tobytes()
