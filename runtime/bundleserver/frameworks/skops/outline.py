"""What a skops file holds, told from its description and without skops."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path

import orjson

from bundleserver.frameworks.interface import reading
from bundleserver.frameworks.pickles import ClassName, Held
from bundleserver.frameworks.skops.contents import SCHEMA, Entries, entries_in

_MOST_BYTES = 32 << 20
_HEAD_BYTES = 4096
_MOST_PARTS = 50
_DEEPEST = 5
_LONGEST_NUMBER = 20

_PLAIN = frozenset({"builtins", "collections", "numpy", "scipy"})
_CLASS = re.compile(r'\s*\{\s*"__class__":\s*"(\w+)",\s*"__module__":\s*"([\w.]+)"')
"""How skops begins a description; a large one, as of a vocabulary, is read no further."""

Node = Mapping[str, object]


def held_in(path: Path) -> Held:
    """Return what a skops file holds: its class, its widths and the steps of a pipeline.

    Raises:
        LoadError: it cannot be read, is no archive of skops, or is damaged.
    """
    with reading(path):
        status = path.stat()
    return _held_in(path, (status.st_ino, status.st_mtime_ns, status.st_size))


def sklearn_versions(schema: object) -> frozenset[str]:
    """Return the versions of scikit-learn that the estimators of a description name."""
    return frozenset(_versions(schema))


@lru_cache(maxsize=16)
def _held_in(path: Path, which: tuple[int, ...]) -> Held:
    """Read each file once, for its role and for its widths; ``which`` identifies its content."""
    with entries_in(path) as entries:
        top = _top(entries)
    named = frozenset(ClassName(module, name) for module, name in _names(top))
    return replace(_outline(top), named=named, sklearn_versions=sklearn_versions(top))


def _top(entries: Entries) -> Node:
    if entries.size_of(SCHEMA) > _MOST_BYTES:
        head = _CLASS.match(entries.head(SCHEMA, _HEAD_BYTES).decode(errors="replace"))
        return {"__class__": head[1], "__module__": head[2]} if head else {}
    try:
        return _node(orjson.loads(entries.read(SCHEMA)))
    except orjson.JSONDecodeError:
        return {}


def _outline(node: Node, deep: int = 0) -> Held:
    name = ClassName(str(node.get("__module__", ""))[:200], str(node.get("__class__", ""))[:200])
    attributes = _items(_node(node.get("content")))
    found = islice(_parts(attributes), _MOST_PARTS if deep < _DEEPEST else 0)
    return Held(
        name if name.module and name.qualname else None,
        is_plain=name.module.partition(".")[0] in _PLAIN,
        numbers={key: number for key, one in attributes.items() for number in _numbers(one)},
        lengths={key: len(items) for key, one in attributes.items() if (items := _items(one))},
        parts=tuple(_outline(part, deep + 1) for part in found),
    )


def _parts(attributes: Mapping[str, Node]) -> Iterator[Node]:
    """Yield what an estimator delegates to: what a search found, or the steps of a pipeline."""
    if "best_estimator_" in attributes:
        yield attributes["best_estimator_"]
        return
    for step in _members(attributes.get("steps", {})):
        if len(pair := _members(step)) == 2:
            yield pair[1]


def _node(value: object) -> Node:
    return value if isinstance(value, dict) else {}


def _items(node: Node) -> dict[str, Node]:
    """Return what a dict has, or an object's attributes."""
    content = node.get("content")
    if node.get("__loader__") != "DictNode" or not isinstance(content, dict):
        return {}
    return {key: _node(value) for key, value in content.items()}


def _members(node: Node) -> list[Node]:
    content = node.get("content")
    return [_node(value) for value in content[:_MOST_PARTS]] if isinstance(content, list) else []


def _numbers(node: Node) -> Iterator[int]:
    text = node.get("content")
    if node.get("__loader__") != "JsonNode" or not isinstance(text, str):
        return
    if len(text) < _LONGEST_NUMBER and text.isascii() and text.isdigit():
        yield int(text)


def _versions(schema: object) -> Iterator[str]:
    for node in _nodes(schema):
        named = _node(node.get("_sklearn_version")).get("content")
        if isinstance(named, str):
            yield named.strip('"')[:40]


def _names(schema: object) -> Iterator[tuple[str, str]]:
    for node in _nodes(schema):
        module, name = node.get("__module__"), node.get("__class__")
        if isinstance(module, str) and isinstance(name, str):
            yield module[:200], name[:200]


def _nodes(schema: object) -> Iterator[Node]:
    """Yield every object of a description, however deep."""
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
