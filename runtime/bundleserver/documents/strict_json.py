"""Strict JSON: parse and format documents that people write by hand.

What Python's parser accepts although other parsers differ is a problem here: duplicate keys, NaN,
unpaired surrogates. Each problem has its JSON path, or its line where there is no path yet.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice

from bundleserver.errors import ConfigError, ManifestError, Problem

Place = tuple[str | int, ...]
"""The place of a value in a document: keys and indexes from the top."""

MOST_VALUES = 250_000
"""The most values of a document; more keep the interpreter while they are parsed and validated."""

MOST_KEYS = 10_000
"""The most keys of one object."""

DEEPEST = 64
"""Maximum nesting depth of a document, below Python's recursion limit."""

_MOST_ODD = 1_000
_LINE = 100
_SHOWN = 80
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_HALF_PAIR = re.compile("[\ud800-\udfff]")


def read_object(
    data: bytes | str,
    where: str,
    error: type[ManifestError] | type[ConfigError],
    most: Mapping[str, int] | None = None,
) -> tuple[dict[str, object], dict[Place, Problem]]:
    """Parse the JSON object in a file's content.

    Args:
        data: the content.
        where: the file's path, for messages.
        error: the class of error to raise.
        most: how many entries the values of some keys may have, so that validating them is quick.

    Returns:
        The object, and its problems that can be parsed: duplicate keys, non-finite numbers,
        invalid characters, too much nesting.

    Raises:
        ManifestError, ConfigError: ``error``, where the content is not a JSON object.
    """
    commas = data.count(b",") if isinstance(data, bytes) else data.count(",")
    if commas > MOST_VALUES:
        raise error(where, [Problem("", f"has {commas} commas; expected at most {MOST_VALUES}")])
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        document = json.loads(text, object_pairs_hook=_keep_repeats)
    except (ValueError, RecursionError) as fault:
        raise error(where, [_unreadable(fault)]) from fault
    if not isinstance(document, dict):
        raise error(where, [Problem("", f"is {shown(document)}; expected a JSON object")])
    if many := [*_too_many(document, most or {})]:
        raise error(where, many)
    odd = dict(islice(_oddities(document, ()), _MOST_ODD))
    if len(odd) == _MOST_ODD:
        raise error(where, tuple(odd.values()))
    return document, odd


def json_path(place: Place) -> str:
    """Format a place: ``components.model.path``, ``steps[1].inputs[0]``."""
    path = ""
    for part in place:
        if isinstance(part, int):
            path += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            path += f".{part}" if path else part
        else:
            path += f"[{_cut(repr(part))}]"
    return path


def shown(value: object) -> str:
    """Format a JSON value for a message; long ones are truncated."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    return _cut(repr(value) if isinstance(value, str) else json.dumps(value))


def pretty(value: object, indent: int = 0, used: int = _LINE) -> str:
    """Format JSON for people: short values on one line, others with one entry per line.

    Args:
        value: the value to format.
        indent: the indentation of the line that the value begins on.
        used: the characters already on that line; by default it counts as full, so that a document
            has a line for each of its keys.

    Raises:
        TypeError, ValueError: a value cannot be encoded as JSON.
    """
    line = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if used + len(line) < _LINE or not value or not isinstance(value, (dict, list)):
        return line
    inner = indent + 2
    if isinstance(value, dict):
        keys = [f"{' ' * inner}{json.dumps(str(key), ensure_ascii=False)}: " for key in value]
        entries = list(value.values())
    else:
        keys, entries = [" " * inner] * len(value), value
    lines = [key + pretty(entry, inner, len(key)) for key, entry in zip(keys, entries, strict=True)]
    return line[0] + "\n" + ",\n".join(lines) + "\n" + " " * indent + line[-1]


def _too_many(document: Mapping[str, object], most: Mapping[str, int]) -> Iterator[Problem]:
    for key, limit in most.items():
        value = document.get(key)
        if isinstance(value, (dict, list)) and len(value) > limit:
            yield Problem(key, f"has {len(value)} entries; expected at most {limit}")


class _TooManyKeys(ValueError):
    """An object has more keys than any may have."""


class _Repeating(dict[str, object]):
    """An object with duplicate keys, which ``repeated`` lists."""

    repeated: tuple[str, ...] = ()


def _keep_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(pairs) > MOST_KEYS:
        raise _TooManyKeys(f"has an object of {len(pairs)} keys; expected at most {MOST_KEYS}")
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    marked = _Repeating(found)
    times = Counter(key for key, _ in pairs)
    marked.repeated = tuple(key for key in found if times[key] > 1)
    return marked


def _unreadable(fault: ValueError | RecursionError) -> Problem:
    """Describe why a text is not valid JSON, and where."""
    if isinstance(fault, _TooManyKeys):
        return Problem("", str(fault))
    if isinstance(fault, RecursionError):
        return Problem("", f"is nested deeper than {DEEPEST} levels")
    if isinstance(fault, UnicodeDecodeError):
        line = fault.object.count(b"\n", 0, fault.start) + 1
        return Problem(f"line {line}", f"byte {fault.start} is not UTF-8; save the file as UTF-8")
    if not isinstance(fault, json.JSONDecodeError):
        return Problem("", "contains a number with thousands of digits")
    if fault.doc.startswith("\ufeff"):
        return Problem("", "starts with a byte order mark; save the file as UTF-8 without one")
    if not fault.doc.strip():
        return Problem("", "is empty; expected a JSON object")
    reason = fault.msg[0].lower() + fault.msg[1:]
    return Problem(f"line {fault.lineno} column {fault.colno}", f"is not valid JSON: {reason}")


def _oddities(value: object, place: Place) -> Iterator[tuple[Place, Problem]]:
    """Find what Python's parser accepts although other JSON parsers differ."""
    odd = _oddity(value, place)
    if odd:
        yield place, Problem(json_path(place), odd)
    elif isinstance(value, dict):
        for key in getattr(value, "repeated", ()):
            twice = "is a duplicate key; keep one of them"
            yield (*place, key), Problem(json_path((*place, key)), twice)
        for key, entry in value.items():
            yield from _oddities(entry, (*place, key))
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _oddities(entry, (*place, index))


def _oddity(value: object, place: Place) -> str | None:
    if len(place) > DEEPEST:
        return f"is nested deeper than {DEEPEST} levels"
    if isinstance(value, (int, float)) and not _is_finite(value):
        return (
            "is not a valid JSON number (NaN or infinity); use a finite number, or null in a tensor"
        )
    if isinstance(value, str) and _has_half_pair(value):
        return "contains an unpaired surrogate, which is not a valid character"
    if isinstance(value, dict) and any(_has_half_pair(key) for key in value):
        return "has a key with an unpaired surrogate, which is not a valid character"
    return None


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def _has_half_pair(text: str) -> bool:
    return _HALF_PAIR.search(text) is not None


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
