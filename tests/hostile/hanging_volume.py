"""A volume whose server never answers: a FUSE file system that nobody serves."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DETACH = 2


def why_not() -> str:
    """Return why this machine can have none, or an empty string."""
    if not os.access("/dev/fuse", os.W_OK):
        return "a hanging volume needs /dev/fuse"
    if os.geteuid() != 0:
        return "a hanging volume needs the right to mount"
    return ""


@contextmanager
def hanging_volume(directory: Path) -> Iterator[None]:
    """Mount it; whoever reads the directory hangs until the block ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    connection = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={connection},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    where = os.fsencode(directory)
    if libc.mount(b"hangs", where, b"fuse", 0, options):
        number = ctypes.get_errno()
        os.close(connection)
        raise OSError(number, os.strerror(number), str(directory))
    try:
        yield
    finally:
        os.close(connection)  # which ends whatever hangs
        libc.umount2(where, _DETACH)
