"""Which share of the requests a key belongs to: weighted rendezvous hashing.

Every name draws a number from the key and its own name, as large as its weight allows, and the
largest wins. Each draw depends on nothing but the key, the name and its weight; so a weight that
rises takes keys from the others and moves none between them, and one that falls gives only its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from hashlib import blake2b

_BITS = 52
"""So many random bits and a half fit into a float exactly, which so is never 0 and never 1."""


def choose(weights: Mapping[str, float], key: str, salt: str = "") -> str:
    """Return the name that a key falls to; the same one as long as the weights stay as they are.

    Args:
        weights: by name, any finite scale; a name of weight 0 gets nothing.
        key: what stays together: a user, a session, a device.
        salt: sets one draw of the same keys apart from another, as of another model.

    Raises:
        ValueError: no weight is above 0.
    """
    scores = {
        name: math.log(weight) - math.log(-math.log(_uniform(salt, name, key)))
        for name, weight in weights.items()
        if weight > 0
    }
    if not scores:
        raise ValueError("no weight is above 0")
    return max(scores, key=lambda name: (scores[name], name))


def shares(weights: Mapping[str, float]) -> dict[str, float]:
    """Return each name's share of all requests, from 0 to 1."""
    total = math.fsum(weights.values())
    return {name: weight / total for name, weight in weights.items()} if total > 0 else {}


def _uniform(*parts: str) -> float:
    """Return a number between 0 and 1, both excluded, that the parts alone decide."""
    digest = blake2b(digest_size=8)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    drawn = int.from_bytes(digest.digest(), "big") >> (64 - _BITS)
    return float((drawn + 0.5) / 2**_BITS)
