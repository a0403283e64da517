"""JSON, without what Python's parser and XGBoost's take for different things."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from bundleserver.frameworks.boosting.soundness import NotSound
from bundleserver.frameworks.xgboost.checked.ubjson import DEEPEST

_BEFORE_U = re.compile(rb"(?<!\\)\\+u")
_TOO_DEEP = f"it is nested deeper than {DEEPEST}"


def read_json(content: bytes) -> dict[str, object]:
    """Return the object that is the whole content.

    Raises:
        NotSound: it is not JSON, or not as XGBoost writes it; says where.
    """
    # XGBoost keeps such an escape as it is, where others put the character. Of an even number of
    # backslashes each pair is one backslash, and 'u' a letter.
    if any(len(found.group()) % 2 == 0 for found in _BEFORE_U.finditer(content)):
        raise NotSound(
            "it has characters as \\u escapes, which XGBoost does not write and reads otherwise; "
            "write it with Booster.save_model"
        )
    try:
        found = json.loads(content.decode(), object_pairs_hook=_once)
    except UnicodeDecodeError as error:
        raise NotSound(f"it is not valid JSON: byte {error.start} is not UTF-8") from None
    except RecursionError:
        raise NotSound(_TOO_DEEP) from None
    except NotSound:
        raise
    except ValueError as error:
        raise NotSound(f"it is damaged, or no JSON: {error}") from None
    if type(found) is not dict:
        raise NotSound("it is JSON, but no object")
    _refuse_deep(found)
    return found


def _once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotSound("it has an object with the same key twice")
    return found


def _refuse_deep(document: object) -> None:
    """Refuse nesting that XGBoost's reader, which calls itself, would follow until it ends."""
    level = [document]
    for _ in range(DEEPEST):
        inside: list[object] = []
        for value in level:
            values = value.values() if type(value) is dict else value
            inside += [each for each in values if type(each) in (dict, list)]  # type: ignore[attr-defined]  # a list
        level = inside
    if level:
        raise NotSound(_TOO_DEEP)
