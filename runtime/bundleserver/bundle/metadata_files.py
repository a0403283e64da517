"""The one way to read the small files that say what a directory is: manifests, configurations.

Anybody who may write into a volume may put anything in their place: a pipe that never ends, a link
to a device, a file of many gigabytes. Reading one costs little whatever it is, and never waits.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from bundleserver.frameworks.regular_files import open_regular

MANIFEST_BYTES = 4 << 20
"""The most bytes of a file with metadata."""

CONFIG_BYTES = 256 << 10
"""The most bytes of a ``serving.json``."""


def read_metadata(path: Path, most_bytes: int = MANIFEST_BYTES) -> bytes:
    """Return the content of a regular file, or of the one that a link leads to.

    Raises:
        OSError: it cannot be read, is no regular file, or has more bytes; ``strerror`` says which.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        # One that grows or shrinks meanwhile gives what is there, up to the limit.
        data = b"" if size > most_bytes else file.read(most_bytes + 1)
    if max(size, len(data)) > most_bytes:
        text = f"it has {max(size, len(data))} bytes; '{path.name}' may have {most_bytes}"
        raise OSError(errno.EFBIG, text, str(path))
    return data
