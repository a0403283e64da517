"""A small manager, a small model and a client, for tests of the REST routes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httpx
import numpy as np

from bundleserver.errors import InvalidInput, ModelNotFound, NotReady, VersionNotFound
from bundleserver.serving.administration import Administration
from bundleserver.serving.requests import PredictRequest, PredictResponse
from bundleserver.serving.rest.app import RestApp
from bundleserver.serving.rest.repository import RepositoryRoutes
from bundleserver.serving.rest.routes import Routes
from bundleserver.tensors import TensorSpec
from bundleserver.tensors.signature import Signature
from bundleserver.versions.lifecycle import State

SUMS = Signature(
    inputs=(TensorSpec("features", "FP64", (-1, 2), ("cpu", "memory")),),
    outputs=(TensorSpec("sum", "FP64", (-1,)), TensorSpec("label", "BYTES", (-1,))),
)

LIMIT_BYTES = 1_000_000


@dataclass(frozen=True)
class FakeVersion:
    """What the manager says of one version."""

    version: str
    state: State = State.READY
    reason: str = ""
    wanted: bool = True
    metadata: Mapping[str, object] = field(default_factory=dict)
    signature: Signature | None = SUMS


@dataclass(frozen=True)
class FakeModel:
    """What the manager says of one model."""

    name: str
    versions: tuple[FakeVersion, ...] = (FakeVersion("1"),)
    default: str | None = "1"
    labels: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    config_problem: str | None = None
    stale_since: float | None = None
    source_problem: str = ""
    known: tuple[str, ...] = ()


BROKEN_FORECASTER = FakeModel(
    "broken", (FakeVersion("1", State.FAILED, "FAILED while LOADING: no"),), default=None
)


class FakeManager:
    """Keeps models in a dict; loading waits for ``gate`` and notes what it was asked."""

    def __init__(self, *models: FakeModel) -> None:
        self.known = {model.name: model for model in models}
        self.gate = threading.Event()
        self.gate.set()
        self.changes: list[tuple[str, str, str | None]] = []

    def models(self) -> tuple[str, ...]:
        return tuple(self.known)

    def knows(self, model: str) -> bool:
        return model in self.known

    def status(self, model: str) -> FakeModel:
        if model not in self.known:
            raise ModelNotFound(model, self.models())
        return self.known[model]

    def check_ready(self, model: str, version: str | None = None) -> None:
        status = self.status(model)
        wanted = status.default if version is None else status.labels.get(version, version)
        if wanted is None:
            raise NotReady(f"model '{model}'", status.reason or "no version answers")
        for found in status.versions:
            if found.version == wanted:
                if found.state is not State.READY:
                    raise NotReady(f"'{model}' version '{wanted}'", found.reason, 3)
                return
        listed = ", ".join(v.version for v in status.versions)
        raise VersionNotFound(model, version or "", f"it has {listed}")

    def is_server_ready(self) -> bool:
        try:
            for model in self.known:
                self.check_ready(model)
        except NotReady:
            return False
        return bool(self.known)

    def why_no_models(self) -> str:
        return "there is no model in 'here' yet"

    def load(self, model: str, version: str | None = None, *, timeout_seconds: float) -> None:
        self.status(model)
        if not self.gate.wait(timeout_seconds):
            raise NotReady(f"model '{model}'", "the load took too long")
        self.changes.append(("load", model, version))

    def unload(self, model: str, version: str | None = None, *, timeout_seconds: float) -> None:
        self.status(model)
        self.changes.append(("unload", model, version))


class FakeBundles:
    """Answers with the sum of each row, and a label; notes the requests that it was asked."""

    def __init__(self, manager: FakeManager) -> None:
        self._manager = manager
        self.requests: list[PredictRequest] = []
        self.error: BaseException | None = None
        self.only: tuple[str, ...] = ("mean", "lower", "upper", "ds")

    async def answer(self, request: PredictRequest) -> PredictResponse:
        self.requests.append(request)
        if self.error is not None:
            raise self.error
        self._manager.check_ready(request.model, request.version)
        status = self._manager.status(request.model)
        version = status.labels.get(request.version or "", request.version) or status.default
        signature = status.versions[0].signature
        assert signature is not None
        if not signature.rowwise:
            return self._forecast(request, version, signature)
        if request.rows is not None:
            bound = signature.validate_rows(request.rows, "'sums' version 1")
        else:
            bound = signature.validate_tensors(request.tensors or (), "'sums' version 1")
        sums = bound["features"].values.sum(axis=1)
        labels = np.array(["high" if value > 3 else "low" for value in sums], dtype=object)
        return PredictResponse(
            request.model, version or "", {"sum": sums, "label": labels}, id=request.id
        )

    def _forecast(
        self, request: PredictRequest, version: str | None, signature: Signature
    ) -> PredictResponse:
        """Answer each row with its horizon, its level and the mean of its history."""
        answers: list[object] = []
        for row in request.rows or []:
            assert isinstance(row, dict)
            unknown = row.keys() - {"level"} - {spec.name for spec in signature.inputs}
            if unknown:
                raise InvalidInput(f"unknown input '{unknown.pop()}'")
            steps = len(row["ds"]) if "ds" in row else row["horizon"]
            mean = float(np.mean(row.get("history", [0.0])))
            level = row.get("level", 0.95)
            outputs = {
                "mean": np.full(steps, mean),
                "lower": [mean - level] * steps,
                "upper": [mean + level] * steps,
                "ds": row.get("ds", [f"2020-01-{day + 1:02}T00:00:00" for day in range(steps)]),
            }
            answers.append({name: outputs[name] for name in self.only})
        return PredictResponse(request.model, version or "", rowwise=False, answers=answers)


async def no_fallback(scope: object, receive: object, send: Callable) -> None:
    """Stand where kserve's app stands, and answer as it does what it does not know."""
    await send(
        {
            "type": "http.response.start",
            "status": 404,
            "headers": [(b"content-type", b"application/json")],
        }
    )
    await send({"type": "http.response.body", "body": b'{"detail":"Not Found"}'})


class Rest:
    """The application under test with its manager and bundles, and a client that asks it."""

    def __init__(
        self,
        *models: FakeModel,
        fallback: Callable = no_fallback,
        administration: Administration | None = None,
    ) -> None:
        """Serve models; ``administration`` decides about changes, None: they are open to all."""
        self.manager = FakeManager(*models)
        self.bundles = FakeBundles(self.manager)
        routes = Routes(
            answer=self.bundles.answer,
            manager=self.manager,
            server_name="bundleserver",
            server_version="0.1.0",
            repository=RepositoryRoutes(
                self.manager, administration or Administration("open"), load_timeout_seconds=30.0
            ),
        )
        self.app = RestApp(routes, fallback, max_request_bytes=LIMIT_BYTES)

    def ask(self, method: str, path: str, **options: object) -> httpx.Response:
        """Send one request."""

        async def send() -> httpx.Response:
            async with self.client() as client:
                return await client.request(method, path, **options)

        return asyncio.run(send())

    def client(self) -> httpx.AsyncClient:
        """Open a client, for tests that send several requests at once."""
        transport = httpx.ASGITransport(app=self.app)
        return httpx.AsyncClient(transport=transport, base_url="http://server")
