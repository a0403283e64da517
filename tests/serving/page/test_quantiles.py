"""Quantiles of histograms, as Prometheus estimates them."""

from __future__ import annotations

import pytest

from bundleserver.serving.page.quantiles import Counts, quantile_seconds, total

BOUNDS = (0.1, 0.2, 0.4)


@pytest.mark.parametrize(
    ("share", "buckets", "seconds"),
    [
        (0.5, (0, 0, 0, 0), None),
        (0.5, (10, 10, 10, 10), 0.05),
        (0.5, (0, 10, 10, 10), 0.15),
        (0.5, (5, 5, 10, 10), 0.1),
        (0.75, (5, 5, 10, 10), 0.3),
        (0.99, (0, 0, 0, 10), 0.4),
        (0.99, (98, 98, 98, 100), 0.4),
        (1.0, (1, 2, 2, 2), 0.2),
        (0.0, (0, 4, 4, 4), 0.1),
    ],
)
def test_a_quantile_is_linear_in_its_bucket(share, buckets, seconds):
    """The first bucket begins at 0; what is above all bounds counts as the highest."""
    found = quantile_seconds(share, buckets, BOUNDS)

    assert found == (None if seconds is None else pytest.approx(seconds))


def test_counts_add_up_and_take_away():
    """What came since is the difference, and all together the sum."""
    one = Counts(3, 1, 0)
    two = Counts(5, 1, 2)

    assert Counts(8, 2, 2) == total([one, two])
    assert Counts(2, 0, 2) == two.minus(one)
