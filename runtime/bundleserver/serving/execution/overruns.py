"""Inline calls that take too long: their version leaves the event loop."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from bundleserver.bundle.placement import OVERRUN_SECONDS
from bundleserver.serving.metrics.requests import RequestMetrics

if TYPE_CHECKING:
    from bundleserver.bundle import Bundle

LOG = logging.getLogger(__name__)


def leave_the_loop(bundle: Bundle, seconds: float, metrics: RequestMetrics) -> None:
    """Send a version to the thread pool until it is loaded again, and say so."""
    bundle.placement.leave_the_loop()
    metrics.overran(bundle.model, bundle.version)
    LOG.warning(
        "%s %s: an inline call took %.1f ms, over %g ms; its calls run in the thread pool "
        "until it is reloaded",
        bundle.model,
        bundle.version,
        seconds * 1e3,
        OVERRUN_SECONDS * 1e3,
    )
