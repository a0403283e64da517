"""The metadata of models, and the index of the repository."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from types import MappingProxyType
from typing import TYPE_CHECKING

from bundleserver.documents.printable import printable
from bundleserver.errors import InvalidInput, ModelNotFound, NotReady
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
    """Refuse an unknown model before its request is decoded.

    Raises:
        ModelNotFound: the model is unknown.
    """
    if not manager.knows(model):
        raise ModelNotFound(model, manager.models())


def refuse_files(parameters: Iterable[str], verb: str) -> None:
    """Refuse a load or unload with a configuration or files of the client.

    Raises:
        InvalidInput: a parameter has one.
    """
    for name in parameters:
        if name == "config" or name.startswith("file:"):
            raise InvalidInput(
                f"the {verb} request has the parameter '{name}', which is not supported; this "
                "server loads models from its own directory only"
            )


def ready_version(manager: ServingManager, model: str, version: str | None) -> VersionStatus:
    """Find a READY version by version, by label, or None for the default one.

    Raises:
        ModelNotFound, VersionNotFound, NotReady: it is not ready.
    """
    manager.check_ready(model, version)
    status = manager.status(model)
    wanted = status.default if version is None else status.labels.get(version, version)
    for candidate in status.versions:
        if candidate.version == wanted:
            return candidate
    raise NotReady(f"model '{model}' version '{wanted}'", "it was just removed")


def model_metadata(
    status: ModelStatus, version: VersionStatus, execution: Mapping[str, str] = NOTHING
) -> dict[str, object]:
    """Describe one version of a model, how it is executed, and the other ready versions."""
    signature = version.signature
    return {
        "name": status.name,
        "versions": [v.version for v in status.versions if v.state is State.READY],
        "platform": PLATFORM,
        "inputs": [_tensor(spec) for spec in _split(signature.inputs)] if signature else [],
        "outputs": [_tensor(spec) for spec in signature.outputs] if signature else [],
        "model_version": version.version,
        "default_version": status.default,
        "known_versions": list(status.known),
        "labels": dict(status.labels),
        "metadata": {**version.metadata, **execution, **staleness(status)},
    }


def tensor_types(specs: Iterable[TensorSpec]) -> list[dict[str, object]]:
    """Describe tensors with the three members of gRPC's and kserve's metadata messages.

    A table whose columns differ in kind has a tensor for each column, as its requests have. Without
    an answer an unknown shape is ``[-1]``.
    """
    return [
        {
            "name": spec.name,
            "datatype": spec.datatype or spec.likely or "FP64",
            "shape": [-1] if spec.shape is None else list(spec.shape),
        }
        for spec in _split(specs)
    ]


def staleness(status: ModelStatus) -> dict[str, str]:
    """Return since when polling the source has failed, and why; empty if the last poll did not."""
    if status.stale_since is None:
        return {}
    since = datetime.fromtimestamp(status.stale_since, timezone.utc)
    return {
        "stale_since": since.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "stale_reason": printable(status.source_problem),
    }


Index = Callable[[bool], Awaitable[list[dict[str, object]]]]
"""Lists every version of every model, or only those that are ready."""


def own_index(manager: ServingManager) -> Index:
    """Make the index of this process only."""

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
            continue  # removed since it was listed
    return [entry for entry in entries if not ready_only or entry["state"] == "READY"]


def protocol_state(version: VersionStatus) -> str:
    """Convert a version's state to the protocol's; an unwanted one is not loading."""
    if version.state is State.DISCOVERED and not version.wanted:
        return "UNAVAILABLE"
    return _PROTOCOL_STATES[version.state]


def unready_reason(manager: ServingManager) -> str:
    """Return why the server is not ready."""
    models = manager.models()
    if not models:
        return manager.why_no_models()
    reasons = []
    for model in models:
        try:
            manager.check_ready(model)
        except (ModelNotFound, NotReady) as error:
            reasons.append(str(error))
    return "; ".join(reasons) or "a model is missing"


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
            "reason": _reason(version) + config + _stale(status, version),
        }
        for version in status.versions
    ]


def _stale(status: ModelStatus, version: VersionStatus) -> str:
    """Return why a version that answers may not be the newest one."""
    if not status.source_problem or version.state is not State.READY:
        return ""
    return f"; no newer version is seen: {printable(status.source_problem)}"


def _reason(version: VersionStatus) -> str:
    """Return the reason, prefixed with our own state."""
    word = version.state.value
    if not version.reason:
        return word
    return version.reason if version.reason.startswith(word) else f"{word}: {version.reason}"


def _split(specs: Iterable[TensorSpec]) -> Iterator[TensorSpec]:
    """Split a table into its columns where they differ in datatype: one tensor has only one."""
    for spec in specs:
        if len(set(spec.column_datatypes)) < 2:  # two are different ones
            yield spec
            continue
        # Columns without names are known by their order.
        names = spec.columns or tuple(f"column-{i}" for i in range(len(spec.column_datatypes)))
        for column, datatype in zip(names, spec.column_datatypes, strict=True):
            if column in (spec.required_columns or names):
                yield TensorSpec(column, datatype, (-1,))


def _tensor(spec: TensorSpec) -> dict[str, object]:
    (described,) = tensor_types([spec])
    parameters: dict[str, object] = {"columns": list(spec.columns)} if spec.columns else {}
    if spec.optional:
        parameters["optional"] = True
    return {**described, "parameters": parameters} if parameters else described
