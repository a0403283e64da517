"""Sticky traffic splits: weighted rendezvous hashing of routing keys.

Every name gets a score from a hash of the key and the name, scaled by its weight; the highest score
wins. A score depends only on the key, the name and its weight, so raising a weight moves keys to
that name only, and lowering it moves keys away from that name only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from hashlib import blake2b

_BITS = 52
"""Hash bits per score: plus one half they are exact in a float, so a score is never 0 or 1."""


def choose(weights: Mapping[str, float], key: str, salt: str = "") -> str:
    """Return the name for a routing key; the same one while the weights are unchanged.

    Args:
        weights: by name, on any finite scale; a name of weight 0 gets no keys.
        key: the routing key: a user, a session, a device.
        salt: makes splits independent of each other, such as the model's name.

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
    """Return each name's share of the requests, from 0 to 1."""
    total = math.fsum(weights.values())
    return {name: weight / total for name, weight in weights.items()} if total > 0 else {}


def _uniform(*parts: str) -> float:
    """Return a number between 0 and 1, both excluded, as a hash of the parts."""
    digest = blake2b(digest_size=8)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    drawn = int.from_bytes(digest.digest(), "big") >> (64 - _BITS)
    return float((drawn + 0.5) / 2**_BITS)
