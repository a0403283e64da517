"""The director of the registry: a real MLflow server that registers, stops and starts again."""

from __future__ import annotations

import os
import time
from pathlib import Path

import httpx
import numpy as np

from bundleserver import BundleStore
from tests.mlflow_server import MlflowServer
from tests.soak.checking import Book
from tests.soak.children import Line
from tests.soak.clients import Place
from tests.soak.models import REGISTERED, save

SEEN_WITHIN_SECONDS = 90.0
KEPT_VERSIONS = 3
PAUSE_SECONDS = (4.0, 12.0)
DOWN_SECONDS = (2.0, 8.0)


class RegistryDirector:
    """Runs the registry; stops and starts it, and moves the champion while it runs."""

    def __init__(self, line: Line, root: Path, seed: int) -> None:
        self.line, self.rng = line, np.random.default_rng(seed)
        self.server = MlflowServer(root / "mlflow")
        self.server.directory.mkdir()
        self.store, self.book = BundleStore(root / "notebook"), Book(root / "book")
        self.number = 0

    def start(self) -> None:
        """Start the registry, and tell whom to kill if we should be killed meanwhile."""
        self.server.launch()
        assert self.server.popen is not None
        self.line.report("registry", self.server.popen.pid)
        end = time.monotonic() + SEEN_WITHIN_SECONDS
        while not self.server.answers() and not self.line.is_over():
            if time.monotonic() > end:
                raise RuntimeError(f"the registry does not answer in {SEEN_WITHIN_SECONDS:.0f} s")
            time.sleep(0.2)

    def stop(self) -> None:
        """Kill the registry, and tell that nobody has to be killed."""
        self.server.kill()
        self.line.report("registry", 0)

    def register(self) -> str:
        """Register the next version as champion; its values are in the book before."""
        self.number += 1
        label = str(self.number)
        # The store's label is of no concern to the registry, which numbers by itself.
        save(self.store, Book(self.book.directory / ".own"), REGISTERED, self.number, f"v{label}")
        values = Book(self.book.directory / ".own").values(REGISTERED, f"v{label}")
        self.book.write(REGISTERED, label, values or ())
        given = self.store.push(REGISTERED, aliases=["champion"])
        if given != label:
            raise RuntimeError(f"the registry calls version {label} {given}")
        return label

    def run(self, place: Place) -> None:
        """Flap and move until told to stop."""
        client = httpx.Client(base_url=f"http://127.0.0.1:{place.http_port}", timeout=30.0)
        while (told := self.line.wait(float(self.rng.uniform(*PAUSE_SECONDS)))) != "stop":
            if told == "pause":
                self.line.report("paused", "registry")
                while (told := self.line.wait(1.0)) not in ("resume", "stop"):
                    pass
            elif self.rng.random() < 0.5:
                self.stop()
                self.line.report("step", "registry stopped")
                time.sleep(float(self.rng.uniform(*DOWN_SECONDS)))
                self.start()
                self.line.report("step", "registry started")
            else:
                self._move(client)

    def _move(self, client: httpx.Client) -> None:
        label = self.register()
        end = time.monotonic() + SEEN_WITHIN_SECONDS
        while client.get(f"/v2/models/{REGISTERED}/versions/{label}/ready").status_code != 200:
            if self.line.is_over():
                return
            if time.monotonic() > end:
                self.line.report("missed", f"the champion {label} is not served")
                return
            time.sleep(0.2)
        self.line.report("step", "champion moved")
        old = self.number - KEPT_VERSIONS
        if old > 0:
            self.server.client().delete_model_version(REGISTERED, str(old))


def run_registry(line: Line, root: Path, seed: int) -> None:
    """Be the registry's director in a process of its own; the server's place is told once known."""
    director = RegistryDirector(line, root, seed)
    os.environ["MLFLOW_TRACKING_URI"] = director.server.uri
    try:
        director.start()
        director.register()
        line.report("registered", director.server.uri)
        while not (told := line.wait(1.0)):
            pass
        if told != "stop":
            director.run(Place("registry", int(told), 0, (REGISTERED,)))
    finally:
        director.stop()
