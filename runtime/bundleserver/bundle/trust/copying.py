"""A private copy of what was signed, which is all that is opened.

Each file is compared with its signed digest while it is copied, so that what was verified is what
is opened, whatever somebody else writes meanwhile; and what is not signed is not in the copy, so
that nothing can be opened from it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Protocol

from bundleserver.bundle.metadata_files import MANIFEST_BYTES
from bundleserver.bundle.reading import read_manifest
from bundleserver.bundle.trust.statement import Piece, Statement
from bundleserver.errors import BundleServerError, LoadError, Problem
from bundleserver.frameworks.giving_up import go_on
from bundleserver.manifest import BUNDLE, MANIFEST_NAME, Component

_PIECE_BYTES = 1 << 20


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
            raise _not_copied(shown, error, is_room=True) from error
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
        """Copy the manifest, then what has the size that it lists, if there is room for that."""
        found = {name: files[name].lstat().st_size for name in statement.files}
        listed: Mapping[str, Component] = {}
        if MANIFEST_NAME in statement.files:
            size = found.pop(MANIFEST_NAME)
            if size <= MANIFEST_BYTES and self._copy(MANIFEST_NAME, files, statement, size):
                listed = _listed(self.path)
            else:
                yield Problem(MANIFEST_NAME, _EDITED_MANIFEST)
        yield from _contradictions(statement, listed)
        for name, size in tuple(found.items()):
            if problem := self._wrong_size(name, size, files, statement, listed):
                del found[name]
                yield problem
        self._check_room(sum(found.values()))
        for name, size in found.items():
            if not self._copy(name, files, statement, size):
                yield Problem(name, _EDITED)

    def _wrong_size(
        self,
        name: str,
        size: int,
        files: Mapping[str, Path],
        statement: Statement,
        listed: Mapping[str, Component],
    ) -> Problem | None:
        """Return what is wrong with a size; a file is not read that there is no room for."""
        pieces, component = statement.files[name], listed.get(name)
        if pieces[-1].end not in (None, size):
            return Problem(name, _EDITED)
        if component is None or component.size in (None, size):
            return None
        if size <= self._room() and _copy_file(files[name], None, pieces, size):
            return _contradiction(f"lists {component.size} bytes for '{name}', and {size} were")
        return Problem(name, _EDITED)

    def _room(self) -> int:
        return shutil.disk_usage(self.path).free

    def _check_room(self, needed: int) -> None:
        room = self._room()
        if needed > room:
            what = f"it has {needed} bytes, and '{self.path.parent}' has room for {room}"
            raise OSError(errno.ENOSPC, what)

    def _copy(self, name: str, files: Mapping[str, Path], statement: Statement, size: int) -> bool:
        """Copy a file of a size; returns whether it is what was signed."""
        place = self.path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        return _copy_file(files[name], place, statement.files[name], size)


_EDITED = "is not the file that was signed; restore it, or sign the version again"
_EDITED_MANIFEST = "was edited after it was signed; restore it, or sign the version again"


def differences(
    statement: Statement, files: Mapping[str, Path], directory: Path
) -> Iterator[Problem]:
    """Find which files are not those that were signed, where they are.

    Raises:
        OSError: one cannot be read.
    """
    edited = False
    for name, pieces in statement.files.items():
        path = files[name]
        if not _copy_file(path, None, pieces, path.lstat().st_size):
            edited = True
            yield Problem(name, _EDITED_MANIFEST if name == MANIFEST_NAME else _EDITED)
    if not edited:
        yield from _contradictions(statement, _listed(directory))


def _contradictions(statement: Statement, listed: Mapping[str, Component]) -> Iterator[Problem]:
    """Find where a signed manifest lists other digests than those that were signed with it."""
    for name, component in listed.items():
        pieces = statement.files.get(name, ())
        if component.sha256 is None or len(pieces) != 1 or pieces[0].algorithm != "sha256":
            continue
        digest = pieces[0].digest.hex()
        if pieces[0].end is None and digest != component.sha256:
            said = f"sha256 {component.sha256[:12]}… for '{name}', and {digest[:12]}… was"
            yield _contradiction(f"lists {said}")


def _contradiction(said: str) -> Problem:
    what = f"{said} signed with it; write the manifest anew, and sign the version again"
    return Problem(MANIFEST_NAME, what)


def _listed(directory: Path) -> dict[str, Component]:
    """Return the files that a manifest lists; whoever needs it finds what is wrong with it."""
    try:
        manifest = read_manifest(directory)
    except BundleServerError:
        return {}
    return {
        posixpath.normpath(component.path): component
        for component in (manifest.components.values() if manifest else ())
        if component.path is not None and component.framework != BUNDLE
    }


def _not_copied(directory: Path, error: OSError, is_room: bool = False) -> LoadError:
    why = error.strerror or str(error)
    if is_room or error.errno in (errno.ENOSPC, errno.EDQUOT):
        why += "; make room in the temporary directory, or set TMPDIR to another one"
    return LoadError(f"{directory} cannot be copied to be compared with its signature: {why}")


def _copy_file(source: Path, place: Path | None, pieces: Sequence[Piece], size: int) -> bool:
    """Compare a file of a size with what was signed, and copy it if there is a place for it."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    try:
        opened = os.open(source, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:  # it has become a link
            return False
        raise
    with os.fdopen(opened, "rb") as file, _made(place) as made:
        facts = os.fstat(opened)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size != size:
            return False
        # A file that grows meanwhile has a byte more than it had.
        return all(_copy_piece(file, made, piece, size) for piece in pieces) and not file.read(1)


def _made(place: Path | None) -> AbstractContextManager[IO[bytes] | None]:
    return nullcontext() if place is None else place.open("xb")


def _copy_piece(file: IO[bytes], made: IO[bytes] | None, piece: Piece, size: int) -> bool:
    digest = _hasher(piece.algorithm)
    left = (size if piece.end is None else piece.end) - piece.start
    while left and (data := file.read(min(_PIECE_BYTES, left))):
        go_on()
        digest.update(data)
        if made is not None:
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
