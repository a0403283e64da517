"""Pods without an InferenceService: a runtime's own, on a directory with several models."""

from __future__ import annotations

import copy

from tests.cluster.kubectl import Document
from tests.cluster.place import CLAIM
from tests.kubernetes.pods import RUNTIMES, rendered


def pod_of(runtime: str, name: str, directory: str, model: str = "", **limits: str) -> Document:
    """Return the pod that a runtime of ``servingruntimes/`` makes of a directory of the volume.

    Args:
        runtime: the directory that the runtime is built from.
        name: the pod's.
        directory: below the volume's root.
        model: the model's name; empty where every sub-directory is a model.
        limits: of CPU and memory, where they are to differ from the runtime's.
    """
    spec = copy.deepcopy(RUNTIMES[runtime]["spec"])
    (container,) = spec["containers"]
    container = rendered(container, model)
    if not model:
        container["args"].remove("--model_name=")
    container["resources"]["limits"].update(limits)
    mount = {"name": "models", "mountPath": "/mnt/models", "readOnly": True, "subPath": directory}
    container["volumeMounts"].append(mount)
    claim = {"name": "models", "persistentVolumeClaim": {"claimName": CLAIM}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container], "volumes": [*spec["volumes"], claim]},
    }
