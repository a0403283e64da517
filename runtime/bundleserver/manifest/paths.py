"""Paths in a manifest: which of them may be those of files inside the bundle."""

from __future__ import annotations

CODE = "code"
"""The directory of a bundle with code of its own."""

MOST_CODE_FILES, MOST_CODE_LEVELS = 10_000, 32
"""The most files of a bundle's code, and the most directories that one of them lies in."""

INSIDE = r"^(?![\s\S]*(^|/)\.\.(/|$))(?!/)(?!(\.?/)*\.?$)[^\\\u0000]+$"
"""A path inside a bundle, as a pattern of JSON Schema."""

MOST_PATH_BYTES, MOST_NAME_BYTES = 1_024, 255
"""The longest path of a component, and the longest name in it, which is that of file systems."""


def is_short_path(path: str) -> bool:
    """Ask whether a path is so short that a file may have it."""
    text = path.encode("utf-8", "surrogatepass")
    names = text.split(b"/")
    return len(text) <= MOST_PATH_BYTES and max(map(len, names)) <= MOST_NAME_BYTES


def is_inside(path: str) -> bool:
    """Ask whether a path is that of something in the directory, whatever else is there."""
    if not is_short_path(path):
        return False
    parts = [part for part in path.split("/") if part not in ("", ".")]
    is_relative = bool(parts) and not path.startswith("/") and ".." not in parts
    return is_relative and "\\" not in path and "\0" not in path


def is_code_path(path: str) -> bool:
    """Ask whether a path is that of a file of the bundle's own code, in its plain form."""
    first, *others = path.split("/")
    is_below = first == CODE and 0 < len(others) <= MOST_CODE_LEVELS
    return is_below and not {"", "."}.intersection(others) and is_inside(path)
