"""The commands of ``docs/kubernetes.md`` as they stand, one after another, and what they print."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import settings
from tests.cluster.kubectl import kubectl
from tests.cluster.place import LABEL, Place
from tests.kubernetes.documents import PROJECT, ROOT
from tests.mlflow_server import free_port

PAGE = PROJECT / "docs/kubernetes.md"
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_VARIES = (
    (r" +", " "),
    (r"-[a-z0-9]{8,10}-[a-z0-9]{5}\b", "-POD"),
    (r"\b\d+m?\d*s?$", "AGE"),
    (r'Context "[^"]*"', "Context"),
    (r"\b(created|configured|unchanged)\b", "applied"),
)
"""What differs from one run to the next."""

_END = "--- ended ---"


def commands(text: str) -> list[tuple[str, str]]:
    """Return each command of a page with what it prints."""
    found: list[tuple[str, str]] = []
    for line in "".join(_BLOCK.findall(text)).splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif line == ">" or line.startswith("> "):
            found[-1] = (f"{found[-1][0]}\n{line[2:]}", "")
        else:
            found[-1] = (found[-1][0], f"{found[-1][1]}{line}\n")
    return found


@pytest.fixture
def shell(run, install, tmp_path):
    """Give a shell in a clone, with a context, a namespace, a registry and a port of its own."""
    install("overlays/standard")
    namespace = f"bs-{run}-page"
    shutil.copytree(ROOT, tmp_path / "servingruntimes")
    context = tmp_path / "kubeconfig"
    context.write_text(kubectl("config", "view", "--raw", "--flatten"))
    binaries = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "KUBECONFIG": str(context), "PATH": binaries}
    place = Place(namespace, run)
    if not settings.STORAGE_CLASS:
        place.make_volume("model-storage-pvc", size="10Gi")
    port = str(free_port())

    def say(text: str) -> str:
        text = re.sub(r"\bmodels\b(?=$| created| removes)|(?<=namespace=)models", namespace, text)
        text = text.replace("REGISTRY/bundleserver", settings.IMAGE.rpartition(":")[0])
        return text.replace("8080:80", f"{port}:80").replace("127.0.0.1:8080", f"127.0.0.1:{port}")

    popen = subprocess.Popen(
        ["bash"],
        cwd=tmp_path,
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield popen, say
    finally:
        os.killpg(popen.pid, 9)
        popen.wait()
        # What the commands applied has only the labels of the files.
        kubectl("label", "clusterservingruntime", "bundleserver", f"{LABEL}={run}", "--overwrite")
        place.remove()


def test_the_pages_commands_print_what_it_shows(shell):
    """Every command of the page, run in its order on a cluster, prints what stands below it."""
    popen, say = shell
    for command, expected in commands(PAGE.read_text(encoding="utf-8")):
        printed = _run(popen, say(command))

        assert _alike(say(expected)) == _alike(printed), command


def _run(popen: subprocess.Popen[str], command: str) -> str:
    """Give the shell a command, and return what comes until it has ended."""
    popen.stdin.write(f"{command}\necho; echo '{_END}'\n")
    popen.stdin.flush()
    lines: list[str] = []
    while (line := popen.stdout.readline().rstrip("\n")) != _END:
        assert popen.poll() is None, f"{command}: {lines}"
        lines.append(line)
    return "\n".join(lines)


def _alike(text: str) -> list[str]:
    for pattern, word in _VARIES:
        text = re.sub(pattern, word, text, flags=re.MULTILINE)
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and "Defaulted container" not in line]
