"""A view of a directory that takes as long as it is told to: a file system in user space (FUSE).

Speaks the kernel's protocol itself, so that nothing has to be installed; read-only, as the volume
of an InferenceService is. Needs root and ``/dev/fuse``.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

_DEVICE = Path("/dev/fuse")
_THREADS = 16
"""How many operations may be slow at once; others wait for one of them."""

_READ_ONLY_NODEV_NOSUID, _DETACH = 1 | 4 | 2, 2
_MOST_BYTES = 2**17 + 4096

_IN = struct.Struct("=IIQQIIIHH")
_OUT = struct.Struct("=IiQ")
_ATTRIBUTES = struct.Struct("=6Q10I")
_ENTRY = struct.Struct("=4Q2I")
_FRESH = 0
"""Seconds that the kernel may keep what it was told: each look is an operation."""


def why_not() -> str:
    """Return why this machine has no such view; empty if it can have one."""
    if os.geteuid() or not _DEVICE.exists():
        return "a slow view of a directory needs root, and /dev/fuse"
    return ""


@contextlib.contextmanager
def slow_view(of: Path, at: Path) -> Iterator[SlowView]:
    """Show a directory at another one, from a process of its own, for the block."""
    with subprocess.Popen(
        [sys.executable, __file__, of, at],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # it ends when its input does, not at Ctrl-C
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert "mounted\n" == process.stdout.readline(), "the view could not be mounted"
            yield SlowView(process)
        finally:
            # Whoever is still in it is answered that it is gone.
            process.stdin.close()
            process.wait(20)


class SlowView:
    """Tells the process how slow to be."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def be_slow(self, seconds: float) -> None:
        """Let each operation take so long from now on; those that wait are let go."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        self._process.stdout.readline()

    def operations(self) -> int:
        """Return how many operations there were so far."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("count\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


class Slowness:
    """How long an operation takes; whoever waits is let go when it changes."""

    def __init__(self) -> None:
        self._changed = threading.Event()
        self._seconds = 0.0

    def become(self, seconds: float) -> None:
        before, self._changed, self._seconds = self._changed, threading.Event(), seconds
        before.set()

    def wait(self) -> None:
        if self._seconds:
            self._changed.wait(self._seconds)


class _Nodes:
    """The kernel's numbers of what it has looked up, and where that is."""

    def __init__(self, root: Path) -> None:
        self._lock = threading.Lock()
        self._paths = {1: str(root)}
        self._numbers: dict[tuple[int, int], int] = {}

    def path(self, node: int) -> str:
        with self._lock:
            return self._paths[node]

    def number(self, path: str, found: os.stat_result) -> int:
        """Return the number of a file; one whose inode was used before with another kind is new."""
        key = found.st_ino, found.st_mode >> 12
        with self._lock:
            number = self._numbers.setdefault(key, len(self._numbers) + 2)
            self._paths[number] = path
        return number


class _View:
    def __init__(self, root: Path, slowness: Slowness) -> None:
        self._nodes, self._slowness = _Nodes(root), slowness
        self.operations = 0
        self._answers = {
            1: self._lookup,
            3: self._attributes_of,
            5: self._link,
            14: self._open,
            15: self._read,
            17: self._statfs,
            18: self._release,
            25: lambda *_: b"",
            26: self._begin,
            27: lambda *_: struct.pack("=QII", 0, 0, 0),
            28: self._list,
            29: lambda *_: b"",
        }

    def serve(self, device: int) -> None:
        """Answer what the kernel asks until the view is unmounted."""
        while True:
            try:
                asked = os.read(device, _MOST_BYTES)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                    continue
                return  # unmounted
            _, kind, unique, node, *_ = _IN.unpack_from(asked)
            if kind in (2, 36, 42):  # to forget and to interrupt have no answer
                continue
            self.operations += 1
            if kind != 26:
                self._slowness.wait()
            code, answer = self._answer(kind, node, asked[_IN.size :])
            with contextlib.suppress(OSError):  # who asked was interrupted, or is gone
                os.write(device, _OUT.pack(_OUT.size + len(answer), -code, unique) + answer)

    def _answer(self, kind: int, node: int, body: bytes) -> tuple[int, bytes]:
        answer = self._answers.get(kind)
        if answer is None:
            return errno.ENOSYS, b""
        try:
            return 0, answer(node, body)
        except OSError as error:
            return error.errno or errno.EIO, b""

    def _begin(self, _: int, body: bytes) -> bytes:
        _, _, ahead, flags = struct.unpack_from("=4I", body)
        # Several operations at once, as of a network's volume: reads, and looks into a directory.
        flags &= 1 | 1 << 18
        return struct.pack("=4I2H2I2H8I", 7, 31, ahead, flags, 64, 48, 2**17, 1, 32, 0, *[0] * 8)

    def _lookup(self, node: int, body: bytes) -> bytes:
        path = f"{self._nodes.path(node)}/{os.fsdecode(body.rstrip(bytes(1)))}"
        found = os.lstat(path)
        number = self._nodes.number(path, found)
        return _ENTRY.pack(number, 0, _FRESH, _FRESH, 0, 0) + _attributes(found)

    def _attributes_of(self, node: int, _: bytes) -> bytes:
        return struct.pack("=QII", _FRESH, 0, 0) + _attributes(os.lstat(self._nodes.path(node)))

    def _link(self, node: int, _: bytes) -> bytes:
        return bytes(Path(self._nodes.path(node)).readlink())

    def _open(self, node: int, _: bytes) -> bytes:
        return struct.pack("=QII", os.open(self._nodes.path(node), os.O_RDONLY), 0, 0)

    def _read(self, _: int, body: bytes) -> bytes:
        handle, offset, size = struct.unpack_from("=QQI", body)
        return os.pread(handle, size, offset)

    def _release(self, _: int, body: bytes) -> bytes:
        os.close(struct.unpack_from("=Q", body)[0])
        return b""

    def _statfs(self, node: int, _: bytes) -> bytes:
        found = os.statvfs(self._nodes.path(node))
        blocks = found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree
        return struct.pack(
            "=5Q10I", *blocks, found.f_bsize, found.f_namemax, found.f_frsize, *[0] * 7
        )

    def _list(self, node: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("=QQI", body)
        names, listed = sorted(it.name for it in Path(self._nodes.path(node)).iterdir()), b""
        for position, name in enumerate(names[offset:], offset + 1):
            raw = os.fsencode(name)
            entry = struct.pack("=QQII", position, position, len(raw), 0) + raw
            entry += bytes(-len(entry) % 8)
            if len(listed) + len(entry) > size:
                break
            listed += entry
        return listed


def _attributes(found: os.stat_result) -> bytes:
    times = found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns
    whole = [time // 10**9 for time in times]
    rest = [time % 10**9 for time in times]
    who = found.st_mode, found.st_nlink, found.st_uid, found.st_gid, found.st_rdev & 0xFFFFFFFF
    return _ATTRIBUTES.pack(
        found.st_ino, found.st_size, found.st_blocks, *whole, *rest, *who, found.st_blksize, 0
    )


def main(of: Path, at: Path) -> None:
    """Mount the view, follow what standard input says, and unmount it at its end."""
    libc, device = ctypes.CDLL(None, use_errno=True), os.open(_DEVICE, os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions"
    if libc.mount(b"slow", bytes(at), b"fuse.slow", _READ_ONLY_NODEV_NOSUID, options.encode()):
        raise OSError(ctypes.get_errno(), "cannot mount", str(at))
    slowness = Slowness()
    view = _View(of, slowness)
    for _ in range(_THREADS):
        threading.Thread(target=view.serve, args=(device,), daemon=True).start()
    sys.stdout.write("mounted\n")
    sys.stdout.flush()
    for line in sys.stdin:
        if line != "count\n":
            slowness.become(float(line))
        sys.stdout.write(f"{view.operations}\n")
        sys.stdout.flush()
    slowness.become(0)
    libc.umount2(bytes(at), _DETACH)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
