"""What REST says of models: their metadata, and the index of the repository."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime, timezone
from types import MappingProxyType
from typing import TYPE_CHECKING

from bundleserver.errors import ModelNotFound, NotReady
from bundleserver.serving.models import ServingManager
from bundleserver.tensors import TensorSpec
from bundleserver.versions.lifecycle import State

if TYPE_CHECKING:
    from bundleserver.manager import ModelStatus, VersionStatus

PLATFORM = "bundleserver"
EXTENSIONS = ("model_repository", "model_repository_extension", "binary_tensor_data")

NOTHING: Mapping[str, str] = MappingProxyType({})

_PROTOCOL_STATES: Mapping[State, str] = MappingProxyType(
    {
        State.DISCOVERED: "LOADING",
        State.FETCHING: "LOADING",
        State.VERIFYING: "LOADING",
        State.LOADING: "LOADING",
        State.WARMING: "LOADING",
        State.READY: "READY",
        State.DRAINING: "UNLOADING",
        State.UNLOADED: "UNAVAILABLE",
        State.FAILED: "UNAVAILABLE",
    }
)


def check_known(manager: ServingManager, model: str) -> None:
    """Tell an unknown model before anything is said about its request.

    Raises:
        ModelNotFound: no model of that name is served here.
    """
    if not manager.knows(model):
        raise ModelNotFound(model, manager.models())


def ready_version(manager: ServingManager, model: str, version: str | None) -> VersionStatus:
    """Find the READY version that a version, a label, or None for the default one, stands for.

    Raises:
        ModelNotFound, VersionNotFound, NotReady: it does not answer now.
    """
    manager.check_ready(model, version)
    status = manager.status(model)
    wanted = status.default if version is None else status.labels.get(version, version)
    for candidate in status.versions:
        if candidate.version == wanted:
            return candidate
    raise NotReady(f"model '{model}' version '{wanted}'", "it was withdrawn this moment")


def model_metadata(
    status: ModelStatus, version: VersionStatus, execution: Mapping[str, str] = NOTHING
) -> dict[str, object]:
    """Describe one version of a model, how it is executed, and which others may be asked for."""
    signature = version.signature
    return {
        "name": status.name,
        "versions": [v.version for v in status.versions if v.state is State.READY],
        "platform": PLATFORM,
        "inputs": _tensors(signature.inputs if signature else ()),
        "outputs": _tensors(signature.outputs if signature else ()),
        "model_version": version.version,
        "default_version": status.default,
        "labels": dict(status.labels),
        "metadata": {**version.metadata, **execution, **staleness(status)},
    }


def tensor_types(specs: Iterable[TensorSpec]) -> list[dict[str, object]]:
    """Describe tensors with the three members that gRPC's and kserve's metadata messages have."""
    return [
        {
            "name": spec.name,
            "datatype": spec.datatype or "",
            "shape": [-1] if spec.shape is None else list(spec.shape),
        }
        for spec in specs
    ]


def staleness(status: ModelStatus) -> dict[str, str]:
    """Say since when the source of versions has not been read, while it cannot be."""
    if status.stale_since is None:
        return {}
    since = datetime.fromtimestamp(status.stale_since, timezone.utc)
    return {"stale_since": since.strftime("%Y-%m-%dT%H:%M:%SZ")}


Index = Callable[[bool], Awaitable[list[dict[str, object]]]]
"""Lists every version of every model, or only those that are ready."""


def own_index(manager: ServingManager) -> Index:
    """Make the index of this process alone."""

    async def index(ready_only: bool) -> list[dict[str, object]]:
        return repository_index(manager, ready_only=ready_only)

    return index


def repository_index(manager: ServingManager, *, ready_only: bool) -> list[dict[str, object]]:
    """List every version of every model with the protocol's state and our own reason."""
    entries: list[dict[str, object]] = []
    for model in manager.models():
        try:
            entries += _entries(manager.status(model))
        except ModelNotFound:
            continue  # withdrawn since it was listed
    return [entry for entry in entries if not ready_only or entry["state"] == "READY"]


def protocol_state(version: VersionStatus) -> str:
    """Say a version's state in the protocol's words; one that nobody wants is not loading."""
    if version.state is State.DISCOVERED and not version.wanted:
        return "UNAVAILABLE"
    return _PROTOCOL_STATES[version.state]


def unready_reason(manager: ServingManager) -> str:
    """Say in one sentence why the server is not ready."""
    models = manager.models()
    if not models:
        return f"the server is not ready: {manager.why_no_models()}"
    reasons = []
    for model in models:
        try:
            manager.check_ready(model)
        except (ModelNotFound, NotReady) as error:
            reasons.append(str(error))
    return "the server is not ready: " + ("; ".join(reasons) or "a model is missing")


def _entries(status: ModelStatus) -> list[dict[str, object]]:
    config = f"; {status.config_problem}" if status.config_problem else ""
    if not status.versions:
        reason = (status.reason or "no version found") + config
        return [{"name": status.name, "state": "UNAVAILABLE", "reason": reason}]
    return [
        {
            "name": status.name,
            "version": version.version,
            "state": protocol_state(version),
            "reason": _reason(version) + config,
        }
        for version in status.versions
    ]


def _reason(version: VersionStatus) -> str:
    """Start with our own word for the state, once."""
    word = version.state.value
    if not version.reason:
        return word
    return version.reason if version.reason.startswith(word) else f"{word}: {version.reason}"


def _tensors(specs: Iterable[TensorSpec]) -> list[dict[str, object]]:
    return [_tensor(spec) for spec in specs]


def _tensor(spec: TensorSpec) -> dict[str, object]:
    """Describe a tensor; an open datatype is the empty text, as in gRPC, an open shape ``[-1]``."""
    described: dict[str, object] = {
        "name": spec.name,
        "datatype": spec.datatype or "",
        "shape": [-1] if spec.shape is None else list(spec.shape),
    }
    parameters: dict[str, object] = {}
    if spec.columns:
        parameters["columns"] = list(spec.columns)
    if spec.optional:
        parameters["optional"] = True
    if parameters:
        described["parameters"] = parameters
    return described
