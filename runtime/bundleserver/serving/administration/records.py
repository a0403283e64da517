"""What is told of changes by request: a line in the log, and a counter."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from prometheus_client import REGISTRY, CollectorRegistry, Counter

from bundleserver.documents.printable import printable
from bundleserver.serving.administration.asking import Asked

LOG = logging.getLogger(__name__)

ALLOWED, CLOSED, UNAUTHENTICATED, CROSS_SITE = "allowed", "closed", "unauthenticated", "cross_site"
RESULTS = (ALLOWED, CLOSED, UNAUTHENTICATED, CROSS_SITE)
CHANGES = ("load", "unload")

_LONGEST_NAME = 100
_MOST_LINES, _SECONDS_EACH = 10, 6.0
"""Lines about refusals: so many at once, then one each so many seconds."""


class AdminMetrics:
    """Counts the requests that ask to administer. Called from the event loop.

    No label has a model: whoever is refused may name any number of them.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._requests = Counter(
            "bundleserver_admin_requests",
            "Requests to load, to unload and, where it is closed, to read the index, by result.",
            ("request", "protocol", "result"),
            registry=registry,
        )
        # So that an alert sees the first one as an increase.
        for change in CHANGES:
            for protocol in ("rest", "grpc"):
                for result in RESULTS:
                    self._requests.labels(change, protocol, result)

    def count(self, request: str, protocol: str, result: str) -> None:
        """Count one."""
        self._requests.labels(request, protocol, result).inc()


class LineBudget:
    """So many lines at once, then one each so many seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._left, self._since = float(_MOST_LINES), now()

    def spend(self) -> bool:
        """Take one line; returns whether there was one left."""
        now = self._now()
        self._left = min(_MOST_LINES, self._left + (now - self._since) / _SECONDS_EACH)
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class AdminLog:
    """Writes a line for each change that is allowed, and for refusals up to a rate."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._budget, self._left_out = LineBudget(now), 0

    def note(self, what: str, asked: Asked, result: str) -> None:
        """Write what was asked for, from where, and whether it was allowed."""
        if result == ALLOWED:
            self._write(logging.INFO, what, asked, ALLOWED)
        elif self._budget.spend():
            told, self._left_out = self._left_out, 0
            more = f"; {told} more refused since the last line" if told else ""
            self._write(logging.WARNING, what, asked, f"refused ({result}{more})")
        else:
            self._left_out += 1

    def _write(self, level: int, what: str, asked: Asked, result: str) -> None:
        # Names come last: what they say cannot be taken for what follows.
        peer, protocol = printable(asked.peer, _LONGEST_NAME), asked.protocol
        form = "administration request from %s over %s: %s: %s"
        LOG.log(level, form, peer, protocol, result, what)


def described(verb: str, model: str, version: str | None) -> str:
    """Describe a change, with the names that the request has for it."""
    named = f"{verb} of model '{printable(model, _LONGEST_NAME)}'"
    return f"{named} version '{printable(version, _LONGEST_NAME)}'" if version else named
