"""The Python models of KServe and Kubernetes, a second check of fields and types."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from kubernetes import client

_PRIMITIVE = {"str": str, "int": int, "bool": bool, "float": (int, float), "object": object}
_CORE = {
    ("v1", "PersistentVolumeClaim"): "V1PersistentVolumeClaim",
    ("v1", "ConfigMap"): "V1ConfigMap",
    ("v1", "Secret"): "V1Secret",
    ("v1", "Pod"): "V1Pod",
    ("batch/v1", "Job"): "V1Job",
    ("networking.k8s.io/v1", "NetworkPolicy"): "V1NetworkPolicy",
}
_KSERVE = {
    ("serving.kserve.io/v1beta1", "InferenceService"): "V1beta1InferenceService",
    ("serving.kserve.io/v1alpha1", "ServingRuntime"): "V1alpha1ServingRuntime",
    ("serving.kserve.io/v1alpha1", "ClusterServingRuntime"): "V1alpha1ClusterServingRuntime",
    ("serving.kserve.io/v1alpha1", "InferenceGraph"): "V1alpha1InferenceGraph",
}
# None has a Python model; their own fields are few.
_FIELDS = {
    "Template": {"message", "objects", "parameters", "labels"},
    "ClusterStorageContainer": {"spec", "disabled"},
    "HTTPRoute": {"spec"},
    "PodMonitor": {"spec"},
    "PrometheusRule": {"spec"},
}
_COMMON = {"apiVersion", "kind", "metadata"}


def model_problems(document: dict[str, Any]) -> list[str]:
    """Return what the Python models have against an object; one of an unknown kind is a problem."""
    key = (document["apiVersion"], document["kind"])
    where = document["kind"]
    if where in _FIELDS:
        unknown = sorted(set(document) - _FIELDS[where] - _COMMON)
        container = document.get("spec", {}).get("container", {"name": "none"})
        return [
            *(f"{where}: unknown field {name}" for name in unknown),
            *_value_problems(document["metadata"], "V1ObjectMeta", f"{where}.metadata"),
            *_value_problems(container, "V1Container", f"{where}.spec.container"),
        ]
    name = _CORE.get(key) or _KSERVE.get(key)
    if name is None:
        return [f"{where}: no kind that is known here: {key}"]
    return list(_value_problems(document, name, where))


def _value_problems(value: Any, kind: str, where: str) -> Iterator[str]:
    if kind.startswith("list["):
        if not isinstance(value, list):
            yield f"{where}: is {value!r}, not a list"
            return
        for index, item in enumerate(value):
            yield from _value_problems(item, kind[5:-1], f"{where}[{index}]")
    elif kind.startswith("dict("):
        if not isinstance(value, dict):
            yield f"{where}: is {value!r}, not an object"
            return
        for name, item in value.items():
            yield from _value_problems(item, kind[5:-1].partition(", ")[2], f"{where}.{name}")
    elif kind in _PRIMITIVE:
        # Python counts a bool among the whole numbers.
        is_stray_bool = isinstance(value, bool) and kind not in ("bool", "object")
        if is_stray_bool or not isinstance(value, _PRIMITIVE[kind]):
            yield f"{where}: is {value!r}, not a {kind}"
    else:
        yield from _object_problems(value, kind, where)


def _object_problems(value: Any, kind: str, where: str) -> Iterator[str]:
    model = _model(kind)
    if model is None:
        # A quantity, a time: KServe's models name types of Go there that have no Python model.
        return
    if not isinstance(value, dict):
        yield f"{where}: is {value!r}, not an object"
        return
    attributes = {field: name for name, field in model.attribute_map.items()}
    for field, item in value.items():
        if field not in attributes:
            yield f"{where}: unknown field {field}"
            continue
        yield from _value_problems(item, model.openapi_types[attributes[field]], f"{where}.{field}")
    try:
        model(**{attributes[field]: item for field, item in value.items() if field in attributes})
    except ValueError as error:
        yield f"{where}: {error}"


@functools.cache
def _model(name: str) -> Any:
    from bundleserver.serving.kserve.sdk import hidden_arguments

    # kserve would read pytest's own arguments.
    with hidden_arguments():
        import kserve
    return getattr(kserve, name, None) or getattr(client, name, None)
