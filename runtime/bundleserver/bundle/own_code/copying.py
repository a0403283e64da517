"""Copying a bundle's own code into a private directory, each file compared with its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bundleserver.bundle.own_code.finding import is_no_code
from bundleserver.errors import IntegrityError, LoadError, Problem
from bundleserver.frameworks.giving_up import go_on
from bundleserver.frameworks.interface import reading
from bundleserver.frameworks.regular_files import open_regular
from bundleserver.manifest import CODE, CodeFile

MOST_CODE_BYTES = 256 << 20
"""The most bytes of a bundle's own code, with the data that ships beside it."""

_PIECE_BYTES = 1 << 20


def copy_files(directory: Path, files: Iterable[CodeFile], private: Path) -> None:
    """Copy a bundle's code, and link its other files beside it.

    Raises:
        IntegrityError: a file is not the one listed any more.
        LoadError: one cannot be read or copied, or they are too large.
    """
    left = MOST_CODE_BYTES
    for file in files:
        if any(map(is_no_code, file.path.split("/"))):
            continue  # what was compiled elsewhere is not what the source says
        source, place = directory / file.path, private / file.path
        with _writing(source):
            place.parent.mkdir(parents=True, exist_ok=True)
        left -= _copy(source, place, file, left)
        if left < 0:
            raise LoadError(
                f"'{directory / CODE}' has more than {MOST_CODE_BYTES} bytes; save large data "
                "as files beside it, which the code's 'load' is given the directory of"
            )
    (private / CODE).mkdir(exist_ok=True)
    with reading(directory):
        others = [path for path in directory.iterdir() if path.name != CODE]
    for path in others:
        with _writing(path):
            (private / path.name).symlink_to(path.absolute())


def _copy(source: Path, place: Path, file: CodeFile, most: int) -> int:
    """Copy one file, and stop where it has more than so many bytes; return how many it had."""
    digest, copied = hashlib.sha256(), 0
    with reading(source), open_regular(source) as data:
        with _writing(source):
            made = place.open("xb")
        with made:
            while copied <= most and (piece := data.read(_PIECE_BYTES)):
                go_on()
                digest.update(piece)
                copied += len(piece)
                with _writing(source):
                    made.write(piece)
    if copied <= most and file.sha256 not in (None, digest.hexdigest()):
        problem = "was replaced after its digest had been verified, and is not the file listed"
        what = f"{source.parents[file.path.count('/')]} differs from its manifest"
        raise IntegrityError(what, [Problem(file.path, problem)])
    return copied


@contextmanager
def _writing(source: Path) -> Iterator[None]:
    """Turn an OSError in the block into a LoadError that says what to do."""
    try:
        yield
    except OSError as error:
        raise LoadError(
            f"'{source}' cannot be copied before it is used: {error.strerror or error}; make room "
            "in the temporary directory, or set TMPDIR to another one"
        ) from error
