"""The entries of an archive: which there may be, each read once and within bounds."""

from __future__ import annotations

import json
import re
import sys
import zipfile
from typing import Any, cast

from bundleserver.documents.forms import quoted
from bundleserver.frameworks.giving_up import go_on
from bundleserver.frameworks.torch.checked.problems import NotAllowed, shown

MODEL = "models/model.json"
WEIGHTS = "data/weights/"
CONSTANTS = "data/constants/"

_MOST_JSON_BYTES = 64 << 20
_MOST_VALUES = 8_000_000
_SMALL = {
    "archive_format": re.compile(rb"pt2"),
    "archive_version": re.compile(rb"0"),
    "byteorder": re.compile(sys.byteorder.encode()),
    ".data/version": re.compile(rb"\d{1,4}\s*"),
}
_READ = re.compile(
    r"models/model\.json|data/weights/(model_weights_config\.json|weight_\d{1,9})"
    r"|data/constants/(model_constants_config\.json|tensor_\d{1,9})"
)
_UNREAD = re.compile(r"\.data/serialization_id|data/sample_inputs/model\.pt|extra/.*")
"""What is there and nobody opens: the sample inputs are a pickle."""


class Archive:
    """The entries of one archive, by their names below its root."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        """Check which entries there are.

        Raises:
            NotAllowed: one is there twice, or none of those that a program needs.
        """
        self._archive = archive
        self._entries: dict[str, zipfile.ZipInfo] = {}
        roots = set()
        odd = []
        for entry in archive.infolist():
            root, _, name = entry.filename.partition("/")
            roots.add(root)
            if name in self._entries:
                raise NotAllowed(f"the entry {shown(name)}", "is there twice")
            if not (_READ.fullmatch(name) or _UNREAD.fullmatch(name) or name in _SMALL):
                odd.append(name)
            self._entries[name] = entry
        if odd:
            raise NotAllowed(
                f"it has the entries {quoted(sorted(odd), most=6)},",
                "which torch would open in ways that may run code; save it again with "
                f"torch.export.save of the installed version, {_torch_version()}",
            )
        if len(roots) != 1 or not {MODEL, *_SMALL} - {"byteorder", ".data/version"} <= set(
            self._entries
        ):
            raise NotAllowed("it", "is not an archive of torch.export.save with one program")
        for name, expected in _SMALL.items():
            if name in self._entries and not expected.fullmatch(self.content(name, 64)):
                raise NotAllowed(f"the entry '{name}'", "is not what this torch writes here")

    def has(self, name: str) -> bool:
        """Ask whether there is such an entry."""
        return name in self._entries

    def size(self, name: str) -> int:
        """Return the size of an entry."""
        return self._entry(name).file_size

    def content(self, name: str, most_bytes: int) -> bytes:
        """Return the content of an entry.

        Raises:
            NotAllowed: there is no such entry, or it is longer.
        """
        if self._entry(name).file_size > most_bytes:
            raise NotAllowed(f"the entry '{name}'", f"has more than {most_bytes} bytes")
        return self._archive.read(self._entry(name))

    def document(self, name: str) -> object:
        """Return what a JSON entry says.

        Raises:
            NotAllowed: it is none, or is too large.
        """
        data = self.content(name, _MOST_JSON_BYTES)
        go_on()
        if sum(map(data.count, (b",", b"[", b"{"))) > _MOST_VALUES:
            raise NotAllowed(f"the entry '{name}'", f"has more than {_MOST_VALUES} values")
        try:
            return cast(object, json.loads(data.decode()))
        except (ValueError, RecursionError) as error:
            raise NotAllowed(f"the entry '{name}'", f"is not JSON: {error}") from error

    def read_into(self, name: str, buffer: memoryview) -> None:
        """Fill a buffer of the entry's size with its content.

        Raises:
            BadZipFile: it is shorter, or not what its checksum says.
        """
        source: Any
        with self._archive.open(self._entry(name)) as source:
            filled = 0
            while filled < len(buffer):
                go_on()
                count = source.readinto(buffer[filled : filled + (16 << 20)])
                if not count:
                    raise zipfile.BadZipFile(f"the entry '{name}' ends early")
                filled += count
            # The checksum is compared where the end is read.
            if source.read(1):
                raise zipfile.BadZipFile(f"the entry '{name}' goes on after its end")

    def _entry(self, name: str) -> zipfile.ZipInfo:
        if name not in self._entries:
            raise NotAllowed(f"the entry {shown(name)}", "is missing")
        return self._entries[name]


def _torch_version() -> str:
    import torch

    return torch.__version__.partition("+")[0]
