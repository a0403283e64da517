"""The container that KServe makes of a runtime and an InferenceService."""

from __future__ import annotations

import json
from typing import Any

from tests.kubernetes.documents import kustomizations, unpacked
from tests.kubernetes.kustomize import build_here

# KServe's rule for the port that carries gRPC, and Knative's for the names that a port may have.
GRPC_NAMES = ("grpc", "h2c")
KNATIVE_NAMES = ("", "http1", "h2c")
TERMINATION_SECONDS = 30
"""What Kubernetes gives a pod that says nothing."""

RUNTIMES = {
    path.name: found
    for path in kustomizations()
    for document in build_here(path)
    for found in unpacked(document)
    if found["kind"] in ("ServingRuntime", "ClusterServingRuntime")
}
"""Every runtime, by the name of the directory that it is built from."""


def mode_of(service: dict[str, Any]) -> str | None:
    """Return the deployment mode that a service asks for, if it does."""
    annotations = service["metadata"].get("annotations", {})
    return annotations.get("serving.kserve.io/deploymentMode")


def runtime_of(service: dict[str, Any]) -> dict[str, Any]:
    """Return the runtime that a service is written for: the base where Knative is asked for."""
    name = service["spec"]["predictor"]["model"].get("runtime", "bundleserver")
    usual = "base" if mode_of(service) == "Knative" else "standard"
    return RUNTIMES[usual if name == "bundleserver" else name.removeprefix("bundleserver-")]


def merged(runtime: dict[str, Any], service: dict[str, Any]) -> dict[str, Any]:
    """Return the server's container: arguments in a row, ports by number, no placeholders."""
    (container,) = runtime["spec"]["containers"]
    model = service["spec"]["predictor"]["model"]
    ports = {port["containerPort"]: port for port in container.get("ports", ())}
    ports |= {port["containerPort"]: port for port in model.get("ports", ())}
    result = container | {
        "args": [*container.get("args", ()), *model.get("args", ())],
        "ports": list(ports.values()),
        "lifecycle": container.get("lifecycle", {}) | model.get("lifecycle", {}),
    }
    return rendered(result, service["metadata"]["name"])


def rendered(container: dict[str, Any], name: str) -> dict[str, Any]:
    """Fill in the placeholders, as KServe does in the container's JSON."""
    text = json.dumps(container).replace("{{.Name}}", name)
    assert "{{" not in text, "a placeholder that this check does not know"
    result: dict[str, Any] = json.loads(text)
    return result


def is_grpc(port: dict[str, Any]) -> bool:
    """Ask whether KServe takes a port for gRPC's."""
    return any(name in port.get("name", "") for name in GRPC_NAMES)


def sleeps(container: dict[str, Any]) -> int:
    """Return the seconds between the pod's end being decided and SIGTERM."""
    command = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command")
    if not command:
        return 0
    program, seconds = command
    assert "sleep" == program
    return int(seconds)
