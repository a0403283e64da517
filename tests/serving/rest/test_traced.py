"""The spans of REST requests, without a socket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re

import pytest

from bundleserver.errors import InvalidInput, ModelNotFound, NotReady, PredictionError
from bundleserver.serving.errors import ClientDisconnectedError
from bundleserver.serving.rest.asgi import headers_of
from bundleserver.serving.rest.http import Answer, Request
from bundleserver.serving.rest.traced import route_of, traced_handlers
from bundleserver.serving.tracing.tracer import Tracer

PATH = ("v2", "models", "fraud", "infer")


@pytest.mark.parametrize(
    ("path", "route", "model"),
    [
        (PATH, "/v2/models/{model}/infer", "fraud"),
        (
            ("v2", "models", "versions", "versions", "models", "infer"),
            "/v2/models/{model}/versions/{version}/infer",
            "versions",
        ),
        (("v1", "models", "a:b:predict"), "/v1/models/{model}:predict", "a:b"),
        (
            ("v1", "models", "m", "versions", "v2:explain"),
            "/v1/models/{model}/versions/{version}:explain",
            "m",
        ),
        (("v1", "timeseries", "forecast"), "/v1/timeseries/forecast", None),
        (
            ("v2", "repository", "models", "m", "load"),
            "/v2/repository/models/{model}/load",
            "m",
        ),
    ],
)
def test_a_route_has_no_names(path, route, model):
    """So that there are few of them; the model is an attribute."""
    assert (route, model) == route_of(path)


def ask(handler, ended, path=PATH, headers=None):
    """Send one request to a handler that is traced; return what it answers."""
    handlers = traced_handlers(Tracer(ended.append, 1), {"POST": handler}, path)

    async def receive():
        return {"type": "http.disconnect"}

    async def answer():
        return await handlers["POST"](Request("POST", path, headers or {}, receive, 0))

    return asyncio.run(answer())


def test_what_only_reads_is_not_traced():
    """The handlers are those that were given."""
    tracer = Tracer(lambda span: None, 1)
    reads, index = {"GET": object()}, {"POST": object()}

    assert reads is traced_handlers(tracer, reads, PATH)
    assert index is traced_handlers(tracer, index, ("v2", "repository", "index"))
    assert index is traced_handlers(None, index, PATH)
    assert traced_handlers(tracer, None, PATH) is None


def test_an_unsampled_request_goes_on_as_it_is():
    """Nothing is made for it."""
    ended, seen = [], []

    async def handler(request):
        seen.append(request)
        return Answer(b"")

    ask(handler, ended, headers={b"traceparent": f"00-{1:032x}-{1:016x}-00".encode()})

    assert ([], [None]) == (ended, [request.trace for request in seen])


def test_an_unexpected_exception_has_its_incident_in_answer_log_and_span(caplog):
    """And the trace stands in the line of the log."""
    ended = []

    async def handler(request):
        raise KeyError("x")

    with caplog.at_level(logging.ERROR):
        answer = ask(handler, ended)

    (span,) = ended
    incident = re.search(rb"incident (\w+)", answer.body)[1].decode()
    assert (500, True) == (answer.status, span.is_failed)
    assert f"incident {incident}, trace {span.trace_id:032x}" in caplog.text
    kind, said = span.error
    assert "KeyError" == kind
    assert said.startswith("'x'; ")
    assert incident in said


def test_a_refusal_is_no_failure():
    """Its status is in the attributes, and its reason beside it."""
    ended = []

    async def handler(request):
        raise InvalidInput("no rows")

    answer = ask(handler, ended)

    (span,) = ended
    assert (400, 400) == (answer.status, span.attributes["http.response.status_code"])
    assert (("InvalidInput", "no rows"), False) == (span.error, span.is_failed)


@pytest.mark.parametrize(
    ("error", "is_failed"),
    [
        (InvalidInput("no rows"), False),
        (ModelNotFound("fraud", ()), False),
        (asyncio.CancelledError(), False),
        (PredictionError("fraud", "x", "i"), True),
        (NotReady("fraud", "loading"), True),
        (KeyError("x"), True),
        (SystemExit(), True),
    ],
)
def test_a_span_below_a_request_is_judged_as_the_request_is(error, is_failed):
    """By the status that its error has as an answer, from 500 on."""
    ended = []

    async def handler(request):
        with request.trace.child("predict"):
            raise error

    with contextlib.suppress(asyncio.CancelledError):
        ask(handler, ended)

    assert [is_failed] * 2 == [span.is_failed for span in ended]


def test_headers_that_are_repeated_are_one():
    """A state goes on from header to header, two parents are none."""
    parent = (b"traceparent", f"00-{1:032x}-{1:016x}-01".encode())
    states = [(b"tracestate", b"a=b"), (b"x", b"1"), (b"x", b"2"), (b"tracestate", b"c=d")]

    async def handler(request):
        return Answer(b"")

    one, none = [], []
    ask(handler, one, headers=headers_of([parent, *states]))
    ask(handler, none, headers=headers_of([parent, *states, parent]))

    assert (1, "a=b,c=d") == (one[0].parent_id, one[0].state)
    assert (0, "") == (none[0].parent_id, none[0].state)
    assert b"2" == headers_of(states)[b"x"]


@pytest.mark.parametrize("error", [ClientDisconnectedError, asyncio.CancelledError])
def test_a_client_that_leaves_ends_its_span(error):
    """Which is no failure of the server either."""
    ended = []

    async def handler(request):
        raise error

    with pytest.raises(error):
        ask(handler, ended)

    assert [(error.__name__, False)] == [(span.error[0], span.is_failed) for span in ended]
