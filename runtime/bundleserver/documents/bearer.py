"""The token in the content of a file: one word."""

from __future__ import annotations

import unicodedata

MOST_BYTES = 4096
MARK = b"\xef\xbb\xbf"
"""What some editors begin a file in UTF-8 with."""


def token_in(content: bytes) -> bytes:
    """Return the token; white space around it and a mark before it do not count.

    Raises:
        ValueError: there is none, or more than one word.
    """
    if len(content) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES} bytes")
    token = content.removeprefix(MARK).strip()
    if not _has_a_sign(token):
        raise ValueError("it is empty")
    if any(byte <= 0x20 or byte == 0x7F for byte in token):
        raise ValueError(
            "it has more than one word or line, or control characters; expected a token"
        )
    return token


def _has_a_sign(token: bytes) -> bool:
    """Ask whether there is more than white space and what cannot be seen, of any alphabet."""
    try:
        text = token.decode()
    except UnicodeDecodeError:
        text = token.decode("latin-1")
    return any(unicodedata.category(letter)[0] not in "ZC" for letter in text)
