"""The index of a cached version: the size and digest of every file, and the registry's facts.

The directory may be shared and on any volume, so whatever lies there is read within limits.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from bundleserver.bundle.integrity import file_sha256
from bundleserver.bundle.metadata_files import read_json
from bundleserver.sources.registry.cache.locks import heartbeat

INDEX_NAME = ".fetched.json"

_FORMAT = "registry-cache/v1"
_MOST_BYTES = 32 << 20
_MOST_VALUES = 600_000


class Damage(Exception):
    """How a directory differs from its index; or why that cannot be read."""


def verified_facts(directory: Path) -> Mapping[str, object]:
    """Return the facts of a version whose every file is as listed.

    Raises:
        FileNotFoundError: there is no index.
        Damage: something is not as listed.
    """
    try:
        index = read_json(directory / INDEX_NAME, _MOST_BYTES, _MOST_VALUES)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Damage(f"{INDEX_NAME} cannot be read: {reason}") from error
    files, facts = _parts(index)
    for name, listed in files.items():
        try:
            _verify(directory, name, listed)
        except OSError as error:
            raise Damage(f"'{name}' cannot be read: {error.strerror or error}") from error
        except (TypeError, KeyError, ValueError) as error:
            raise Damage(f"'{name}' is not listed as files are: {error!r}") from error
    return facts


def write_index(directory: Path, facts: Mapping[str, object]) -> None:
    """Write the index of the files that are in a directory, with a heartbeat.

    Raises:
        OSError: it cannot be written.
        SourceError: nobody waits for it any more.
    """
    files = {}
    beat = heartbeat(directory)
    for path in sorted(directory.rglob("*")):
        if path.is_symlink() or not path.is_file() or path == directory / INDEX_NAME:
            continue
        name = path.relative_to(directory).as_posix()
        files[name] = {"size": path.stat().st_size, "sha256": file_sha256(path, beat)}
        _sync(path)
        beat()
    index = directory / INDEX_NAME
    # Not into a file, or through a link, that the version brought.
    index.unlink(missing_ok=True)
    with index.open("x", encoding="utf-8") as file:
        file.write(json.dumps({"format": _FORMAT, "files": files, "facts": dict(facts)}))
    _sync(index)


def _parts(index: object) -> tuple[Mapping[str, object], Mapping[str, object]]:
    if not isinstance(index, dict) or index.get("format") != _FORMAT:
        raise Damage(f"{INDEX_NAME} is not of the format '{_FORMAT}'")
    files, facts = index.get("files"), index.get("facts")
    if not isinstance(files, dict) or not files:
        raise Damage(f"{INDEX_NAME} lists no files")
    if not isinstance(facts, dict) or not all(map(_is_fact, facts.values())):
        raise Damage(f"{INDEX_NAME} has facts that no registry has")
    return files, facts


def _is_fact(value: object) -> bool:
    """Ask whether a value is a text, or texts and numbers by name, as those of a run are."""
    if isinstance(value, dict):
        return all(isinstance(entry, (str, int, float)) for entry in value.values())
    return isinstance(value, str)


def _verify(directory: Path, name: str, listed: object) -> None:
    pure = PurePosixPath(name)
    if not isinstance(listed, dict) or pure.is_absolute() or ".." in pure.parts or "\0" in name:
        raise Damage(f"'{name}' is not listed as files of a version are")
    path = directory / name
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise Damage(f"'{name}' is no regular file")
    if status.st_size != listed["size"]:
        raise Damage(f"'{name}' has {status.st_size} bytes; expected {listed['size']}")
    if file_sha256(path) != listed["sha256"]:
        raise Damage(f"'{name}': digest mismatch")


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
