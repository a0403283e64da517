"""A load on a model that goes on in a pod, and what of it was lost or wrong, by event."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.cluster.kubectl import eventually
from tests.cluster.place import UPLOAD, Place

PROTOCOLS = ("V1", "V2", "gRPC")
MOST_TOLD = 40
_LOADING = Path(__file__).with_name("loading.py").read_text(encoding="utf-8")


class Load:
    """Clients in the pod that holds the volume, against the Service of an InferenceService."""

    def __init__(self, place: Place, name: str, connections: int, pause: float) -> None:
        """Begin; each protocol has so many connections, which rest so long after an answer."""
        host = f"{name}-predictor.{place.name}"
        asked = {"host": host, "model": name, "connections": connections, "pause": pause}
        command = ["kubectl", f"--namespace={place.name}", "exec", "--stdin", UPLOAD, "--"]
        self._process = subprocess.Popen(
            [*command, "python3", "-c", _LOADING],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._seen: dict[str, Any] = {}
        self._versions: dict[str, set[str]] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._say(json.dumps(asked))

    def close(self) -> None:
        """End the load, and read what it has seen last."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(60)
            self._reader.join(10)
        finally:
            self._process.kill()

    @contextlib.contextmanager
    def during(self, event: str, requests: int) -> Iterator[None]:
        """Count what comes under an event's name, and go on until there were so many requests."""
        self._say(event)
        yield
        self.go_on(event, requests)

    def go_on(self, event: str, requests: int) -> None:
        """Wait until each protocol has answered so many requests since an event began."""

        def is_enough() -> bool:
            assert self._process.poll() is None, "the load has ended by itself"
            counts = self.events.get(event, {}).get("protocols", {})
            return counts and all(counts[name]["answered"] >= requests for name in PROTOCOLS)

        eventually(is_enough, f"{requests} requests were answered during: {event}")

    def wait_for_versions(self, *versions: str) -> None:
        """Wait until these versions, and no other, answer each protocol for half a second."""
        wanted = set(versions)
        self._versions = {}

        def are_seen() -> bool:
            return [wanted] * len(PROTOCOLS) == list(self._versions.values())

        eventually(are_seen, f"{versions} answer", pause=0.1)

    def answered_by(self, event: str, version: str) -> int:
        """Return how many answers of a version there were during an event."""
        seen = self.events.get(event, {}).get("protocols", {}).values()
        return sum(counts["versions"].get(version, 0) for counts in seen)

    @property
    def events(self) -> dict[str, Any]:
        """Return what was seen, by event."""
        return self._seen.get("events", {})

    def failures(self, event: str) -> list[dict[str, Any]]:
        """Return what failed during an event, or was wrong."""
        found: list[dict[str, Any]] = self.events[event]["failures"]
        return found

    def total(self, kind: str, protocol: str) -> int:
        """Add up the requests of a protocol that were ``answered``, ``failed`` or ``wrong``."""
        return sum(event["protocols"][protocol][kind] for event in self.events.values())

    def table(self) -> str:
        """Return a line for each event and protocol."""
        lines = [f"{'event':32} {'':5} {'answered':>8} failed wrong slowest"]
        for event, seen in self.events.items():
            for name, counts in seen["protocols"].items():
                lines.append(
                    f"{event:32} {name:5} {counts['answered']:8} {counts['failed']:6} "
                    f"{counts['wrong']:5} {counts['slowest']:6.2f}s"
                )
        for name in PROTOCOLS:
            told = [self.total(kind, name) for kind in ("answered", "failed", "wrong")]
            lines.append(f"{'in all':32} {name:5} {told[0]:8} {told[1]:6} {told[2]:5}")
        failures = [(event, it) for event in self.events for it in self.failures(event)]
        return "\n".join([*lines, *(f"{event}: {it}" for event, it in failures[:MOST_TOLD])])

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._seen = json.loads(line)
            self._versions = {name: set(self._seen["recent"].get(name, ())) for name in PROTOCOLS}


def hold(seconds: float) -> None:
    """Let time pass that an event takes."""
    until = time.monotonic() + seconds
    eventually(lambda: time.monotonic() >= until, "the time is over", seconds + 10)
