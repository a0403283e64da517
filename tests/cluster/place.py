"""A namespace of a test's own: a volume, a pod in it that uploads and asks, and what is applied."""

from __future__ import annotations

import base64
import copy
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import settings
from tests.cluster.kubectl import Document, apply, condition, eventually, get, kubectl
from tests.kubernetes.documents import EXAMPLES, containers, read

CLAIM = "model-storage-pvc"
UPLOAD = "model-upload"
LABEL = "bundleserver.test/run"
"""What a run of the tests makes has its name in this label."""

LITTLE = {"cpu": "50m", "memory": "200Mi"}
"""What a test's container asks for: many of them are to fit on a node of two CPUs."""

_ASK = Path(__file__).with_name("asking.py").read_text(encoding="utf-8")
_ASK_GRPC = Path(__file__).with_name("asking_grpc.py").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Answer:
    """What came back over HTTP."""

    status: int
    headers: Mapping[str, str]
    text: str

    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def version(self) -> str:
        return self.headers["x-model-version"]


def on_this_cluster(document: Document) -> Document:
    """Return an object with this cluster's images and little to ask for; all else stays."""
    changed = copy.deepcopy(document)
    for container in containers(changed):
        kind = container["image"].partition(":")[0]
        image = {"bundleserver": settings.IMAGE, "bundleserver-sklearn": settings.SLIM}.get(kind)
        if image is None:
            continue
        container["image"] = image
        if requests := container.get("resources", {}).get("requests"):
            requests.update(LITTLE)
    return changed


class Place:
    """A namespace that enforces ``restricted``, its volume, and a pod that holds the volume."""

    def __init__(self, name: str, run: str) -> None:
        self.name = name
        self._run = run
        self._labels = {LABEL: run}

    def make(self, *, enforce: str = "restricted") -> None:
        """Make the namespace and the volume, and start the pod of ``examples/upload.yaml``."""
        labels = {**self._labels, "pod-security.kubernetes.io/enforce": enforce}
        apply([{**_meta("v1", "Namespace", self.name), "metadata": _named(self.name, labels)}])
        self.claim(CLAIM)
        self.apply_example("upload")

    def claim(self, name: str, mode: int = 0o777, owner: tuple[int, int] = (0, 0)) -> None:
        """Make a claim for a volume; where no class makes one, it is a directory of the node."""
        spec: Document = {
            "accessModes": [settings.ACCESS_MODE],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": settings.STORAGE_CLASS,
        }
        if not settings.STORAGE_CLASS:
            spec["volumeName"] = self.make_volume(name, mode, owner)
        self.apply({**_meta("v1", "PersistentVolumeClaim", name), "spec": spec})

    def make_volume(
        self, claim: str, mode: int = 0o777, owner: tuple[int, int] = (0, 0), size: str = "1Gi"
    ) -> str:
        """Make a directory of the node, and a volume of it for a claim; return its name."""
        volume = f"{self.name}-{claim}"
        path = Path(settings.VOLUMES, volume)
        path.mkdir(parents=True)
        path.chmod(mode)
        os.chown(path, *owner)
        spec = {
            "capacity": {"storage": size},
            "accessModes": [settings.ACCESS_MODE],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "hostPath": {"path": str(path)},
            "claimRef": {"name": claim, "namespace": self.name},
        }
        meta = {"metadata": _named(volume, self._labels)}
        apply([{**_meta("v1", "PersistentVolume", volume), **meta, "spec": spec}])
        return volume

    def kubectl(self, *words: object, **more: Any) -> str:
        return kubectl(f"--namespace={self.name}", *words, **more)

    def get(self, *words: object) -> Document:
        return get(f"--namespace={self.name}", *words)

    def apply(self, *documents: Document) -> None:
        """Apply objects with this cluster's images."""
        apply([on_this_cluster(each) for each in documents], f"--namespace={self.name}")

    def apply_example(self, name: str, *edits: Any) -> list[Document]:
        """Apply a file of ``servingruntimes/examples``, each edit called with its documents."""
        documents = read(EXAMPLES / f"{name}.yaml")
        for edit in edits:
            edit(documents)
        self.apply(*documents)
        return documents

    def upload(self, directory: Path, to: str) -> None:
        """Copy a directory into the volume, as ``kubectl cp`` does."""
        self.wait_for_pod(UPLOAD)
        self.execute("mkdir", "-p", str(Path("/mnt/models", to).parent))
        self.kubectl("cp", directory, f"{UPLOAD}:/mnt/models/{to}")

    def wait_for_pod(self, name: str) -> None:
        self.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=200s")

    def execute(self, *words: object, given: str | None = None) -> str:
        """Run a command in the pod that holds the volume."""
        self.wait_for_pod(UPLOAD)
        return self.kubectl("exec", "--stdin", UPLOAD, "--", *words, given=given)

    def bundleserver(self, *words: object) -> str:
        return self.execute("bundleserver", *words)

    def ask_all(self, *requests: Document, threads: int = 1) -> list[Answer]:
        """Ask from inside the cluster, in the pod that holds the volume."""
        asked = json.dumps({"requests": requests, "threads": threads})
        answers = json.loads(self.execute("python3", "-c", _ASK, given=asked))
        return [Answer(*answer) for answer in answers]

    def ask(self, service: str, path: str, body: object = None, **headers: str) -> Answer:
        """Ask a Service of the namespace at its first port."""
        return self.ask_all(self.request(service, path, body, **headers))[0]

    def request(self, service: str, path: str, body: object = None, **headers: str) -> Document:
        """Return a request for ``ask_all``; a body makes it a POST."""
        url = service if "://" in service else f"http://{service}.{self.name}"
        data = None if body is None else body if isinstance(body, str) else json.dumps(body)
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        return {"url": url + path, "body": data, "headers": named}

    def predict(self, name: str, rows: object) -> Answer:
        """Ask an InferenceService with V1."""
        return self.ask(f"{name}-predictor", f"/v1/models/{name}:predict", {"instances": rows})

    def ask_grpc(self, address: str, model: str, host: str = "") -> int:
        """Ask a model about a row of two columns, with another host name than the address."""
        host = host or address
        return int(self.execute("python3", "-c", _ASK_GRPC, address, host, model))

    def service(self, name: str) -> Document:
        """Return an InferenceService."""
        return self.get("inferenceservice", name)

    def wait_until_ready(self, name: str) -> None:
        """Wait until KServe calls an InferenceService ready, and its Service leads to a pod.

        The Service follows a moment later: connections are refused until every node knows.
        """

        def is_ready() -> bool:
            return condition(self.service(name), "Ready").get("status") == "True"

        try:
            eventually(is_ready, f"{self.name}/{name} is Ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._told(name)}") from None
        eventually(
            lambda: self.ask(f"{name}-predictor", "/v2/health/live").status,
            f"the Service of {self.name}/{name} leads to a pod",
        )

    def wait_for_version(self, name: str, version: str, rows: object) -> None:
        """Wait until the default version of a model is this one."""
        eventually(lambda: self.predict(name, rows).version == version, f"{name} is {version}")

    def pods(self, name: str) -> list[Document]:
        """Return the pods of an InferenceService that are not on their way out."""
        label = f"--selector=serving.kserve.io/inferenceservice={name}"
        pods = self.get("pods", label)["items"]
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def log(self, name: str) -> str:
        label = f"--selector=serving.kserve.io/inferenceservice={name}"
        return self.kubectl("logs", label, "--container=kserve-container", "--tail=-1")

    def run_job(self, name: str) -> str:
        """Wait until a Job has succeeded and return its log."""
        job = f"job/{name}"

        def ended() -> str:
            status = self.get(job)["status"]
            return (
                "failed" if status.get("failed") else "succeeded" if status.get("succeeded") else ""
            )

        outcome = eventually(ended, f"{job} ends")
        log = self.kubectl("logs", job, "--all-containers")
        assert "succeeded" == outcome, log
        return log

    def secret(self, name: str, **values: str) -> None:
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        self.apply({**_meta("v1", "Secret", name), "data": data})

    def _told(self, name: str) -> str:
        """Return what a user would look at."""
        label = f"--selector=serving.kserve.io/inferenceservice={name}"
        events = self.kubectl("get", "events", "--sort-by=.lastTimestamp")
        pods = self.kubectl("get", "pods", "--output=wide")
        log = self.kubectl("logs", label, "--tail=30") if self.pods(name) else ""
        return "\n".join([json.dumps(self.service(name).get("status")), pods, events[-2000:], log])

    def remove(self) -> None:
        """Remove the namespace with all it holds, and what the node has of it."""
        _remove_namespace(self.name)
        _remove_volumes(self._run, f"{self.name}-")


def remove_all(run: str) -> None:
    """Remove whatever a run of the tests has made and left."""
    selector = f"--selector={LABEL}={run}"
    for namespace in get("namespaces", selector)["items"]:
        _remove_namespace(namespace["metadata"]["name"])
    _remove_volumes(run, "")
    kinds = "clusterservingruntimes,clusterstoragecontainers"
    kubectl("delete", kinds, selector, "--ignore-not-found", "--timeout=60s")


def _remove_namespace(name: str) -> None:
    # A service goes with finalizers of KServe's, which need its controller and its namespace.
    kinds = "inferenceservices,inferencegraphs,trainedmodels"
    one = f"--namespace={name}"
    kubectl("delete", one, kinds, "--all", "--ignore-not-found", "--timeout=60s")
    kubectl("delete", "namespace", name, "--ignore-not-found", "--timeout=120s")


def _remove_volumes(run: str, prefix: str) -> None:
    for volume in get("persistentvolumes", f"--selector={LABEL}={run}")["items"]:
        name = volume["metadata"]["name"]
        if name.startswith(prefix):
            kubectl("delete", "persistentvolume", name, "--timeout=60s")
            shutil.rmtree(Path(settings.VOLUMES, name), ignore_errors=True)


def _meta(version: str, kind: str, name: str) -> Document:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}}


def _named(name: str, labels: Mapping[str, str]) -> Document:
    return {"name": name, "labels": dict(labels)}


def inference_service(name: str, storage: str, *args: str, **model: Any) -> Document:
    """Return an InferenceService as the README shows it, with the model's further fields."""
    spec = {
        "modelFormat": {"name": "bundle", "version": "1"},
        "storageUri": storage,
        **({"args": list(args)} if args else {}),
        **model,
    }
    document = _meta("serving.kserve.io/v1beta1", "InferenceService", name)
    return {**document, "spec": {"predictor": {"model": spec}}}


def gateway() -> str:
    """Return the address of the gateway that KServe's routes attach to."""
    gateways = get("gateways.gateway.networking.k8s.io", "--namespace=kserve", "--ignore-not-found")
    for gateway in gateways.get("items", [gateways]) if gateways else ():
        for address in gateway.get("status", {}).get("addresses", ()):
            return address["value"]
    pytest.skip("the namespace kserve has no gateway with an address")
