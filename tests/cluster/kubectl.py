"""``kubectl`` as a user types it, and waiting for what a cluster does in its own time."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")
Document = dict[str, Any]

DEADLINE_SECONDS = 240.0
"""How long a test waits for what must come: a pod of a small node starts slowly."""

_STEP = threading.Event()


def eventually(
    ask: Callable[[], T], what: str, seconds: float = DEADLINE_SECONDS, pause: float = 0.5
) -> T:
    """Ask again and again until the answer is true, and return it."""
    end = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < end, f"waited {seconds:.0f} s in vain until {what}"
        _STEP.wait(pause)
    return answer


def kubectl(*words: object, given: str | None = None, refused: bool = False) -> str:
    """Run ``kubectl`` to its end and return what it printed; ``refused`` expects an error."""
    command = ["kubectl", *map(str, words)]
    ended = subprocess.run(
        command, input=given, capture_output=True, text=True, timeout=DEADLINE_SECONDS
    )
    assert refused == bool(ended.returncode), f"{' '.join(command)}: {ended.stderr}{ended.stdout}"
    return ended.stderr if refused else ended.stdout


def get(*words: object) -> Document:
    """Return an object, or a list of objects, as the API server has it."""
    return json.loads(kubectl("get", *words, "--output=json"))


def apply(documents: list[Document], *words: object) -> str:
    """Apply documents as ``kubectl apply -f`` does."""
    return kubectl("apply", "--filename=-", *words, given=yaml.safe_dump_all(documents))


def kustomize(directory: Path) -> list[Document]:
    """Build a kustomization."""
    return list(yaml.safe_load_all(kubectl("kustomize", directory)))


def condition(document: Document, name: str) -> Document:
    """Return a condition of an object's status; empty where there is none."""
    conditions = document.get("status", {}).get("conditions", ())
    return next((found for found in conditions if found["type"] == name), {})
