"""The routes of V1 and V2, and their handlers."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from operator import attrgetter

from bundleserver.errors import ModelNotFound, NotReady
from bundleserver.serving.codecs import v1, v2
from bundleserver.serving.errors import NoteRefusal
from bundleserver.serving.execution.limits import Limits
from bundleserver.serving.metadata import (
    EXTENSIONS,
    check_known,
    model_metadata,
    ready_version,
    unready_reason,
)
from bundleserver.serving.metrics.coding import Coding
from bundleserver.serving.models import ServingManager
from bundleserver.serving.requests import PredictRequest, PredictResponse
from bundleserver.serving.rest import cloud_events, forecast_request, forecast_route
from bundleserver.serving.rest.cloud_events import decode_request
from bundleserver.serving.rest.heavy_work import SMALL_BYTES
from bundleserver.serving.rest.http import Answer, Handlers, Request, error_answer, json_answer
from bundleserver.serving.rest.repository import RepositoryRoutes
from bundleserver.serving.rest.traced import traced_handlers
from bundleserver.serving.tracing.tracer import Tracer
from bundleserver.serving.traffic.routing_key import ROUTING_HEADER, routing_key
from bundleserver.spans import timed
from bundleserver.tensors.budget import Budget

VERSION_HEADER = "x-model-version"
_HEADER_LENGTH = v2.HEADER_LENGTH.encode()
_DATE_BYTES = 64
"""What a step of a forecast is in work, as bytes to decode."""

_NOTED = Exception, CancelledError
_NBYTES = attrgetter("nbytes")


class Routes:
    """Handles requests on the event loop."""

    def __init__(
        self,
        *,
        answer: Callable[[PredictRequest], Awaitable[PredictResponse]],
        note_refusal: Callable[[str, str, BaseException], None] = lambda *_: None,
        note_unread: NoteRefusal = lambda *_: None,
        manager: ServingManager,
        server_name: str,
        server_version: str,
        routing_header: str = ROUTING_HEADER,
        traffic: Callable[[str], Mapping[str, object]] = lambda model: {},
        runs: Callable[[str, str], str] | None = None,
        repository: RepositoryRoutes | None = None,
        limits: Limits | None = None,
        tracer: Tracer | None = None,
        coding: Coding | None = None,
    ) -> None:
        self._answer, self._coding = answer, coding or Coding()
        self._tracer = tracer
        self._limits = limits or Limits()
        self._knows = manager.knows
        self._runs = runs
        self._note_refusal, self._note_unread = note_refusal, note_unread
        self._manager = manager
        self._server_name, self._server_version = server_name, server_version
        self._routing_header = routing_header
        self._routing_name = routing_header.lower().encode()
        self._traffic = traffic
        self._repository = repository or RepositoryRoutes(manager)
        self._heavy, self._discretion = self._repository.heavy, self._repository.discretion

    def find(self, path: tuple[str, ...]) -> Handlers | None:
        """Find the handlers of a path; None passes it to kserve's app."""
        found = self._find(list(path))
        if found is not None and path[:2] != ("v2", "repository"):
            # Whom those admit they tell everything.
            found = {verb: self._discretion.around(call) for verb, call in found.items()}
        return traced_handlers(self._tracer, found, path)

    def _find(self, path: list[str]) -> Handlers | None:
        match path:
            case ["v2", "repository", *rest]:
                return self._repository.find(rest)
            case ["v2", *rest]:
                return self._route_v2(rest)
            case ["v1", "timeseries", *rest]:
                return self._route_forecast(rest)
            case ["v1", *rest]:
                return self._route_v1(rest)
        return None

    def _route_v1(self, segments: list[str]) -> Handlers | None:
        *before, last = segments or [""]
        name, colon, verb = last.rpartition(":")
        if colon and verb in ("predict", "explain"):
            handler = self._predict if verb == "predict" else self._explain
            match [*before, name]:
                case ["models", model]:
                    return {"POST": partial(handler, model, None)}
                case ["models", model, "versions", version]:
                    return {"POST": partial(handler, model, version)}
        match segments:
            case ["models"]:
                return {"GET": self._list_models}
            case ["models", model]:
                return {"GET": partial(self._model_ready, model, None)}
            case ["models", model, "versions", version]:
                return {"GET": partial(self._model_ready, model, version)}
        return {}

    def _route_forecast(self, segments: list[str]) -> Handlers:
        match segments:
            case ["forecast"]:
                return {"POST": self._forecast}
            case ["models"]:
                return {"GET": self._list_forecasters}
        return {}

    def _route_v2(self, segments: list[str]) -> Handlers:
        match segments:
            case ["models", model, "versions", version, *rest]:
                return self._route_model(model, version, rest)
            case ["models", model, *rest]:
                return self._route_model(model, None, rest)
            case ["models"]:
                return {"GET": self._list_models}
            case ["health", "live"]:
                return {"GET": self._live}
            case ["health", "ready"]:
                return {"GET": self._ready}
            case []:
                return {"GET": self._server_metadata}
        return {}

    def _route_model(self, model: str, version: str | None, segments: list[str]) -> Handlers:
        match segments:
            case ["infer"]:
                return {"POST": partial(self._infer, model, version)}
            case ["ready"]:
                return {"GET": partial(self._model_ready, model, version)}
            case []:
                return {"GET": partial(self._model_metadata, model, version)}
        return {}

    async def _infer(self, model: str, version: str | None, request: Request) -> Answer:
        try:
            own, budget = request.own_budget(), None
            body = await request.body()
            if not self._knows(model):
                raise ModelNotFound(model, self._manager.models())
            if own is not None or len(body) > SMALL_BYTES or request.is_encoded:
                body, budget = await self._begin(request, body, own)
            key = self._routing_key(request)
        except _NOTED as error:
            self._note_unread("v2", error)
            raise
        length = request.raw_headers.get(_HEADER_LENGTH)
        announced = None if length is None else length.decode("latin-1")
        most = request.most_values
        decode = partial(v2.decode_request, body, model, version, announced, key, most)
        work = self._coding.decode(request.trace, model, decode)
        try:
            small = len(body) <= SMALL_BYTES
            asked = work() if small else await self._heavy.run(len(body), work, budget)
        except _NOTED as error:
            self._note_refusal(model, "v2", error)
            raise
        if request.trace is not None:
            asked = asked.traced(request.trace)
        response = await self._answer(asked if budget is None else asked.due(budget))
        # As ``size_bytes``, without another call for each request.
        size = sum(map(_NBYTES, response.outputs.values()))
        encoding = partial(v2.encode_response, response, asked)
        encode = self._coding.encode(asked.trace, model, encoding)
        if size <= SMALL_BYTES:
            encoded = encode()
        else:
            encoded = await self._heavy.run(size, encode, budget or self._limits.budget())
        headers = {VERSION_HEADER: response.version}
        if encoded.header_length is None:
            return Answer(encoded.body, headers=headers)
        headers[v2.HEADER_LENGTH] = str(encoded.header_length)
        return Answer(encoded.body, headers=headers, content_type="application/octet-stream")

    async def _predict(self, model: str, version: str | None, request: Request) -> Answer:
        try:
            own, budget = request.own_budget(), None
            body = await request.body()
            if not self._knows(model):
                raise ModelNotFound(model, self._manager.models())
            if own is not None or len(body) > SMALL_BYTES or request.is_encoded:
                body, budget = await self._begin(request, body, own)
            key = self._routing_key(request)
        except _NOTED as error:
            self._note_unread("v1", error)
            raise
        decode = partial(decode_request, body, request, model, version, key)
        work = self._coding.decode(request.trace, model, decode)
        try:
            small = len(body) <= SMALL_BYTES
            event, asked = work() if small else await self._heavy.run(len(body), work, budget)
        except _NOTED as error:
            self._note_refusal(model, "v1", error)
            raise
        if request.trace is not None:
            asked = asked.traced(request.trace)
        response = await self._answer(asked if budget is None else asked.due(budget))
        headers = {VERSION_HEADER: response.version}
        size = response.size_bytes
        encode = self._coding.encode(request.trace, model, partial(v1.encode_response, response))
        if event is None and size <= SMALL_BYTES:
            return Answer(encode(), headers=headers)
        budget = budget or self._limits.budget()
        if event is None:
            return Answer(await self._heavy.run(size, encode, budget), headers=headers)
        answer = partial(event.answer, model, encode, headers)
        return await self._heavy.run(cloud_events.work_bytes(size), answer, budget)

    async def _begin(
        self, request: Request, body: bytes, own: Budget | None
    ) -> tuple[bytes, Budget]:
        """Decompress a body, within the time that counts from here or with its own deadline."""
        limits = self._limits
        budget = limits.budget() if own is None else limits.budget(own.deadline, own.began)
        if request.is_encoded:
            body = await request.decompressed(body, budget)
        return body, budget

    def _routing_key(self, request: Request) -> str | None:
        key = request.raw_headers.get(self._routing_name)
        if key is None:
            return None
        return routing_key(key.decode("latin-1"), self._routing_header)

    async def _explain(self, model: str, _version: str | None, _: Request) -> Answer:
        check_known(self._manager, model)
        return error_answer(501, f"model '{model}' has no explainer; bundles only predict")

    async def _forecast(self, request: Request) -> Answer:
        trace = request.trace
        try:
            body, budget = await self._begin(request, await request.body(), request.own_budget())
            decode = partial(forecast_request.decode_body, body, request.most_values)
            asked = await self._heavy.run(len(body), timed(trace, "decode", decode), budget)
            check_known(self._manager, asked.model)
        except _NOTED as error:
            self._note_unread("v1", error)
            raise
        size = asked.horizon * len(asked.series) * _DATE_BYTES
        try:
            most = self._limits.max_answer_values
            planned = partial(forecast_route.plan_forecast, asked, self._manager, most)
            plan = await self._heavy.run(size, planned, budget)
        except _NOTED as error:
            self._note_refusal(asked.model, "v1", error)
            raise
        wanted = plan.request if trace is None else plan.request.traced(trace)
        response = await self._answer(wanted.due(budget))
        headers = {VERSION_HEADER: response.version}
        described = partial(forecast_route.describe_forecast, plan, response)
        encode = self._coding.encode(trace, asked.model, described)
        document = await self._heavy.run(size, encode, budget)
        return json_answer(document, headers)

    async def _list_forecasters(self, _: Request) -> Answer:
        return json_answer(forecast_route.forecasters(self._manager))

    async def _list_models(self, _: Request) -> Answer:
        return json_answer({"models": list(self._manager.models())})

    async def _live(self, _: Request) -> Answer:
        return json_answer({"live": True})

    async def _ready(self, _: Request) -> Answer:
        if self._manager.is_server_ready():
            return json_answer({"ready": True})
        raise NotReady("the server", unready_reason(self._manager))

    async def _model_ready(self, model: str, version: str | None, _: Request) -> Answer:
        self._manager.check_ready(model, version)
        return json_answer({"name": model, "ready": True})

    async def _server_metadata(self, _: Request) -> Answer:
        about = {"name": self._server_name, "version": self._server_version}
        return json_answer({**about, "extensions": list(EXTENSIONS)})

    async def _model_metadata(self, model: str, version: str | None, _: Request) -> Answer:
        found = self._discretion.version(ready_version(self._manager, model, version))
        runs = {"runs": self._runs(model, found.version)} if self._runs else {}
        status = self._discretion.status(self._manager.status(model))
        about = model_metadata(status, found, runs)
        if traffic := self._discretion.traffic(self._traffic(model)):
            about["traffic"] = traffic
        return json_answer(about, {VERSION_HEADER: found.version})
