"""Times decoding and encoding, for metrics and for the traces of sampled requests."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import TypeVar

from bundleserver.serving.metrics.requests import RequestMetrics
from bundleserver.spans import Span, timed

T = TypeVar("T")


class Coding:
    """Wraps the calls that decode and encode, in whatever thread they run."""

    def __init__(self, metrics: RequestMetrics | None = None) -> None:
        """Set the metrics to count in; None counts nowhere."""
        self._metrics = metrics

    def decode(self, trace: Span | None, model: str, call: Callable[[], T]) -> Callable[[], T]:
        """Return a call that decodes a request of a known model, and is timed."""
        call = timed(trace, "decode", call)
        return call if self._metrics is None else _counted(self._metrics.decoded, model, call)

    def decoded(self, model: str, seconds: float) -> None:
        """Count what was decoded before its model was known."""
        if self._metrics is not None:
            self._metrics.decoded(model, seconds)

    def encode(self, trace: Span | None, model: str, call: Callable[[], T]) -> Callable[[], T]:
        """Return a call that encodes a response, and is timed."""
        call = timed(trace, "encode", call)
        return call if self._metrics is None else _counted(self._metrics.encoded, model, call)


def _counted(
    count: Callable[[str, float], None], model: str, call: Callable[[], T]
) -> Callable[[], T]:
    def run() -> T:
        started = perf_counter()
        result = call()
        count(model, perf_counter() - started)
        return result

    return run
