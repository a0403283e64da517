"""Text from outside made fit for logs, terminals, metrics and messages: escaped, and of a bound.

Names of files, labels and reasons of libraries may have anything in them: a line break forges a
line of the log, an escape sequence rewrites a terminal, a mark of direction turns words around. All
of them become visible here, and only here.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterable

LONGEST = 1_800
"""The most characters of one message."""

_END = 400  # of a message that is too long: it says what to do
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_NOT_ASCII_TEXT = re.compile(r"[^ -~]")


def printable(text: str, longest: int = LONGEST) -> str:
    """Return a text with its control characters escaped, and its middle left out if it is long.

    Escaped, as in Python's strings, are the controls of ASCII and Latin-1, separators of lines and
    paragraphs, marks of direction and other invisible characters, and what is no character.
    """
    if len(text) > longest:
        end = min(_END, longest // 3)
        left_out = len(text) - longest
        text = f"{text[: longest - end]} … ({left_out} more characters) … {text[-end:]}"
    return text if text.isprintable() else _NOT_ASCII_TEXT.sub(_escaped, text)


def shell_word(text: object) -> str:
    """Return a text as one word of a shell's command that can be copied from a message."""
    word = str(text)
    if word.isprintable():
        return shlex.quote(word)
    try:
        data = word.encode("utf-8", "surrogateescape")  # the bytes of a file's name
    except UnicodeEncodeError:
        data = word.encode("utf-8", "surrogatepass")
    inside = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b"\\'" else f"\\x{byte:02x}" for byte in data
    )
    return f"$'{inside}'"


def few(phrases: Iterable[str], most: int = 20) -> tuple[str, ...]:
    """Return so many phrases, and how many more there are."""
    found = tuple(phrases)
    if len(found) <= most:
        return found
    return (*found[:most], f"and {len(found) - most} more")


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    # Spaces of other widths are no danger, although Python does not call them printable.
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return _SHORT.get(character) or character.encode("unicode_escape").decode()
