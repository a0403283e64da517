"""Weights of versions and labels as the command line has them."""

from __future__ import annotations

import math

from bundleserver.versions import is_version_label
from bundleserver.versions.serving_config import is_label


def parse_traffic(text: str) -> dict[str, float]:
    """Parse weights from the command line: ``stable=90,canary=10``.

    Raises:
        ValueError: a part is invalid; the message names it.
    """
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.strip().partition("=")
        if not (is_version_label(name) or is_label(name)):
            raise ValueError(
                f"'{part}' does not name a version or label; expected stable=90,canary=10"
            )
        if name in weights:
            raise ValueError(f"'{part}' repeats '{name}'; name each version or label once")
        weights[name] = _weight(number, part)
    if not 0 < sum(weights.values()) < math.inf:
        raise ValueError(f"'{text}' adds up to {sum(weights.values())}; expected a sum above 0")
    return weights


def _weight(number: str, part: str) -> float:
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise ValueError(f"'{part}' has no valid weight; expected a non-negative number")
    return weight
