"""What the pickles in a directory name, without running any of it: for the operator's list."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

from bundleserver.errors import LoadError
from bundleserver.frameworks.file_names import suffix_of
from bundleserver.frameworks.pickles.gate.listed import is_listed, name_today
from bundleserver.frameworks.pickles.gate.listing import why_never
from bundleserver.frameworks.pickles.made import ClassName
from bundleserver.frameworks.pickles.scan import Scan, inspect_pickle, named_classes
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
_MOST_PROBLEMS = 5
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
    scan = Scan()
    named: Iterable[ClassName] = ()
    try:
        with open_regular(path) as file:
            head = file.peek(16)[:16]
            if head.startswith(_ZIP):
                named = set(_in_zip(file, path.stat().st_size, 0, scan))
            elif head.startswith(_LEGACY_TORCH):
                named = set(named_classes(file, path.stat().st_size, _OF_LEGACY, scan))
            else:
                contents = inspect_pickle(path)
                named = contents.named
                if contents.failure is not None:
                    reason = f"it is damaged, or not only a pickle: {contents.failure!s:.200}"
                    scan.problems.setdefault(" ".join(reason.split()))
                if contents.unnamed:
                    scan.problems.setdefault(contents.unnamed)
    except (OSError, LoadError, zipfile.BadZipFile) as error:
        scan.problems.setdefault(str(error))
    problem = "; ".join(islice(scan.problems, _MOST_PROBLEMS))
    if problem:
        problem += "; --pickle_policy=listed opens nothing of it that no list has, 'any' runs it"
    names = sorted({name_today(name) for name in named if name.module != "?"})
    return Needs(path, tuple(map(_needed, names)), problem)


def _needed(name: str) -> Needed:
    reason = why_never(name) if _NAME.fullmatch(name) else "it is no name of a class or function"
    listed = is_listed(name, CodeTrust())
    return Needed(name, listed, "" if listed else reason)


def _in_zip(file: BinaryIO, size: int, depth: int, scan: Scan) -> Iterator[ClassName]:
    """Name the classes in the pickles of an archive, and of the archives inside of it."""
    with zipfile.ZipFile(file) as archive:
        members = [name for name in archive.namelist() if suffix_of(name) in _SUFFIXES]
        if any(name.endswith("constants.pkl") for name in members):
            scan.problems.setdefault("it has 'constants.pkl' as TorchScript, which is code, has")
        # What torch.load reads comes first.
        members.sort(key=lambda name: not name.endswith("data.pkl"))
        if len(members) > _MOST_MEMBERS:
            scan.problems.setdefault(f"of its {len(members)} pickles {_MOST_MEMBERS} were read")
        for name in members[:_MOST_MEMBERS]:
            try:
                found = _in_member(archive, name, size, depth, scan)
                # TorchScript's own types are defined in the archive.
                yield from (one for one in found if not one.module.startswith("__torch__"))
            except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError) as error:
                scan.problems.setdefault(f"'{name:.60}' cannot be read: {error!s:.100}")


def _in_member(
    archive: zipfile.ZipFile, name: str, size: int, depth: int, scan: Scan
) -> Iterator[ClassName]:
    with archive.open(name) as member:
        is_zip = member.read(len(_ZIP)) == _ZIP
    with archive.open(name) as member:
        if not is_zip:
            yield from named_classes(cast(BinaryIO, member), size, 1, scan)
        elif depth < _DEEPEST:
            yield from _in_zip(cast(BinaryIO, member), size, depth + 1, scan)
        else:
            scan.problems.setdefault("it has archives inside of each other that were not read")
