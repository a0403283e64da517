"""Boosters of LightGBM: their text is checked as that of a file is, before the library reads it."""

from __future__ import annotations

from bundleserver.frameworks.lightgbm_text.model import read_model
from bundleserver.frameworks.lightgbm_text.numbers import Malformed
from bundleserver.frameworks.pickles.gate.refusal import Refused, kind_of


def check_lightgbm(state: object) -> None:
    """Check the state of a booster.

    Raises:
        Refused: its trees are no text, or would lead the library out of its arrays.
    """
    if type(state) is not dict:
        raise Refused(f"the state of a booster is a {kind_of(state)}; expected a dict")
    for name in ("handle", "_handle"):
        text = state.get(name)
        if type(text) not in (str, type(None)):
            # What is freed in the end is the address that it gets.
            raise Refused(f"'{name}' of a booster is a {kind_of(text)}; expected its trees")
        if text is not None:
            _check_text(text)


def _check_text(text: str) -> None:
    try:
        read_model(text.encode(errors="replace"))
    except Malformed as error:
        raise Refused(f"the text of a booster of LightGBM {error}") from error
