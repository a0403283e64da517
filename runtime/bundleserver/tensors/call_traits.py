"""Call traits: what a method's calls are like, known before they are made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class CallTraits:
    """How calls of one method behave; nothing is known of most methods, so both are False.

    Attributes:
        predictable: the duration of a call with finite numbers depends only on its size, and it
            waits for nothing, so that it may run inline.
        batchable: a row's result has the same bits whatever other rows are in the call.
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
