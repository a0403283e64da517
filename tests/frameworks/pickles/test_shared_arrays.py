from __future__ import annotations

import fcntl
import io
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from bundleserver.frameworks.pickles.shared_arrays import (
    SharedArrays,
    share_arrays_in,
    shared_arrays,
)

CONTENT = np.random.default_rng(0).bytes(2**21 + 5)

OTHER_WORKER = """
import io
import sys
from pathlib import Path
import numpy as np
from bundleserver.frameworks.pickles.shared_arrays import SharedArrays
content = np.random.default_rng(0).bytes(2**21 + 5)
memory = SharedArrays(Path(sys.argv[1])).read(io.BytesIO(content), len(content))
print(memory[:] == content, flush=True)
for line in sys.stdin:
    memory[0] = 7
    print(memory[0], flush=True)
"""


def share(directory: Path, content: bytes = CONTENT):
    """Read bytes as a worker of this directory does."""
    return SharedArrays(directory).read(io.BytesIO(content), len(content))


def inodes(pid: int | str = "self") -> set[str]:
    """Return the memory files that a process has mapped."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {line.split()[4] for line in lines if "/memfd:" in line}


def descriptors() -> int:
    """Count the open file descriptors of this process."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@contextmanager
def other_worker(directory: Path):
    """Run a process that shares the same bytes, and writes into them when it is told a line."""
    with subprocess.Popen(
        [sys.executable, "-c", OTHER_WORKER, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert "True\n" == process.stdout.readline()
        yield process
        process.kill()


def test_shared_memory_has_what_was_read_and_may_be_written_to(tmp_path):
    """Its bytes are those of the stream, which goes on behind them."""
    stream = io.BytesIO(CONTENT + b"more")
    memory = SharedArrays(tmp_path).read(stream, len(CONTENT))

    assert CONTENT == memory[:]
    assert b"more" == stream.read()
    assert not memoryview(memory).readonly


def test_processes_map_the_same_memory_and_write_for_themselves(tmp_path):
    """All map one copy, and what one of them writes no other sees."""
    memory = share(tmp_path)
    with other_worker(tmp_path) as first, other_worker(tmp_path) as second:
        assert inodes() & inodes(first.pid) & inodes(second.pid)
        first.stdin.write("write\n")
        first.stdin.flush()
        assert "7\n" == first.stdout.readline()
        again = share(tmp_path)

    assert CONTENT == memory[:] == again[:]


def test_one_process_maps_equal_bytes_once(tmp_path):
    """Versions that have an array in common share it; other bytes are other memory."""
    before = inodes()
    kept = [share(tmp_path), share(tmp_path), share(tmp_path, CONTENT[::-1])]

    assert 2 == len(inodes() - before)
    assert [CONTENT, CONTENT, CONTENT[::-1]] == [memory[:] for memory in kept]


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
    memory = share(tmp_path)
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

    assert CONTENT == memory[:]


def test_nothing_is_left_when_the_last_array_is_gone(tmp_path):
    """Mapping, link and descriptors end with the last view of the memory."""
    before = inodes(), descriptors()
    view = np.frombuffer(share(tmp_path), np.uint8)[5::3]
    during = len(inodes() - before[0]), len(list(tmp_path.iterdir()))
    del view

    assert (1, 1) == during
    assert before == (inodes(), descriptors())
    assert [] == list(tmp_path.iterdir())


def test_a_link_that_leads_elsewhere_is_not_followed(tmp_path):
    """A process number that has a new owner gives nobody the wrong bytes."""
    memory = share(tmp_path)
    (link,) = tmp_path.iterdir()
    digest, inode, *_ = link.name.split("-")
    sealed = share(tmp_path, CONTENT[::-1])
    (other,) = [found.readlink() for found in tmp_path.iterdir() if found != link]
    unsealed = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    os.truncate(unsealed, len(CONTENT))
    os.mkfifo(tmp_path / "pipe")  # whoever opens it must not wait for somebody who writes
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        link.unlink()
        for number in (unsealed, reading, 99_999):
            target = f"/proc/{os.getpid()}/fd/{number}"
            (tmp_path / f"{digest}-{inode}-1-{number}").symlink_to(target)
            found = Path(target).stat().st_ino if number == unsealed else inode
            (tmp_path / f"{digest}-{found}-2-{number}").symlink_to(target)
        (tmp_path / f"{digest}-{inode}-3-3").symlink_to(other)
        again = share(tmp_path)
    finally:
        for number in (unsealed, reading):
            os.close(number)

    assert CONTENT == memory[:] == again[:] == sealed[::-1]


def test_what_fails_leaves_nothing_open(tmp_path):
    """Without a directory, and with too few bytes, an error says so and no descriptor is lost."""
    before = descriptors()

    with pytest.raises(FileNotFoundError, match="gone"):
        share(tmp_path / "gone")
    with pytest.raises(EOFError, match="an array ends 10 bytes too early"):
        SharedArrays(tmp_path).read(io.BytesIO(CONTENT), len(CONTENT) + 10)
    assert before == descriptors()
    assert [] == list(tmp_path.iterdir())


def test_descriptors_are_left_for_requests(tmp_path):
    """Where more than a quarter of the descriptors is taken nothing is shared, and none is lost."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = descriptors()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken + 10, limits[1]))
        with pytest.raises(OSError, match="Too many open files"):
            share(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert taken == descriptors()
    assert [] == list(tmp_path.iterdir())


def test_links_of_processes_that_are_gone_are_cleared_away(tmp_path):
    """A worker that begins takes away what leads nowhere, and leaves everything else."""
    memory = share(tmp_path)
    (link,) = tmp_path.iterdir()
    (tmp_path / "supervisor.sock").touch()
    (tmp_path / "digest-1-99999999-4").symlink_to("/proc/99999999/fd/4")
    try:
        share_arrays_in(tmp_path)

        assert isinstance(shared_arrays(), SharedArrays)
        assert {link.name, "supervisor.sock"} == {path.name for path in tmp_path.iterdir()}
    finally:
        share_arrays_in(None)
    assert shared_arrays() is None
    assert CONTENT == memory[:]
