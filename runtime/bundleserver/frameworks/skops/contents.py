"""The archive of a skops file, within limits: its entries, and the JSON that describes its object.

skops itself reads every entry in full, as often as the description names it.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bundleserver.documents.forms import quoted
from bundleserver.errors import LoadError
from bundleserver.frameworks.archives import open_archive, refuse_bombs
from bundleserver.frameworks.free_memory import free_memory
from bundleserver.frameworks.giving_up import go_on
from bundleserver.frameworks.interface import first_line, reading
from bundleserver.frameworks.regular_files import open_regular

SCHEMA = "schema.json"

MOST_SCHEMA_BYTES = 256 << 20

_PIECE_BYTES = 1 << 20


class Entries:
    """The entries of an archive, for skops to read; all that is read must fit into the memory.

    Attributes:
        path: the file, for messages.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path = path
        self._archive = archive
        self._room = free_memory()

    def size_of(self, name: str) -> int:
        """Return how many bytes an entry says that it has.

        Raises:
            LoadError: there is no such entry.
        """
        return self._entry(name).file_size

    def read(self, name: str) -> bytes:
        """Return an entry, never more of it than its directory says.

        Raises:
            LoadError: there is no such entry, or it is one too many for the memory.
            BadZipFile: it is damaged.
        """
        entry = self._entry(name)
        self._room -= entry.file_size
        if self._room < 0:
            raise LoadError(
                f"'{self.path}' cannot be opened within the limits: its objects have more bytes "
                "than there is free memory; raise the container's memory limit"
            )
        data = bytearray()
        # In pieces: read at once, a small entry may unpack to more than it says.
        with self._archive.open(entry) as file:
            while piece := file.read(_PIECE_BYTES):
                go_on()
                data += piece
        if data.startswith(b"PK"):
            self._check_nested(bytes(data))
        return bytes(data)

    def head(self, name: str, count: int) -> bytes:
        """Return the first bytes of an entry."""
        with self._archive.open(self._entry(name)) as file:
            return file.read(count)

    def _entry(self, name: object) -> zipfile.ZipInfo:
        try:
            return self._archive.getinfo(name if isinstance(name, str) else "")
        except KeyError as error:
            raise LoadError(
                f"'{self.path}' has no entry '{str(name)[:100]}', which its object is made of; "
                "it is damaged: save the model again with skops.io.dump"
            ) from error

    def _check_nested(self, data: bytes) -> None:
        """Refuse a sparse matrix, an archive of scipy's, that unpacks to very much."""
        with open_archive(io.BufferedReader(io.BytesIO(data))) as nested:
            refuse_bombs(self.path, len(data), nested.infolist())


@contextmanager
def entries_in(path: Path) -> Iterator[Entries]:
    """Open a skops file's archive for the block.

    Raises:
        LoadError: it cannot be read, is none, is damaged, or announces more than fits.
    """
    with reading(path), open_regular(path) as file:
        head = file.peek(8)[:8]
        if not head.startswith(b"PK"):
            raise LoadError(
                f"'{path}' is {_what_else(head)}; expected the archive that skops.io.dump writes"
            )
        size = file.seek(0, os.SEEK_END)
        try:
            # Its limit of one read holds for the entries as well, which are read in pieces.
            archive = open_archive(file)
            _check_entries(path, archive.infolist())
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise LoadError(
                f"'{path}' is a damaged zip archive: {str(error).lower()}; copy it again"
            ) from error
        with archive:
            refuse_bombs(path, size, archive.infolist())
            yield Entries(path, archive)


def schema_in(entries: Entries) -> dict[str, object]:
    """Return the description of a file's object.

    Raises:
        LoadError: it is too large, or no JSON object.
    """
    size = entries.size_of(SCHEMA)
    if size > MOST_SCHEMA_BYTES:
        raise LoadError(
            f"'{entries.path}' describes its object in {size} bytes; at most {MOST_SCHEMA_BYTES} "
            "are read; save the model with joblib"
        )
    try:
        schema = json.loads(entries.read(SCHEMA))
    except (ValueError, RecursionError) as error:
        raise LoadError(
            f"'{entries.path}' has a '{SCHEMA}' that cannot be read: {first_line(error)}; it is "
            "damaged: save the model again with skops.io.dump"
        ) from error
    if not isinstance(schema, dict):
        raise LoadError(f"'{entries.path}' has a '{SCHEMA}' that is not a valid JSON object")
    return schema


def _check_entries(path: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    names = [entry.filename for entry in entries]
    if SCHEMA not in names:
        raise LoadError(
            f"'{path}' is a zip archive without '{SCHEMA}'; expected one that skops.io.dump writes"
        )
    if len(names) != len(set(names)):
        raise LoadError(f"'{path}' has entries twice; save the model again with skops.io.dump")
    odd = [name[:100] for name in names if any(sign in name for sign in "/\\\0")]
    if odd:
        raise LoadError(
            f"'{path}' has the entries {quoted(odd, most=6)}; skops writes none in directories"
        )


def _what_else(head: bytes) -> str:
    if not head:
        return "empty"
    if head.startswith(b"\x1f\x8b"):
        return "compressed with gzip"
    return "a pickle" if head[0] == 0x80 else "of another kind"
