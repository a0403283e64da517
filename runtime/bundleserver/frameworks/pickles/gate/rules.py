"""What the states of single classes may have, each rule with its reason.

A rule holds for a class and for those that extend it, whatever name a pickle has for them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

from bundleserver.frameworks.pickles.gate.arrays import ARRAY_CHECKS, ARRAY_SETTERS
from bundleserver.frameworks.pickles.gate.refusal import Refused
from bundleserver.frameworks.pickles.gate.session import Session


def _set_partial(session: Session, made: object, state: object) -> None:
    """Give a partial its arguments; the function is the one that it was made with."""
    function, args, keywords, attributes = cast("Any", state)
    found = session.reference_to(function)
    is_same = found is not None and function is cast("functools.partial[object]", made).func
    if not is_same or type(args) is not tuple or type(keywords) is not dict or attributes:
        raise Refused("a partial has a state that functools does not write")
    cast(Any, made).__setstate__((function, args, keywords, None))


def _check_text_input(state: object) -> None:
    """Refuse a vectorizer that opens the files that requests name."""
    if isinstance(state, Mapping) and state.get("input", "content") != "content":
        raise Refused("a text vectorizer has another input than 'content', so it would open files")


SETTERS: Mapping[str, Callable[[Session, object, object], None]] = {
    "functools.partial": _set_partial,
    **ARRAY_SETTERS,
}
"""Classes whose state is set by a function of ours."""

CHECKS: Mapping[str, Callable[[object], None]] = {
    "sklearn.feature_extraction.text._VectorizerMixin": _check_text_input,
    **ARRAY_CHECKS,
}
"""Classes whose state is checked before they get it."""

AUDITS: Mapping[str, Callable[[object], None]] = {}
"""Classes whose objects are checked once everything is there."""
