"""Parsers for the values of ``serve``'s flags."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TypeVar

from bundleserver.versions import VersionPolicy, weights

Value = TypeVar("Value")
Word = TypeVar("Word", bound=Enum)


def parse_bool(text: str) -> bool:
    """Parse a boolean; the accepted words are KServe's.

    Raises:
        argparse.ArgumentTypeError: it is none of them.
    """
    word = text.lower()
    if word in ("y", "yes", "t", "true", "on", "1"):
        return True
    if word in ("n", "no", "f", "false", "off", "0"):
        return False
    raise argparse.ArgumentTypeError(f"is '{text}'; expected true or false")


def parse_true_or_false(text: str) -> bool:
    """Parse the boolean of an environment variable, of which KServe knows these two words.

    To it all others are false, also ``1`` and ``yes``: they are refused, since either may be meant.

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    word = text.strip().lower()
    if word not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"is '{text}'; expected true or false")
    return word == "true"


def parse_bytes(text: str) -> int:
    """Parse a number of bytes: ``1048576``, ``64MiB``, ``64Mi``, ``1GB``.

    Raises:
        argparse.ArgumentTypeError: it is not a valid number of bytes.
    """
    plain = text.strip().lower().removesuffix("b")
    digits = plain.rstrip("kmgi ")
    scale = _SCALES.get(plain[len(digits) :].strip())
    if scale is None or not (digits.isascii() and digits.isdecimal()):
        what = f"is '{text}'; expected a number of bytes such as 1048576 or 64MiB"
        raise argparse.ArgumentTypeError(what)
    return int(digits) * scale


_SCALES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def grpc_bytes(text: str) -> int:
    """Parse a number of bytes as ``parse_bytes`` does, or -1, which is gRPC's word for any.

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    return -1 if text.strip() == "-1" else parse_bytes(text)


def parse_file(text: str) -> Path:
    """Parse the path of a file.

    Raises:
        argparse.ArgumentTypeError: it is empty.
    """
    if not text:
        raise argparse.ArgumentTypeError("is ''; expected the path of a file")
    return Path(text)


def parse_device(text: str) -> str:
    """Parse a device for torch; whether this machine has it only the load of a model asks.

    Raises:
        argparse.ArgumentTypeError: it is of another form.
    """
    if _DEVICE.fullmatch(text):
        return text
    what = f"is '{text}'; expected cpu, cuda, cuda:1 or auto"
    raise argparse.ArgumentTypeError(what)


# As the loader of torch models takes them.
_DEVICE = re.compile(r"cpu|auto|cuda(:[0-9]{1,3})?", re.ASCII)


def converted(
    convert: Callable[[str], Value], refusal: Callable[[str, ValueError], str]
) -> Callable[[str], Value]:
    """Make a parser of a function that raises ``ValueError``, with a message for the flag."""

    def parse(text: str) -> Value:
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(refusal(text, error)) from None

    return parse


parse_int = converted(int, lambda text, _: f"is '{text}'; expected an integer")
parse_float = converted(float, lambda text, _: f"is '{text}'; expected a number")
parse_policy = converted(VersionPolicy.parse, lambda _, error: str(error))
parse_traffic = converted(
    lambda text: tuple(weights.parse_traffic(text).items()), lambda _, error: str(error)
)


def one_of(*words: str) -> Callable[[str], str]:
    """Make a parser that accepts only these words, and suggests the nearest."""

    def parse(text: str) -> str:
        if text in words:
            return text
        near = difflib.get_close_matches(text, words, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise argparse.ArgumentTypeError(f"is '{text}'; expected {' or '.join(words)}{hint}")

    return parse


def enumerated(kind: type[Word]) -> Callable[[str], Word]:
    """Make a parser of an enumeration's values, as ``one_of`` does of words."""
    parse = one_of(*(word.value for word in kind))
    return lambda text: kind(parse(text))


def parse_labels(text: str) -> tuple[str, ...]:
    """Parse comma-separated names; duplicates are dropped."""
    return tuple(dict.fromkeys(label.strip() for label in text.split(",") if label.strip()))
