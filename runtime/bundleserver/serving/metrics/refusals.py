"""Counts requests that no model's counter has: refused before they were decoded, or for no model.

Under overload and with broken clients these are most of them. Nothing is counted of requests that
get to their model, so they cost no more.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Mapping
from types import MappingProxyType

from prometheus_client import CollectorRegistry

from bundleserver.errors import (
    HeadTooLarge,
    InvalidInput,
    ModelNotFound,
    QueueFull,
    RequestCancelled,
    RequestTimedOut,
    RequestTooLarge,
    RequestTooSlow,
    TooManyBytes,
    TooManyValues,
)
from bundleserver.serving.errors import ClientDisconnectedError
from bundleserver.serving.metrics.series import counters

PROTOCOLS = ("v1", "v2", "grpc", "http")
"""``http`` is of heads that are refused before their path is read."""

_REASONS: Mapping[type[BaseException], str] = MappingProxyType(
    {
        TooManyBytes: "bytes_in_flight",
        QueueFull: "queue_full",
        RequestTooLarge: "too_large",
        TooManyValues: "too_large",
        HeadTooLarge: "too_large",
        RequestTooSlow: "too_slow",
        RequestTimedOut: "timed_out",
        CancelledError: "cancelled",
        RequestCancelled: "cancelled",
        ClientDisconnectedError: "cancelled",
        ModelNotFound: "not_found",
        InvalidInput: "invalid_input",
    }
)
REASONS = (*dict.fromkeys(_REASONS.values()), "error")


class Refusals:
    """The counter of refused requests by protocol and reason. Called from any thread."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Register it, with zeros from the start: a rate is missed where a series begins late."""
        self._counted = counters(
            "bundleserver_refused_requests",
            "Requests that were refused before they were decoded, or that name no known model.",
            ("protocol", "reason"),
            registry,
        )
        for protocol in PROTOCOLS:
            for reason in REASONS:
                self._counted.of(protocol, reason)

    def note(self, protocol: str, error: BaseException) -> None:
        """Count a request that was refused, or whose client left."""
        self._counted.of(protocol, reason_of(error)).inc()


def reason_of(error: BaseException) -> str:
    """Name why a request was refused, as the label ``reason`` spells it."""
    return next((_REASONS[kind] for kind in type(error).__mro__ if kind in _REASONS), "error")
