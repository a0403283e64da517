"""The spans of RPCs: predictions, loads and unloads; what only reads is not traced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import grpc

from bundleserver.serving.errors import ErrorAnswer
from bundleserver.serving.grpc import open_inference
from bundleserver.serving.tracing.failures import note_failure
from bundleserver.serving.tracing.tracer import Tracer
from bundleserver.spans import Span

TRACED = frozenset({"ModelInfer", "RepositoryModelLoad", "RepositoryModelUnload"})
CONTEXT = frozenset({"traceparent", "tracestate"})
_STATUS = "rpc.grpc.status_code"


def begin_call(
    tracer: Tracer, rpc: str, metadata: Iterable[tuple[str, str | bytes]]
) -> Span | None:
    """Begin the span of an RPC, below that of its caller; None if it is not traced."""
    if rpc not in TRACED:
        return None
    context: dict[str, str] = {}
    for name, value in metadata:
        if name in CONTEXT and isinstance(value, str):
            context[name] = f"{context[name]},{value}" if name in context else value
    sampled = tracer.sample(context.get("traceparent"))
    if sampled is None:
        return None
    service = open_inference.SERVICE
    return tracer.begin_request(
        f"{service}/{rpc}",
        sampled,
        {
            "rpc.system": "grpc",
            "rpc.service": service,
            "rpc.method": rpc,
            "bundleserver.protocol": "grpc",
        },
        context.get("tracestate"),
    )


def note_status(span: Span, error: BaseException, answer: ErrorAnswer) -> None:
    """Note what an RPC is answered with instead of a response."""
    note_failure(span, error, answer)
    span.set(_STATUS, grpc.StatusCode[answer.grpc_code].value[0])


@contextmanager
def ended(span: Span | None) -> Iterator[None]:
    """End the span of an RPC with the RPC."""
    try:
        yield
    except BaseException as error:
        if span is not None and span.error is None:
            span.fail(error, is_failed=False)
            span.set(_STATUS, grpc.StatusCode.CANCELLED.value[0])
        raise
    else:
        if span is not None:
            span.set(_STATUS, grpc.StatusCode.OK.value[0])
    finally:
        if span is not None:
            span.end()
