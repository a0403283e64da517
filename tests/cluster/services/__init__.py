"""Services of the tests' own in the cluster, from the image that is built beside this file."""

from __future__ import annotations

from typing import Any

from tests.cluster import settings

SECURE = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What a container needs in a restricted namespace."""


def deployment(name: str, port: int, arguments: list[str], health: str) -> dict[str, Any]:
    """Return a Deployment of one pod that runs a Python module of the services' image."""
    container = {
        "name": name,
        "image": settings.SERVICES,
        "imagePullPolicy": "IfNotPresent",
        "args": arguments,
        "securityContext": SECURE,
        "resources": {
            "requests": {"cpu": "50m", "memory": "200Mi"},
            "limits": {"cpu": "2", "memory": "2Gi"},
        },
        "env": [
            {"name": "MLFLOW_DISABLE_TELEMETRY", "value": "true"},
            {"name": "MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "value": "false"},
            # The store's Service is no bucket, though its name has a dot.
            {"name": "S3_IGNORE_SUBDOMAIN_BUCKETNAME", "value": "true"},
        ],
        "readinessProbe": {"httpGet": {"path": health, "port": port}, "periodSeconds": 1},
    }
    labels = {"app": name}
    pod = {
        "metadata": {"labels": labels},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": pod},
    }


def service_of(name: str, port: int) -> dict[str, Any]:
    """Return the Service before it."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": port}]},
    }
