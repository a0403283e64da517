"""What the pickles in a directory name, without running any of it: for the operator's list."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from bundleserver.errors import LoadError
from bundleserver.frameworks.file_names import suffix_of
from bundleserver.frameworks.pickles.gate.listed import is_listed, name_today
from bundleserver.frameworks.pickles.gate.listing import why_never
from bundleserver.frameworks.pickles.made import ClassName
from bundleserver.frameworks.pickles.scan import inspect_pickle, named_classes
from bundleserver.frameworks.regular_files import open_regular
from bundleserver.frameworks.trust import CodeTrust

_SUFFIXES = frozenset(
    {
        ".bin", ".ckpt", ".dat", ".joblib", ".model", ".pickle", ".pk", ".pkl", ".pt", ".pt2",
        ".pth", ".sav", ".zip",
    }
)  # fmt: skip
_ZIP = b"PK\x03\x04"
_LEGACY_TORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_OF_LEGACY = 5
_MOST_MEMBERS = 200
_DEEPEST = 3
_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


@dataclass(frozen=True)
class Needed:
    """One class or function that a pickle names.

    Attributes:
        name: its name.
        is_listed: the built-in list has it.
        why_never: why no list can have it; empty if one can.
    """

    name: str
    is_listed: bool
    why_never: str


@dataclass(frozen=True)
class Needs:
    """What one file names; ``problem`` says why that may not be all."""

    path: Path
    names: tuple[Needed, ...]
    problem: str = ""


def needs_below(directory: Path) -> Iterator[Needs]:
    """Yield what each pickle in a directory names, and each file of torch, in their order."""
    if not directory.is_dir():
        yield _needs_of(directory)
        return
    for folder, folders, files in os.walk(directory):
        folders.sort()
        for name in sorted(files):
            path = Path(folder, name)
            if suffix_of(name) in _SUFFIXES and path.is_file():
                yield _needs_of(path)


def _needs_of(path: Path) -> Needs:
    problem = ""
    named: Iterable[ClassName] = ()
    try:
        with open_regular(path) as file:
            head = file.peek(16)[:16]
            if head.startswith(_ZIP):
                named = set(_in_zip(file, path.stat().st_size, 0))
            elif head.startswith(_LEGACY_TORCH):
                named = set(named_classes(file, path.stat().st_size, _OF_LEGACY))
            else:
                contents = inspect_pickle(path)
                named = contents.named
                problem = "" if contents.failure is None else "damaged, or not only a pickle"
    except (OSError, LoadError, zipfile.BadZipFile) as error:
        problem = str(error)
    names = sorted({name_today(name) for name in named if name.module != "?"})
    return Needs(path, tuple(map(_needed, names)), problem)


def _needed(name: str) -> Needed:
    reason = why_never(name) if _NAME.fullmatch(name) else "it is no name of a class or function"
    listed = is_listed(name, CodeTrust())
    return Needed(name, listed, "" if listed else reason)


def _in_zip(file: BinaryIO, size: int, depth: int) -> Iterator[ClassName]:
    """Name the classes in the pickles of an archive, and of the archives inside of it."""
    with zipfile.ZipFile(file) as archive:
        members = archive.namelist()
        if any(name.endswith("constants.pkl") for name in members):
            return  # TorchScript, which nothing unpickles
        for name in members[:_MOST_MEMBERS]:
            with suppress(zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError):
                yield from _in_member(archive, name, size, depth)


def _in_member(archive: zipfile.ZipFile, name: str, size: int, depth: int) -> Iterator[ClassName]:
    if suffix_of(name) not in _SUFFIXES:
        return
    with archive.open(name) as member:
        is_zip = member.read(len(_ZIP)) == _ZIP
    with archive.open(name) as member:
        if not is_zip:
            yield from named_classes(cast(BinaryIO, member), size)
        elif depth < _DEEPEST:
            yield from _in_zip(cast(BinaryIO, member), size, depth + 1)
