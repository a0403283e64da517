"""Containers as a platform runs them, and what one can ask of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.end_to_end.processes import DEADLINE_SECONDS, eventually

MODELS = "/mnt/models"
PLATFORM = (
    "--user=1000730000:0",
    "--read-only",
    "--tmpfs=/tmp",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--memory=2g",
    "--cpus=1",
)
"""What OpenShift gives a container under its restricted policy, and a pod's limits."""


def docker(*words: object) -> str:
    """Run the client to its end and return what it printed; what it says of an error stays."""
    ended = subprocess.run(
        [os.environ["DOCKER"], *map(str, words)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )
    assert ended.returncode == 0, f"docker {' '.join(map(str, words))}: {ended.stderr}"
    return ended.stdout


def run(*words: object) -> str:
    """Run a container under the label by which ``engine.sh`` removes what was left."""
    return docker("run", f"--label={os.environ['RUN_LABEL']}", *words)


@dataclass(frozen=True)
class Image:
    """An image by its name."""

    name: str

    def inspect(self) -> dict[str, object]:
        return json.loads(docker("image", "inspect", self.name))[0]

    def shell(self, script: str, *options: str) -> str:
        """Run a shell script in the image as root and return what it printed."""
        return run("--rm", "--user=0", "--entrypoint=sh", *options, self.name, "-c", script)

    def python(self, script: str) -> str:
        """Run a Python script in the image as a platform does and return what it printed."""
        return run("--rm", *PLATFORM, "--entrypoint=python3", self.name, "-c", script)


class Container:
    """A container that serves, with both ports published on this machine."""

    def __init__(self, identity: str) -> None:
        self.id = identity

    @property
    def rest(self) -> str:
        return f"http://{self._address(8080)}"

    @property
    def grpc(self) -> str:
        return self._address(8081)

    @property
    def log(self) -> str:
        ended = subprocess.run(
            [os.environ["DOCKER"], "logs", self.id],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_SECONDS,
        )
        return ended.stdout

    def state(self) -> dict[str, object]:
        return json.loads(docker("inspect", "--format={{json .State}}", self.id))

    def health(self) -> str:
        return self.state()["Health"]["Status"]

    def execute(self, *words: object) -> str:
        """Run a command in the container, as ``docker exec`` does."""
        return docker("exec", self.id, *words)

    def stop(self, patience_seconds: int) -> None:
        """Let docker stop it as a platform does: SIGTERM, and SIGKILL when patience is over."""
        docker("stop", f"--time={patience_seconds}", self.id)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.rest + path, timeout=DEADLINE_SECONDS)

    def post(self, path: str, body: object) -> httpx.Response:
        return httpx.post(self.rest + path, json=body, timeout=DEADLINE_SECONDS)

    def predict(self, model: str, instances: object) -> httpx.Response:
        """Ask with V1."""
        return self.post(f"/v1/models/{model}:predict", {"instances": instances})

    def infer(self, model: str, *inputs: object) -> dict[str, object]:
        """Ask with V2 and return the outputs' values by name."""
        answer = self.post(f"/v2/models/{model}/infer", {"inputs": inputs})
        assert answer.status_code == 200, answer.text
        return {output["name"]: output["data"] for output in answer.json()["outputs"]}

    def reason(self, model: str) -> str:
        """Return why a model does not answer; empty when it does."""
        try:
            answer = self.get(f"/v2/models/{model}/ready")
        except httpx.TransportError as error:
            assert self.state()["Running"], self.log
            return str(error)
        return "" if answer.status_code == 200 else answer.json()["error"]

    def wait_until_ready(self, model: str) -> None:
        eventually(lambda: not self.reason(model), f"{model} is ready")

    def wait_for_line(self, text: str) -> None:
        eventually(lambda: text in self.log, f"the log says {text!r}")

    def _address(self, port: int) -> str:
        found = re.search(r"127\.0\.0\.1:\d+", docker("port", self.id, port))
        assert found, self.log
        return found[0]


@contextmanager
def running(
    image: Image,
    models: Path,
    *flags: str,
    options: tuple[str, ...] = PLATFORM,
    mode: str = "ro",
) -> Iterator[Container]:
    """Serve a directory, mounted read-only, while the block runs; the flags are those of serve."""
    identity = run(
        "--detach",
        "--publish=127.0.0.1::8080",
        "--publish=127.0.0.1::8081",
        f"--volume={models}:{MODELS}:{mode}",
        *options,
        image.name,
        *flags,
    ).strip()
    try:
        yield Container(identity)
    finally:
        docker("rm", "--force", identity)
