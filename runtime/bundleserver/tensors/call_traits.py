"""What is known of a method's calls before they are made, for whoever schedules them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Conduct:
    """How calls of one method behave; nothing is known of most methods, so both are False.

    Attributes:
        steady: a call of finite numbers costs what others of its size do, and waits for nothing.
        independent: a row's answer has the same bits whatever rows are asked beside it.
    """

    steady: bool = False
    independent: bool = False


UNKNOWN = Conduct()


def together(conducts: Iterable[Conduct]) -> Conduct:
    """Return how calls behave that run one after the other."""
    every = tuple(conducts)
    return Conduct(
        steady=all(conduct.steady for conduct in every),
        independent=all(conduct.independent for conduct in every),
    )
