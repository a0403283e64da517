"""Call traits: what is known of a method's calls before they are made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class CallTraits:
    """How calls of one method behave; nothing is known of most methods, so both are False.

    Attributes:
        predictable: a call of finite numbers costs what others of its size do, and waits for
            nothing, so that it may run inline.
        batchable: a row's answer has the same bits whatever rows are asked beside it.
    """

    predictable: bool = False
    batchable: bool = False


UNKNOWN = CallTraits()


def combined(traits: Iterable[CallTraits]) -> CallTraits:
    """Return the call traits of calls that run one after the other."""
    every = tuple(traits)
    return CallTraits(
        predictable=all(one.predictable for one in every),
        batchable=all(one.batchable for one in every),
    )
