"""The lines that worker processes and supervisor exchange: one JSON object each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import cast

import orjson

from bundleserver.manager.admission import VersionKey

Line = dict[str, object]

MOST_BYTES = 256 * 2**20
"""The longest line: the metrics of a process with very many versions."""


def write(line: Line) -> bytes:
    """Write one line."""
    return orjson.dumps(line) + b"\n"


def read(data: bytes) -> Line:
    """Read one line."""
    return cast(Line, orjson.loads(data))


def write_keys(keys: Collection[VersionKey]) -> list[list[str]]:
    """Write versions, in order."""
    return [list(key) for key in sorted(keys)]


def read_keys(value: object) -> frozenset[VersionKey]:
    """Read versions."""
    return frozenset(_key(item) for item in cast("Iterable[list[str]]", value))


def write_failures(failures: Mapping[VersionKey, str]) -> list[list[str]]:
    """Write versions that do not load, each with its reason."""
    return [[*key, why] for key, why in sorted(failures.items())]


def read_failures(value: object) -> dict[VersionKey, str]:
    """Read versions that do not load."""
    return {_key(item): item[3] for item in cast("Iterable[list[str]]", value)}


def _key(item: list[str]) -> VersionKey:
    return VersionKey(item[0], item[1], item[2])
