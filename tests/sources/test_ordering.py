"""Versions in their order, from look to look."""

from __future__ import annotations

import numpy as np
import pytest

from bundleserver.sources.ordering import OrderedVersions
from bundleserver.versions import Version, same_order

SOME = [*map(str, range(60)), *(f"v{n}" for n in range(40, 80)), "1.2.0-rc1", "1.2.0", "2025-12-09"]


def fresh(labels: tuple[str, ...]) -> OrderedVersions:
    """Order labels that nobody has seen before."""
    return OrderedVersions().with_labels(labels)


@pytest.mark.parametrize("most", [3, 30, 300])
def test_later_looks_order_as_a_first_one_does(most):
    """However many come and go between two looks, the order is that of a first look."""
    chance = np.random.default_rng(most)
    ordered = OrderedVersions()
    for _ in range(50):
        labels = set(ordered.labels)
        changing = int(chance.integers(min(most, len(SOME))))
        labels ^= {*chance.permutation(SOME).tolist()[:changing]}
        ordered = ordered.with_labels(tuple(chance.permutation(sorted(labels)).tolist()))

        versions = sorted(map(Version, labels))
        assert [*reversed(versions)] == [*ordered.newest_first]
        assert same_order(versions) == ordered.alike
        assert {version.label: version for version in versions} == ordered.known


def test_a_look_that_finds_nothing_new_costs_nothing():
    """The same labels are the same value, without another look at any."""
    ordered = fresh(("v1", "v3", "v2"))

    assert ordered is ordered.with_labels(("v1", "v3", "v2"))


def test_one_new_version_leaves_the_others_as_they_are():
    """What was worked out for thousands of versions is kept when one more is published."""
    labels = tuple(f"v{number}" for number in range(1000))
    before = fresh(labels)

    after = before.with_labels((*labels[:500], "v2000", *labels[501:]))

    assert ["v2000", "v999"] == [version.label for version in after.newest_first[:2]]
    assert all(version is before.known[version.label] for version in after.newest_first[1:])
    assert "v500" not in after.known
