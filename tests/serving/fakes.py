"""A manager that lends small real models, and a server around it in this process or in its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry

from bundleserver.bundle.placement import CallCost, Placement
from bundleserver.bundle.steps import Recall
from bundleserver.bundle.trust.verification import SignatureStatus
from bundleserver.errors import (
    InvalidInput,
    ModelNotFound,
    NotReady,
    PredictionError,
    VersionNotFound,
)
from bundleserver.manager import TrafficStatus
from bundleserver.serving.execution.answering import answer_watched
from bundleserver.serving.options import ServerOptions
from bundleserver.serving.requests import PredictRequest, PredictResponse
from bundleserver.serving.server import BundleServer
from bundleserver.serving.traffic.mirroring import MirroredRequest
from bundleserver.serving.traffic.splitting import Splitter
from bundleserver.tensors import Array, NamedTensor, TensorSpec
from bundleserver.tensors.budget import current_budget
from bundleserver.tensors.call_traits import UNKNOWN, CallTraits
from bundleserver.tensors.signature import Signature
from bundleserver.versions.lifecycle import State
from bundleserver.versions.serving_config import ServingConfig

DEADLINE_SECONDS = 20.0

SUMS = Signature(
    inputs=(TensorSpec("features", "FP64", (-1, 2), ("cpu", "memory")),),
    outputs=(TensorSpec("sum", "FP64", (-1,)), TensorSpec("label", "BYTES", (-1,))),
)
FORECASTS = Signature(
    inputs=(
        TensorSpec("horizon", "INT64", (1,), optional=True),
        TensorSpec("history", "FP64", (-1,), optional=True),
    ),
    outputs=(TensorSpec("mean", "FP64", (-1,)), TensorSpec("upper", "FP64", (-1,))),
    rowwise=False,
)
ECHO = Signature()
CHEAP = CallCost(one_row=1e-5, many_rows=2e-5)

Call = Callable[[Mapping[str, NamedTensor], Mapping[str, object]], dict[str, Array]]


def sums(inputs: Mapping[str, NamedTensor], parameters: Mapping[str, object]) -> dict[str, Array]:
    """Add up each row, and say whether the sum is high."""
    total = inputs["features"].values.sum(axis=1)
    labels = np.array(["high" if value > 3 else "low" for value in total], dtype=object)
    return {"sum": total, "label": labels}


def forecast(
    inputs: Mapping[str, NamedTensor], parameters: Mapping[str, object]
) -> dict[str, Array]:
    """Repeat the history's mean, with the level as the distance to its upper bound."""
    level = parameters.get("level", 0.95)
    if not isinstance(level, float):
        raise InvalidInput(f"level is {level!r}; it should be a number between 0 and 1")
    mean = inputs["history"].values.mean() if "history" in inputs else 0.0
    steps = int(inputs["horizon"].values[0])
    return {"mean": np.full(steps, mean), "upper": np.full(steps, mean + level)}


def echo(inputs: Mapping[str, NamedTensor], parameters: Mapping[str, object]) -> dict[str, Array]:
    """Give every input back under its own name."""
    return {name: tensor.values for name, tensor in inputs.items()}


class Gate:
    """A call that says when it is entered and waits until it is let through."""

    def __init__(self, then: Call = sums) -> None:
        self.entered = threading.Semaphore(0)
        self.opened = threading.Event()
        self._then = then

    def __call__(
        self, inputs: Mapping[str, NamedTensor], parameters: Mapping[str, object]
    ) -> dict[str, Array]:
        self.entered.release()
        if not self.opened.wait(DEADLINE_SECONDS):
            raise TimeoutError("nobody opened the gate")
        return self._then(inputs, parameters)


class NoMethods:
    """A model of which only its outputs can be asked for."""

    names = ()

    def unknown_output(self, name: str, outputs: Mapping[str, Array], taker: str) -> str:
        known = ", ".join(f"'{output}'" for output in outputs)
        return f"unknown output '{name}'; {taker} has the outputs {known}"


@dataclass(eq=False)
class FakeBundle:
    """One version's model: a signature and a function."""

    methods = NoMethods()

    model: str
    version: str
    signature: Signature
    call: Call
    placement: Placement
    closed: bool = False
    is_cached: Recall | None = None
    values_per_row: int = 1
    has_open_widths: bool = False

    def failure(self, what: str, cause: str, error: BaseException | None = None) -> PredictionError:
        return PredictionError(self.identity, f"{what}: {cause}", "1")

    def answering(self, asked: Sequence[str]) -> FakeBundle:
        return self

    def measure_calls(self) -> None:
        pass

    @property
    def identity(self) -> str:
        return f"'{self.model}' version {self.version}"

    def predict(
        self, inputs: Mapping[str, NamedTensor], parameters: Mapping[str, object]
    ) -> dict[str, Array]:
        assert not self.closed, "a closed bundle was asked"
        outputs = self.call(inputs, parameters)
        budget = current_budget()
        if budget is not None and all(isinstance(v, np.ndarray) for v in outputs.values()):
            budget.spend(outputs)
        return outputs


@dataclass(frozen=True)
class FakeVersion:
    """One version: how it stands, and what answers when it is READY."""

    version: str
    call: Call = sums
    signature: Signature | None = SUMS
    state: State = State.READY
    reason: str = ""
    wanted: bool = True
    in_flight: int = 0
    load_seconds: float | None = 0.25
    metadata: Mapping[str, object] = field(default_factory=dict)
    loaded_at: float | None = None
    probe_problem: str = ""
    breaks: str = ""
    mismatches: tuple[object, ...] = ()
    refused_signature: SignatureStatus | None = None
    entered_at: float | None = None
    failing_since: float | None = None
    waits_for: str = ""
    files: str = "files"
    call_traits: CallTraits = UNKNOWN
    cost: CallCost | None = CHEAP
    is_cached: Recall | None = None
    has_open_widths: bool = False


@dataclass(frozen=True)
class FakeModel:
    """One model and its versions."""

    name: str
    versions: tuple[FakeVersion, ...] = (FakeVersion("1"),)
    default: str | None = "1"
    labels: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    config_problem: str | None = None
    policy: str = "latest"
    config: ServingConfig = field(default_factory=ServingConfig)
    root: Path | None = None
    stale_since: float | None = None
    source_problem: str = ""
    known: tuple[str, ...] = ()


class FakeManager:
    """Lends bundles of the versions that are READY and counts the leases."""

    def __init__(self, *models: FakeModel) -> None:
        self._known = {model.name: model for model in models}
        self._bundles: dict[tuple[str, str], FakeBundle] = {}
        self._leases = threading.Condition()
        self.leased = 0
        self.last_poll_at: float | None = 1000.0
        self.last_poll_error: str | None = None
        self.closed = False

    def add(self, model: FakeModel) -> None:
        self._known = {**self._known, model.name: model}

    def models(self) -> tuple[str, ...]:
        return tuple(self._known)

    def knows(self, model: str) -> bool:
        return model in self._known

    def is_split(self, model: str) -> bool:
        return self.status(model).config.is_split

    def why_no_models(self) -> str:
        return "there is no model in 'here' yet"

    def status(self, model: str) -> FakeModel:
        if model not in self._known:
            raise ModelNotFound(model, self.models())
        return self._known[model]

    def traffic(self, model: str) -> TrafficStatus:
        found = self.status(model)
        ready = {v.version: v.files for v in found.versions if v.state is State.READY}
        return TrafficStatus(found.config, found.default, ready, found.root)

    def failures(self) -> Mapping[tuple[str, State], int]:
        return {(name, State.VERIFYING): 2 for name in self._known}

    def is_server_ready(self) -> bool:
        return bool(self._known) and all(self.is_ready(name) for name in self._known)

    def is_ready(self, model: str, version: str | None = None) -> bool:
        try:
            self.check_ready(model, version)
        except (ModelNotFound, VersionNotFound, NotReady):
            return False
        return True

    def check_ready(self, model: str, version: str | None = None) -> None:
        self._find(model, version)

    @contextmanager
    def acquire(self, model: str, version: str | None = None) -> Iterator[FakeBundle]:
        found = self._find(model, version)
        key = (model, found.version)
        with self._leases:
            if key not in self._bundles:
                signature = found.signature or Signature()
                placement = Placement(found.call_traits, found.cost)
                self._bundles[key] = FakeBundle(
                    *key,
                    signature,
                    found.call,
                    placement,
                    is_cached=found.is_cached,
                    has_open_widths=found.has_open_widths,
                )
            self.leased += 1
        try:
            yield self._bundles[key]
        finally:
            with self._leases:
                self.leased -= 1
                self._leases.notify_all()

    def load(self, model: str, version: str | None = None, *, timeout_seconds: float) -> None:
        self._change(model, version, State.READY, "")
        self.check_ready(model, version)

    def unload(self, model: str, version: str | None = None, *, timeout_seconds: float) -> None:
        self._change(model, version, State.UNLOADED, "unloaded by hand")

    def close(self) -> None:
        with self._leases:
            assert self._leases.wait_for(lambda: not self.leased, DEADLINE_SECONDS)
            for bundle in self._bundles.values():
                bundle.closed = True
        self.closed = True

    def _find(self, model: str, version: str | None) -> FakeVersion:
        status = self.status(model)
        wanted = status.default if version is None else status.labels.get(version, version)
        if wanted is None:
            raise NotReady(f"model '{model}'", status.reason or "no version answers")
        for found in status.versions:
            if found.version == wanted:
                if found.state is not State.READY:
                    reason = f"{found.state.value}: {found.reason}"
                    raise NotReady(f"'{model}' version {wanted}", reason, 3)
                return found
        listed = ", ".join(f"'{found.version}'" for found in status.versions)
        raise VersionNotFound(model, wanted, f"it has {listed}")

    def _change(self, model: str, version: str | None, state: State, reason: str) -> None:
        """Move versions to a state, but never one whose reason says that it is broken."""
        status = self.status(model)
        wanted = status.labels.get(version, version) if version else None
        if wanted is not None and wanted not in {found.version for found in status.versions}:
            raise VersionNotFound(model, wanted, "it is not on disk")
        self.add(
            replace(
                status,
                versions=tuple(
                    replace(found, state=state, reason=reason)
                    if wanted in (None, found.version) and found.state is not State.FAILED
                    else found
                    for found in status.versions
                ),
            )
        )


def split_and_answer(
    splitter: Splitter, request: PredictRequest, answered_by: list[str] | None = None
) -> tuple[PredictResponse, tuple[MirroredRequest, ...]]:
    """Select, acquire and answer in this thread, as it is done in those that predict."""
    traffic = splitter._manager.traffic(request.model)
    return answer_watched(splitter, request, traffic, answered_by or [""])


@dataclass
class Served:
    """A server that runs in a thread of this process, and where it listens."""

    server: BundleServer
    manager: FakeManager
    registry: CollectorRegistry

    @property
    def rest(self) -> str:
        return f"http://127.0.0.1:{self.server.http_port}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.server.grpc_port}"


@contextmanager
def serving(
    manager: FakeManager, options: ServerOptions | None = None, lame_duck_seconds: float = 0.0
) -> Iterator[Served]:
    """Serve on free ports while the block runs."""
    registry = CollectorRegistry()
    options = replace(
        options or ServerOptions(),
        http_port=0,
        grpc_port=0,
        grace_period_seconds=DEADLINE_SECONDS,
        lame_duck_seconds=lame_duck_seconds,
        configure_logging=False,
    )
    server = BundleServer(manager, options, registry)
    thread = threading.Thread(target=asyncio.run, args=(server.serve(),))
    thread.start()
    try:
        assert server.listening.wait(DEADLINE_SECONDS)
        yield Served(server, manager, registry)
    finally:
        server.stop()
        thread.join(DEADLINE_SECONDS)
        assert not thread.is_alive()


def all_versions(states: Sequence[tuple[str, State, str]]) -> tuple[FakeVersion, ...]:
    """Make versions of labels, states and reasons."""
    return tuple(FakeVersion(label, state=state, reason=why) for label, state, why in states)
