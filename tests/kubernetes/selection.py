"""Which runtime KServe picks for a model, and which one its webhook refuses.

The rules are those of KServe 0.15 to 0.21: without ``runtime:`` a format counts only where
``autoSelect`` is true; it matches by name, or by name and exact version; no protocol means v1;
runtimes of the namespace come before the cluster's, and in each a higher priority first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Format:
    """One entry of ``supportedModelFormats``."""

    name: str
    version: str | None = None
    auto: bool = False
    priority: int | None = None


@dataclass(frozen=True)
class Runtime:
    """What KServe looks at when it chooses."""

    name: str
    formats: tuple[Format, ...]
    protocols: tuple[str, ...]
    namespaced: bool = False
    multi_model: bool = False
    environment: tuple[str, ...] = ()

    @classmethod
    def of(cls, document: dict[str, Any]) -> Runtime:
        """Read a ServingRuntime or ClusterServingRuntime."""
        spec = document["spec"]
        return cls(
            name=document["metadata"]["name"],
            formats=tuple(
                Format(
                    entry["name"],
                    entry.get("version"),
                    entry.get("autoSelect", False),
                    entry.get("priority"),
                )
                for entry in spec["supportedModelFormats"]
            ),
            protocols=tuple(spec.get("protocolVersions", ())),
            namespaced=document["kind"] == "ServingRuntime",
            multi_model=spec.get("multiModel", False),
            environment=tuple(
                variable["name"]
                for container in spec["containers"]
                for variable in container.get("env", ())
            ),
        )


@dataclass(frozen=True)
class Wanted:
    """What an InferenceService says about its runtime."""

    format: str
    version: str | None = None
    protocol: str | None = None
    runtime: str | None = None

    @classmethod
    def of(cls, predictor: dict[str, Any]) -> Wanted:
        """Read the predictor of an InferenceService."""
        model = predictor["model"]
        return cls(
            model["modelFormat"]["name"],
            model["modelFormat"].get("version"),
            model.get("protocolVersion"),
            model.get("runtime"),
        )


# KServe's own runtimes for formats that ours can serve too, as kserve/config/runtimes has them.
STOCK = (
    Runtime("kserve-sklearnserver", (Format("sklearn", "1", True, 1),), ("v1", "v2")),
    Runtime("kserve-xgbserver", (Format("xgboost", "2", True, 1),), ("v1", "v2")),
    Runtime("kserve-lgbserver", (Format("lightgbm", "4", True, 1),), ("v1", "v2")),
    Runtime("kserve-catboostserver", (Format("catboost", "1", True, 1),), ("v1", "v2")),
    Runtime(
        "kserve-mlserver",
        (
            Format("sklearn", "0", True, 2),
            Format("sklearn", "1", True, 2),
            Format("xgboost", "1", True, 2),
            Format("xgboost", "2", True, 2),
            Format("catboost", "1", True, 2),
            Format("lightgbm", "3", True, 2),
            Format("lightgbm", "4", True, 2),
            Format("mlflow", "1", True, 1),
            Format("mlflow", "2", True, 1),
        ),
        ("v2",),
    ),
    Runtime(
        "kserve-predictiveserver",
        (
            Format("sklearn", "1", False, 3),
            Format("xgboost", "2", False, 3),
            Format("lightgbm", "4", False, 3),
        ),
        ("v1", "v2"),
    ),
    Runtime("kserve-torchserve", (Format("pytorch", "1", True, 2),), ("v1", "v2", "grpc-v2")),
    Runtime(
        "kserve-tritonserver",
        (Format("pytorch", "1"), Format("onnx", "1", True, 1)),
        ("v2", "grpc-v2"),
    ),
)


def choose(runtimes: Sequence[Runtime], wanted: Wanted) -> str | None:
    """Return the name of the runtime that KServe takes, or None."""
    if wanted.runtime is not None:
        named = [runtime for runtime in runtimes if runtime.name == wanted.runtime]
        named.sort(key=lambda runtime: not runtime.namespaced)
        # A protocol that is not given is then the runtime's own.
        fits = named and _supports(named[0], wanted) and _speaks(named[0], wanted.protocol)
        return named[0].name if fits else None
    asked = replace(wanted, protocol=wanted.protocol or "v1")
    found = [
        runtime
        for runtime in runtimes
        if not runtime.multi_model
        and _supports(runtime, asked)
        and _speaks(runtime, asked.protocol)
    ]
    found.sort(key=lambda runtime: (not runtime.namespaced, -_priority(runtime, wanted.format)))
    return found[0].name if found else None


def refusals(new: Runtime, existing: Sequence[Runtime]) -> Iterator[str]:
    """Say why KServe's webhook would refuse a runtime beside those of its scope that are there."""
    if "PYTHONPATH" in new.environment:
        yield f"{new.name}: sets PYTHONPATH"
    for mine in new.formats:
        for other in new.formats:
            if mine.auto and other.auto and mine.name == other.name and _differ(mine, other):
                yield f"{new.name}: two priorities for {mine.name}"
    for runtime in existing:
        if runtime.name == new.name or not set(runtime.protocols) & set(new.protocols):
            continue
        for mine in new.formats:
            if any(_clash(mine, theirs) for theirs in runtime.formats):
                yield f"{new.name}: the priority that {runtime.name} has for {mine.name}"


def _supports(runtime: Runtime, wanted: Wanted) -> bool:
    return any(
        entry.name == wanted.format and wanted.version in (None, entry.version)
        for entry in runtime.formats
        if wanted.runtime is not None or entry.auto
    )


def _speaks(runtime: Runtime, protocol: str | None) -> bool:
    return protocol is None or not runtime.protocols or protocol in runtime.protocols


def _priority(runtime: Runtime, name: str) -> int:
    return max((entry.priority or 0 for entry in runtime.formats if entry.name == name), default=0)


def _differ(mine: Format, other: Format) -> bool:
    return None not in (mine.priority, other.priority) and mine.priority != other.priority


def _clash(mine: Format, theirs: Format) -> bool:
    same = mine.name.lower() == theirs.name.lower() and mine.version == theirs.version
    return (
        same
        and mine.auto
        and theirs.auto
        and mine.priority is not None
        and mine.priority == theirs.priority
    )
