"""Counts of requests in steps of time, and the quantiles of their latencies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bundleserver.serving.metrics.requests import BUCKETS


class Counts(NamedTuple):
    """How many requests there were in a step, and how they ended.

    ``failed``: the server did not answer them; ``refused``: they were not valid, or for a version
    that does not exist. ``buckets``: how many took at most each bound of ``BUCKETS``, and how many
    were timed at all, as Prometheus counts them.
    """

    requests: float = 0.0
    failed: float = 0.0
    refused: float = 0.0
    buckets: tuple[float, ...] = (0.0,) * (len(BUCKETS) + 1)

    def plus(self, other: Counts) -> Counts:
        """Add two."""
        buckets = tuple(a + b for a, b in zip(self.buckets, other.buckets, strict=True))
        return Counts(
            self.requests + other.requests,
            self.failed + other.failed,
            self.refused + other.refused,
            buckets,
        )

    def minus(self, earlier: Counts) -> Counts:
        """Return what came since an earlier count of the same."""
        buckets = tuple(a - b for a, b in zip(self.buckets, earlier.buckets, strict=True))
        return Counts(
            self.requests - earlier.requests,
            self.failed - earlier.failed,
            self.refused - earlier.refused,
            buckets,
        )


Steps = Mapping[int, Counts]
"""Counts by the number of the step; steps without requests are left out."""


def total(counts: Iterable[Counts]) -> Counts:
    """Sum counts."""
    found = Counts()
    for one in counts:
        found = found.plus(one)
    return found


def quantile_seconds(
    share: float, buckets: Sequence[float], bounds: Sequence[float] = BUCKETS
) -> float | None:
    """Estimate a quantile of latencies from a histogram; None without observations.

    As Prometheus' ``histogram_quantile`` does: linear between the bounds of the bucket that it
    falls in, the first of which begins at 0; the highest bound for what is above it
    (https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile).

    Args:
        share: between 0 and 1.
        buckets: cumulative counts, one for each bound, and the count of all.
        bounds: the upper bounds in seconds, in order.
    """
    count = buckets[-1]
    if count <= 0:
        return None
    rank, before, lower = share * count, 0.0, 0.0
    for bound, up_to in zip(bounds, buckets, strict=False):
        if up_to >= rank and up_to > before:
            return lower + (bound - lower) * (rank - before) / (up_to - before)
        before, lower = up_to, bound
    return bounds[-1]
