"""Strict JSON text: what people write by hand, read without guessing and written to be read.

What Python's own reader lets pass although other readers differ on it is a problem here: a key
twice, NaN, half a character. Each problem stands at its JSON path, or at its line where there is no
path yet.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator

from bundleserver.errors import ConfigError, ManifestError, Problem

Place = tuple[str | int, ...]
"""Where a value stands in a document: keys and indexes from the top."""

DEEPEST = 64
"""Levels of nesting that a document may have; Python's own stack ends later."""

_LINE = 100
_SHOWN = 80
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_HALF_PAIR = re.compile("[\ud800-\udfff]")


def read_object(
    data: bytes | str, where: str, error: type[ManifestError] | type[ConfigError]
) -> tuple[dict[str, object], dict[Place, Problem]]:
    """Read the JSON object in a file's content.

    Returns:
        The object, and the problems of its text that leave it readable: repeated keys, numbers that
        JSON does not have, broken characters, too much nesting.

    Raises:
        ManifestError, ConfigError: ``error``, where the text holds no JSON object.
    """
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        document = json.loads(text, object_pairs_hook=_keep_repeats)
    except (ValueError, RecursionError) as fault:
        raise error(where, [_unreadable(fault)]) from fault
    if not isinstance(document, dict):
        raise error(where, [Problem("", f"holds {shown(document)}; expected a JSON object")])
    return document, dict(_oddities(document, ()))


def json_path(place: Place) -> str:
    """Write a place as people do: ``components.model.path``, ``steps[1].inputs[0]``."""
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
    """Name a JSON value in a sentence; long ones are cut."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return _cut(repr(value) if isinstance(value, str) else json.dumps(value))


def pretty(value: object, indent: int = 0, used: int = _LINE) -> str:
    """Write JSON for people: what fits stands on one line, everything else one entry a line.

    Args:
        value: what to write.
        indent: the spaces before the line that the value begins on.
        used: the characters that stand on that line already; by default it counts as full, so that
            a document has a line for each of its keys.

    Raises:
        TypeError, ValueError: a value has no form in JSON.
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


class _Repeating(dict[str, object]):
    """An object whose text had a key twice; ``repeated`` names such keys."""

    repeated: tuple[str, ...] = ()


def _keep_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    marked = _Repeating(found)
    times = Counter(key for key, _ in pairs)
    marked.repeated = tuple(key for key in found if times[key] > 1)
    return marked


def _unreadable(fault: ValueError | RecursionError) -> Problem:
    """Say why a text is no JSON, and where."""
    if isinstance(fault, RecursionError):
        return Problem("", f"is nested deeper than {DEEPEST} levels")
    if isinstance(fault, UnicodeDecodeError):
        line = fault.object.count(b"\n", 0, fault.start) + 1
        return Problem(f"line {line}", f"byte {fault.start} is not UTF-8; save the file as UTF-8")
    if not isinstance(fault, json.JSONDecodeError):
        return Problem("", "holds a number with thousands of digits")
    if fault.doc.startswith("\ufeff"):
        return Problem("", "starts with a byte order mark; save the file as UTF-8 without one")
    if not fault.doc.strip():
        return Problem("", "is empty; expected a JSON object")
    reason = fault.msg[0].lower() + fault.msg[1:]
    return Problem(f"line {fault.lineno} column {fault.colno}", f"is not JSON: {reason}")


def _oddities(value: object, place: Place) -> Iterator[tuple[Place, Problem]]:
    """Find what Python's reader lets pass although other readers of JSON differ on it."""
    odd = _oddity(value, place)
    if odd:
        yield place, Problem(json_path(place), odd)
    elif isinstance(value, dict):
        for key in getattr(value, "repeated", ()):
            twice = "stands more than once in its object; leave one of them"
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
        return "is no number that JSON has; expected a finite one, or null in a tensor"
    if isinstance(value, str) and _has_half_pair(value):
        return "holds half of a surrogate pair, which is no character"
    if isinstance(value, dict) and any(_has_half_pair(key) for key in value):
        return "has a key with half of a surrogate pair, which is no character"
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
