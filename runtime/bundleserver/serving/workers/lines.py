"""The lines that worker processes and supervisor exchange: one JSON object each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import cast

import orjson

from bundleserver.manager.admission import VersionKey

Line = dict[str, object]

MOST_BYTES = 256 * 2**20
"""The longest line: the metrics of a process with very many versions."""


def encode(line: Line) -> bytes:
    """Encode one line."""
    return orjson.dumps(line) + b"\n"


def decode(data: bytes) -> Line:
    """Decode one line."""
    return cast(Line, orjson.loads(data))


def encode_keys(keys: Collection[VersionKey]) -> list[list[str]]:
    """Encode versions, in order."""
    return [list(key) for key in sorted(keys)]


def decode_keys(value: object) -> frozenset[VersionKey]:
    """Decode versions."""
    return frozenset(VersionKey(*item) for item in cast("Iterable[list[str]]", value))


def encode_failures(failures: Mapping[VersionKey, str]) -> list[list[str]]:
    """Encode failed versions, each with its reason."""
    return [[*key, why] for key, why in sorted(failures.items())]


def decode_failures(value: object) -> dict[VersionKey, str]:
    """Decode failed versions."""
    return {VersionKey(*key): why for *key, why in cast("Iterable[list[str]]", value)}
