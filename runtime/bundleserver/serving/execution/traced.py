"""The spans between decoding and encoding: route, wait, predict; for requests that are traced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from bundleserver.errors import InvalidInput
from bundleserver.spans import Span, Value

if TYPE_CHECKING:
    from bundleserver.bundle import Bundle
    from bundleserver.tensors import NamedTensor

T = TypeVar("T")

MODEL, VERSION, ROWS = "bundleserver.model", "bundleserver.version", "bundleserver.rows"
CACHE_HIT = "bundleserver.cache_hit"
BATCH_REQUESTS, BATCH_ROWS = "bundleserver.batch.requests", "bundleserver.batch.rows"


def note_route(trace: Span, bundle: Bundle, rows: int, seconds: float) -> None:
    """Note which version a request got, and how long that took."""
    facts: dict[str, Value] = {MODEL: bundle.model, VERSION: bundle.version, ROWS: rows}
    trace.attributes |= facts
    trace.past("route", seconds, **{VERSION: bundle.version})


def note_cache(
    trace: Span, bundle: Bundle, inputs: Mapping[str, NamedTensor], parameters: Mapping[str, object]
) -> None:
    """Note whether a forecast is cached; a request with several instances, whether all are."""
    if bundle.is_cached is None:
        return
    with suppress(InvalidInput):  # the call itself says so
        is_hit = bundle.is_cached(inputs, parameters)
        trace.set(CACHE_HIT, is_hit and trace.attributes.get(CACHE_HIT) is not False)


def mirrored_in_span(trace: Span, bundle: Bundle, rows: int, call: Callable[[], T]) -> T:
    """Run a mirrored request, which may begin long after its response was sent."""
    facts: dict[str, Value] = {VERSION: bundle.version, ROWS: rows}
    with trace.child("mirror", **facts):
        return call()


def batch_in_spans(
    traces: Sequence[tuple[Span, int]],
    requests: int,
    rows: int,
    call: Callable[[], T],
) -> T:
    """Run one call for several requests in a span of each that is traced.

    The spans of its components are below the first one; the others have a link to that.

    Args:
        traces: the spans of requests that are traced, at least one, and their rows.
        requests: how many requests the batch has.
        rows: how many rows it has.
        call: the call.
    """
    begun: list[Span] = []
    for trace, own in traces:
        span = trace.child("predict", **{ROWS: own})
        span.set(BATCH_REQUESTS, requests)
        span.set(BATCH_ROWS, rows)
        if begun:
            span.links = ((begun[0].trace_id, begun[0].span_id),)
        begun.append(span)
    try:
        with begun[0]:
            return call()
    except BaseException as error:
        for span in begun[1:]:
            span.fail(error)
        raise
    finally:
        for span in begun[1:]:
            span.end()
