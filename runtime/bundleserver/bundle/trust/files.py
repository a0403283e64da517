"""The files of a signed directory: which there are, and a private copy of what was signed.

Nothing is opened but the copy. Each file is compared with its signed digest while it is copied, so
that what was verified is what is opened, whatever somebody else writes meanwhile; and what is not
signed is not in the copy, so that nothing can be opened from it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from bundleserver.bundle.trust.statement import Piece, Statement
from bundleserver.bundle.trust.verification import SIGNATURE_NAME
from bundleserver.errors import LoadError, Problem
from bundleserver.frameworks.giving_up import go_on
from bundleserver.frameworks.regular_files import kind_of
from bundleserver.manifest import MANIFEST_NAME
from bundleserver.versions.serving_config import CONFIG_NAME

NEVER_SIGNED = (SIGNATURE_NAME, CONFIG_NAME)
"""Files of a version's directory that are no part of the version."""

_OF_GIT = frozenset({".git", ".gitattributes", ".github", ".gitignore"})
"""What the format itself leaves out at the top of a directory."""

_OF_MLFLOW = frozenset({"MLmodel", "requirements.txt"})
"""What ``push`` adds for MLflow, which reads them; here a manifest stands for both."""

_MOST_ENTRIES = 100_000
_PIECE_BYTES = 1 << 20


@dataclass
class Found:
    """What is in a directory.

    Attributes:
        files: regular files by their paths in it.
        problems: links and whatever else is no file.
        passed_over: names that are no part of any version, such as those of NFS.
    """

    files: dict[str, Path] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)


def find_files(
    directory: Path,
    statement: Statement | None = None,
    own_files: Collection[str] = (),
    only: Collection[str] | None = None,
) -> Found:
    """Find every file of a directory, hidden ones and those of directories in it included.

    Args:
        directory: links in it are not followed.
        statement: what was signed; beside its manifest MLflow's own files are passed over.
        own_files: names at the top that are no part of the version.
        only: the names at the top to look at; None is all.

    Raises:
        OSError: it cannot be read.
    """
    found = Found()
    waiting, count = [(directory, "")], 0
    while waiting:
        folder, prefix = waiting.pop()
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
        for entry in listed:
            go_on()
            if not (prefix or only is None or entry.name in only):
                continue
            count += 1
            if count > _MOST_ENTRIES:
                found.problems.append(Problem("", f"has more than {_MOST_ENTRIES} files"))
                return found
            name = prefix + entry.name
            if _is_no_part(name, entry, statement, own_files):
                found.passed_over.append(name)
            elif entry.is_symlink():
                what = "is a link; a signature covers files only, so put the file itself there"
                found.problems.append(Problem(name, what))
            elif entry.is_dir():
                waiting.append((Path(entry.path), f"{name}/"))
            elif entry.is_file():
                found.files[name] = Path(entry.path)
            else:
                kind = kind_of(entry.stat(follow_symlinks=False))
                found.problems.append(Problem(name, f"is {kind}; a signature covers files only"))
    return found


def _is_no_part(
    name: str, entry: os.DirEntry[str], statement: Statement | None, own_files: Collection[str]
) -> bool:
    """Ask whether an entry is no part of the version; nothing is opened from it then.

    Whoever signs cannot add to it: what else a signature leaves out, nobody vouches for.
    """
    if statement is not None and name in statement.files:
        return False
    if name in NEVER_SIGNED or name in own_files:
        return True
    if name in _OF_GIT:
        return statement is None or not statement.has_below(name)
    if name == "lost+found":
        return entry.is_dir(follow_symlinks=False)
    if entry.name.startswith(".nfs"):
        return entry.is_file(follow_symlinks=False)
    if statement is None:
        return False
    is_of_mlflow = name in _OF_MLFLOW and MANIFEST_NAME in statement.files
    return is_of_mlflow and entry.is_file(follow_symlinks=False)


def linked_directory(directory: Path) -> Path | None:
    """Return the directory whose files one has as links, and nothing else; None if it is not so.

    KServe's storage initializer and Kubernetes' own volumes make such links; names that begin with
    two dots are Kubernetes' own.
    """
    with os.scandir(directory) as entries:
        listed = [entry for entry in entries if not entry.name.startswith("..")]
    parents = set()
    for entry in listed:
        if not entry.is_symlink():
            return None
        target = directory / Path(entry.path).readlink()
        if target.name != entry.name:
            return None
        parents.add(target.parent.resolve())
    return parents.pop() if len(parents) == 1 else None


class PrivateCopy:
    """A copy of the files that a statement lists, in a directory of this process alone.

    Attributes:
        path: the directory; removed by ``close``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def make(
        cls, statement: Statement, files: Mapping[str, Path], shown: Path
    ) -> tuple[PrivateCopy, list[Problem]]:
        """Copy files, each compared with what was signed; whoever asks closes the copy.

        Args:
            statement: what was signed.
            files: where each of its files is.
            shown: the version's directory, for messages.

        Returns:
            The copy, and which files are not those that were signed.

        Raises:
            LoadError: there is no room, or a file cannot be read.
        """
        try:
            copy = cls(Path(tempfile.mkdtemp(prefix="bundleserver-signed-")).resolve())
        except OSError as error:
            raise _not_copied(shown, error) from error
        try:
            return copy, list(copy._fill(statement, files))
        except OSError as error:
            copy.close()
            raise _not_copied(shown, error) from error
        except BaseException:
            copy.close()
            raise

    def close(self) -> None:
        """Remove the copy."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _fill(self, statement: Statement, files: Mapping[str, Path]) -> Iterator[Problem]:
        needed = sum(files[name].lstat().st_size for name in statement.files)
        room = shutil.disk_usage(self.path).free
        if needed > room:
            raise OSError(f"it has {needed} bytes, and '{self.path.parent}' has room for {room}")
        for name, pieces in statement.files.items():
            place = self.path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if not _copy_file(files[name], place, pieces):
                yield Problem(name, _edited(name))


def _edited(name: str) -> str:
    if name == MANIFEST_NAME:
        return "was edited after it was signed; restore it, or sign the version again"
    return "is not the file that was signed; restore it, or sign the version again"


def _not_copied(directory: Path, error: OSError) -> LoadError:
    return LoadError(
        f"{directory} cannot be copied to be compared with its signature: {error.strerror or error}"
        "; make room in the temporary directory, or set TMPDIR to another one"
    )


def _copy_file(source: Path, place: Path, pieces: Sequence[Piece]) -> bool:
    """Copy a file; returns whether it is what was signed."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    with os.fdopen(os.open(source, flags), "rb") as file, place.open("xb") as made:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            return False
        if pieces[-1].end not in (None, facts.st_size):
            return False
        # A file that grows meanwhile has a byte more than it had.
        is_signed = all(_copy_piece(file, made, piece, facts.st_size) for piece in pieces)
        return is_signed and not file.read(1)


def _copy_piece(file: IO[bytes], made: IO[bytes], piece: Piece, size: int) -> bool:
    digest = _hasher(piece.algorithm)
    left = (size if piece.end is None else piece.end) - piece.start
    while left and (data := file.read(min(_PIECE_BYTES, left))):
        go_on()
        digest.update(data)
        made.write(data)
        left -= len(data)
    return not left and digest.digest() == piece.digest


class _Hasher(Protocol):
    def update(self, data: bytes, /) -> object: ...

    def digest(self) -> bytes: ...


def _hasher(algorithm: str) -> _Hasher:
    """Return what computes a digest of one of the three kinds that the format has."""
    if algorithm != "blake3":
        return hashlib.new(algorithm)
    from blake3 import blake3

    made: _Hasher = blake3()
    return made
