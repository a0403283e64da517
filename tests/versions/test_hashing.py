"""Which name a key falls to: as often as the weights say, and always the same."""

from __future__ import annotations

import math
import random

import pytest

from bundleserver.versions.hashing import choose, shares

KEYS = [f"user-{number}" for number in random.Random(20251209).sample(range(10**9), 20_000)]  # noqa: S311  # a fixed seed is the point


def bounds(count, share, deviations=5.0):
    """Return the counts within which a fair draw lies, but for one of about 2 million."""
    spread = deviations * math.sqrt(count * share * (1 - share))
    return count * share - spread, count * share + spread


def falls(weights, salt=""):
    """Return whom every key falls to."""
    return {key: choose(weights, key, salt) for key in KEYS}


def moved(before, after):
    """Return the moves of keys between two weightings."""
    first, second = falls(before), falls(after)
    return [(first[key], second[key]) for key in KEYS if first[key] != second[key]]


@pytest.mark.parametrize(
    "weights",
    [
        {"stable": 90, "canary": 10},
        {"stable": 0.9, "canary": 0.1},
        {"v1": 1, "v2": 1, "v3": 1},
        {"v1": 99, "v2": 1},
        {"v1": 1e300, "v2": 3e300},
        {"v1": 5e-324, "v2": 1e-323},
    ],
)
def test_choose_keeps_the_weights(weights):
    """Each name gets its share of the keys, within binomial bounds."""
    found = list(falls(weights).values())

    for name, share in shares(weights).items():
        least, most = bounds(len(KEYS), share)
        assert least <= found.count(name) <= most


def test_choose_gives_a_key_the_same_name_each_time():
    """Nothing but key, names and weights decides, in whatever order the names come."""
    assert [choose({"a": 1, "b": 2}, key) for key in KEYS[:500]] == [
        choose({"b": 2, "a": 1}, key) for key in KEYS[:500]
    ]


def test_choose_is_the_same_in_every_process_and_version():
    """Replicas and restarts agree: these answers are written down."""
    weights = {"stable": 50, "canary": 50}

    assert ["stable", "canary", "canary", "stable", "canary", "canary"] == [
        choose(weights, key, "fraud") for key in ("alice", "bob", "carol", "dave", "", "Łódź")
    ]


def test_a_weight_of_nothing_gets_nothing():
    """No key falls to a name of weight 0."""
    assert {"v1"} == set(falls({"v1": 1, "v2": 0}).values())


def test_no_weight_at_all_is_an_error():
    """There is nobody to choose when every weight is 0."""
    with pytest.raises(ValueError, match="no weight is above 0"):
        choose({"v1": 0.0}, "alice")


@pytest.mark.parametrize(
    ("before", "after", "must"),
    [
        ({"stable": 90, "canary": 10}, {"stable": 80, "canary": 20}, 0.1),
        ({"stable": 90, "canary": 10}, {"stable": 90, "canary": 20}, 20 / 110 - 0.1),
        ({"a": 50, "b": 40, "canary": 10}, {"a": 50, "b": 40, "canary": 20}, 20 / 110 - 0.1),
        ({"stable": 95, "canary": 5}, {"canary": 100}, 0.95),
    ],
)
def test_a_weight_that_rises_moves_only_the_keys_it_must(before, after, must):
    """Every key that moves goes to the raised name, and no more go than its share grows by."""
    moves = moved(before, after)

    assert {"canary"} == {to for _, to in moves}
    least, most = bounds(len(KEYS), must)
    assert least <= len(moves) <= most


def test_a_name_that_goes_gives_its_keys_away_and_moves_no_other():
    """Taking a name out of the weights moves the keys that were its own."""
    moves = moved({"a": 60, "b": 30, "c": 10}, {"a": 60, "b": 30})

    assert {"c"} == {came for came, _ in moves}


def test_two_models_draw_apart():
    """The tenth that tries one model's canary is not the tenth that tries another's."""
    first, second = falls({"a": 90, "b": 10}, "fraud"), falls({"a": 90, "b": 10}, "churn")
    both = sum(first[key] == "b" == second[key] for key in KEYS)

    least, most = bounds(len(KEYS), 0.01)
    assert least <= both <= most


def test_shares_add_up_to_one():
    """Any scale of weights becomes shares; no weights have none."""
    assert {"a": 0.75, "b": 0.25} == shares({"a": 3, "b": 1})
    assert {} == shares({})
