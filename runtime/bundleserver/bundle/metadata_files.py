"""The one way to read the small files that say what a directory is: manifests, configurations.

Anybody who may write into a volume may put anything in their place: a pipe that never ends, a link
to a device, a file of many gigabytes. Reading one costs little whatever it is, and never waits.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import cast

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


def read_json(path: Path, most_bytes: int, most_values: int) -> object:
    """Return the document in a JSON file that a program wrote.

    Raises:
        OSError: it cannot be read, is no regular file, or has more bytes.
        ValueError: it is not JSON, is nested too deep, or has more values.
    """
    data = read_metadata(path, most_bytes)
    count_values(data, most_values)
    try:
        return cast(object, json.loads(data))
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def count_values(data: bytes, most: int) -> None:
    """Count the values of a JSON text before they are built, at most too many: also in strings.

    Raises:
        ValueError: there are more.
    """
    count = sum(map(data.count, (b",", b"[", b"{")))
    if count > most:
        raise ValueError(f"has {count} values; expected at most {most}")
