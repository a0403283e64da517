"""The spans of REST requests: predictions, forecasts, loads and unloads.

What only reads is not traced: probes, pages, lists, metadata.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from bundleserver.serving.errors import ClientDisconnectedError, answer_for
from bundleserver.serving.rest.http import Answer, Handler, Handlers, Request, answer_of_error
from bundleserver.serving.tracing.failures import note_failure
from bundleserver.serving.tracing.tracer import Tracer
from bundleserver.spans import Span, Value, inside


def traced_handlers(
    tracer: Tracer | None, handlers: Handlers | None, path: Sequence[str]
) -> Handlers | None:
    """Let the handlers of a path be traced, those that only read left out; None: nothing is."""
    if (
        tracer is None
        or not handlers
        or "POST" not in handlers
        or list(path) == ["v2", "repository", "index"]
    ):
        return handlers
    return {**handlers, "POST": _traced(tracer, handlers["POST"], path)}


def _traced(tracer: Tracer, handler: Handler, path: Sequence[str]) -> Handler:
    route, model = route_of(path)
    name = f"POST {route}"
    known: dict[str, Value] = {
        "http.request.method": "POST",
        "http.route": route,
        "url.path": "/" + "/".join(path),
        "bundleserver.protocol": path[0],
    }
    if model is not None:
        known["bundleserver.model"] = model

    sample = tracer.sample

    def begin(request: Request) -> Awaitable[Answer]:
        parent = request.raw_headers.get(b"traceparent")
        sampled = sample(None if parent is None else parent.decode("latin-1"))
        if sampled is None:
            return handler(request)
        state = request.header(b"tracestate")
        span = tracer.begin_request(name, sampled, dict(known), state)
        return _answer(handler, Request(*request[:-1], span), span)

    return begin


async def _answer(handler: Handler, request: Request, span: Span) -> Answer:
    try:
        try:
            answer = await handler(request)
        except ClientDisconnectedError:
            raise
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001  # the edge
            with inside(span):
                mapped = answer_for(error)
            note_failure(span, error, mapped)
            answer = answer_of_error(mapped)
        span.set("http.response.status_code", answer.status)
        return answer
    except BaseException as error:  # nobody waits for it any more
        span.fail(error, is_failed=False)
        raise
    finally:
        span.end()


def route_of(path: Sequence[str]) -> tuple[str, str | None]:
    """Return the route of a path, with names in braces for what differs, and its model."""
    route, model, before = "", None, ""
    for segment in path:
        if before == "models":
            name, colon, verb = segment.rpartition(":")
            is_called = bool(colon) and verb in ("predict", "explain") and path[0] == "v1"
            model = name if is_called else segment
            route += f"/{{model}}:{verb}" if is_called else "/{model}"
        elif before == "versions":
            verb = segment.rpartition(":")[2]
            is_called = verb in ("predict", "explain") and path[0] == "v1"
            route += f"/{{version}}:{verb}" if is_called else "/{version}"
        else:
            route += f"/{segment}"
        # A model may be called "versions".
        before = "" if before in ("models", "versions") else segment
    return route, model
