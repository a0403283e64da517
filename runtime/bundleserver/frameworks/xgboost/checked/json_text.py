"""JSON, without what Python's parser and XGBoost's take for different things."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from bundleserver.frameworks.boosting.soundness import NotSound
from bundleserver.frameworks.xgboost.checked.ubjson import DEEPEST

# XGBoost keeps such an escape as it is, where others put the character.
_ESCAPED = re.compile(rb"(?<!\\)(?:\\\\)*\\u")
_OPENING = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def read_json(content: bytes) -> dict[str, object]:
    """Return the object that is the whole content.

    Raises:
        NotSound: it is not JSON, or not as XGBoost writes it; says where.
    """
    if _ESCAPED.search(content):
        raise NotSound(
            "it has characters as \\u escapes, which XGBoost does not write and reads otherwise; "
            "write it with Booster.save_model"
        )
    _refuse_deep(content)
    try:
        found = json.loads(content.decode(), object_pairs_hook=_once)
    except UnicodeDecodeError as error:
        raise NotSound(f"it is no JSON: byte {error.start} is not UTF-8") from None
    except NotSound:
        raise
    except ValueError as error:
        raise NotSound(f"it is damaged, or no JSON: {error}") from None
    if type(found) is not dict:
        raise NotSound("it is JSON, but no object")
    return found


def _once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotSound("it has an object with the same key twice")
    return found


def _refuse_deep(content: bytes) -> None:
    """Refuse nesting that XGBoost's reader, which calls itself, would follow until it ends."""
    deep = 0
    for found in _OPENING.finditer(content):
        sign = found.group()
        if sign in (b"{", b"["):
            deep += 1
            if deep > DEEPEST:
                raise NotSound(f"it is nested deeper than {DEEPEST}")
        elif sign in (b"}", b"]"):
            deep -= 1
