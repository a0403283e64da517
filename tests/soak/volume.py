"""The director of the volume: publishes, breaks, rolls back, splits and takes away, by a seed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from bundleserver import BundleStore
from tests.soak.breaking import BREAKS
from tests.soak.checking import LOST, Book, Exchange
from tests.soak.children import Line
from tests.soak.clients import Place
from tests.soak.models import SWAPPED, save

SEEN_WITHIN_SECONDS = 60.0
"""How long servers may take to have what was published, or to say what is wrong with it."""
KEPT_VERSIONS = 2
HELD_SECONDS = (0.5, 2.0)


class Missed(Exception):
    """The servers did not do in time what the volume tells them."""


class Over(Exception):
    """The soak is over before a step is."""


@dataclass
class Director:
    """Disturbs the volume until it is over; each step leaves the newest good version serving."""

    line: Line
    root: Path
    places: list[Place]
    rng: np.random.Generator
    store: BundleStore = field(init=False)
    book: Book = field(init=False)
    numbers: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SWAPPED, 1))
    good: dict[str, list[str]] = field(default_factory=lambda: {m: ["v1"] for m in SWAPPED})

    def __post_init__(self) -> None:
        self.volume = self.root / "volume"
        self.store, self.book = BundleStore(self.volume), Book(self.root / "book")
        self.http = httpx.Client(timeout=SEEN_WITHIN_SECONDS)

    def run(self) -> None:
        """Shuffle the steps and do them, again and again; pause while the processes are weighed."""
        deck: list[str] = []
        while (told := self.line.wait(float(self.rng.uniform(0.2, 0.8)))) != "stop":
            if told == "pause":
                self.line.report("paused", "volume")
                while (told := self.line.wait(1.0)) not in ("resume", "stop"):
                    pass
                continue
            deck = deck or [str(name) for name in self.rng.permutation([*STEPS] + ["swap"] * 4)]
            name, model = deck.pop(), str(self.rng.choice(SWAPPED))
            try:
                STEPS[name](self, model)
                self.line.report("step", name)
            except Over:
                return
            except (Missed, httpx.HTTPError, OSError) as error:
                self.line.report("missed", f"{name} of {model}: {error!r}")
                self.reset(model)

    def reset(self, model: str) -> None:
        """Put back what a step that failed has left."""
        (self.volume / model / "serving.json").unlink(missing_ok=True)

    def next_label(self, model: str) -> str:
        """Return a label that no version had before, so that the book never has two values."""
        self.numbers[model] += 1
        return f"v{self.numbers[model]}"

    def index(self, place: Place, model: str) -> dict[str, dict[str, str]]:
        """Return what a server says of a model's versions."""
        entries = self._ask(place, "POST", "/v2/repository/index")
        return {entry.get("version", ""): entry for entry in entries if entry["name"] == model}

    def wait(self, what: str, ask: Callable[[Place], object]) -> None:
        """Wait until it is true of every server.

        Raises:
            Missed: it is not in time.
            Over: nobody waits any more.
        """
        end = time.monotonic() + SEEN_WITHIN_SECONDS
        for place in self.places:
            while not ask(place):
                if self.line.is_over():
                    raise Over
                if time.monotonic() > end:
                    raise Missed(f"{place.server}: not {what} in {SEEN_WITHIN_SECONDS:.0f} s")
                time.sleep(0.1)

    def is_ready(self, place: Place, model: str, label: str) -> bool:
        """Return whether a server has a version ready in all its processes."""
        return self.index(place, model).get(label, {}).get("state") == "READY"

    def default(self, place: Place, model: str) -> str:
        """Return the version that answers by default in one process of a server."""
        return str(self._ask(place, "GET", f"/v2/models/{model}").get("default_version", ""))

    def _ask(self, place: Place, method: str, path: str) -> Any:
        """Ask; a connection that ends is reported, for a kill to explain, and made anew."""
        asked = (os.getpid(), "director", place.server, path, (), time.monotonic())
        url = f"http://127.0.0.1:{place.http_port}{path}"
        try:
            return self.http.request(method, url).json()
        except httpx.TransportError as error:
            is_reset = not isinstance(error, httpx.TimeoutException)
            exchange = Exchange(*asked, time.monotonic(), failure=repr(error), is_reset=is_reset)
            self.line.report("problem", (LOST, "expected an answer", exchange))
            return self.http.request(method, url).json()

    def hold(self) -> None:
        """Let the clients see it for a while."""
        time.sleep(float(self.rng.uniform(*HELD_SECONDS)))

    def swap(self, model: str) -> None:
        """Publish a good version and wait until all have it, then clear old ones away."""
        label = self.next_label(model)
        save(self.store, self.book, model, self.numbers[model], label)
        self.good[model].append(label)
        self.wait(f"{model} {label} ready", lambda place: self.is_ready(place, model, label))
        self.hold()
        self.clear(model)

    def clear(self, model: str) -> None:
        """Remove the directories of old versions, once no server has them loaded."""
        while len(self.good[model]) > KEPT_VERSIONS:
            old = self.good[model][0]
            self.wait(
                f"{model} {old} unloaded",
                lambda place, old=old: (
                    self.index(place, model).get(old, {}).get("state") in (None, "UNAVAILABLE")
                ),
            )
            self.line.report("retired", (model, old, time.monotonic()))
            shutil.rmtree(self.volume / model / old)
            self.good[model].pop(0)

    def break_one(self, model: str) -> None:
        """Publish a version that is broken in one way; every server must refuse it and say so."""
        label, name = self.next_label(model), str(self.rng.choice([*BREAKS]))
        staging = self.volume / model / f".new-{label}"
        shutil.copytree(self.volume / model / self.good[model][-1], staging)
        BREAKS[name](staging)
        staging.rename(self.volume / model / label)
        try:
            self.wait(
                f"{model} {label} FAILED ({name})",
                lambda place: "FAILED" in self.index(place, model).get(label, {}).get("reason", ""),
            )
            self.hold()
        finally:
            shutil.rmtree(self.volume / model / label)

    def roll_back(self, model: str) -> None:
        """Pin the version before, then unpin it."""
        while len(self.good[model]) < 2:
            self.swap(model)
        before, newest = self.good[model][-2:]
        self.store.rollback(model, to=before)
        self.wait(f"{model} back at {before}", lambda place: self.default(place, model) == before)
        self.hold()
        self.store.promote(model, "latest")
        self.wait(f"{model} at {newest}", lambda place: self.default(place, model) == newest)

    def split(self, model: str) -> None:
        """Split requests over two versions, then end it."""
        while len(self.good[model]) < 2:
            self.swap(model)
        before, newest = self.good[model][-2:]
        self.store.split(model, {before: 50, newest: 50})
        for label in (before, newest):
            self.wait(f"{model} {label}", lambda p, label=label: self.is_ready(p, model, label))
        self.hold()
        self.store.split(model, {})
        self._end_configuration(model)

    def canary(self, model: str) -> None:
        """Let a canary climb with mirrored requests, then end it."""
        while len(self.good[model]) < 2:
            self.swap(model)
        before, newest = self.good[model][-2:]
        rules = {"version": newest, "steps": [20, 60], "interval_seconds": 1, "min_requests": 5}
        config = {"default": before, "shadow": [newest], "canary": rules}
        _replace(self.volume / model / "serving.json", json.dumps(config))
        for label in (before, newest):
            self.wait(f"{model} {label}", lambda p, label=label: self.is_ready(p, model, label))
        self.hold()
        self._end_configuration(model)

    def broken_configuration(self, model: str) -> None:
        """Write a ``serving.json`` that nobody can obey; the one before stays in effect."""
        said = str(self.rng.choice(['{"default": "v99999"}', '{"policy": ', '{"labels": 7}', "[]"]))
        _replace(self.volume / model / "serving.json", said)
        self.hold()
        self._end_configuration(model)

    def _end_configuration(self, model: str) -> None:
        (self.volume / model / "serving.json").unlink()
        newest = self.good[model][-1]
        self.wait(f"{model} at {newest}", lambda place: self.default(place, model) == newest)

    def kill_publisher(self, model: str) -> None:
        """Kill a publisher that writes in place, halfway; later somebody clears it away."""
        label, half = self.next_label(model), str(self.rng.choice(["model", "manifest", "save"]))
        source = self.volume / model / self.good[model][-1]
        target = self.volume / model / label
        command = [sys.executable, "-m", "tests.soak.publisher", str(source), str(target), half]
        publisher = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert publisher.stdout is not None
            publisher.stdout.readline()
        finally:
            publisher.send_signal(signal.SIGKILL)
            publisher.communicate(timeout=SEEN_WITHIN_SECONDS)
        self.hold()
        for place in self.places:
            if self.is_ready(place, model, label):
                raise Missed(f"{place.server} serves half of {model} {label}")
        shutil.rmtree(target, ignore_errors=True)

    def vanish(self, model: str) -> None:
        """Take the model's directory away, or the whole volume, and bring it back."""
        gone = self.volume if self.rng.random() < 0.5 else self.volume / model
        with _away(gone, self.root / "away"):
            self.hold()
            self.hold()
        self.wait(
            f"{model} ready after it had vanished",
            lambda place: self.is_ready(place, model, self.good[model][-1]),
        )


STEPS: dict[str, Callable[[Director, str], None]] = {
    "swap": Director.swap,
    "broken version": Director.break_one,
    "roll-back": Director.roll_back,
    "split": Director.split,
    "canary": Director.canary,
    "bad serving.json": Director.broken_configuration,
    "killed publisher": Director.kill_publisher,
    "vanished": Director.vanish,
}


def run_volume(line: Line, root: Path, places: list[Place], seed: int) -> None:
    """Be the director in a process of its own."""
    line.report("started", "volume")
    Director(line, root, places, np.random.default_rng(seed)).run()


@contextmanager
def _away(path: Path, where: Path):
    path.rename(where)
    try:
        yield
    finally:
        where.rename(path)


def _replace(path: Path, text: str) -> None:
    staging = path.with_name(".serving.new")
    staging.write_text(text)
    staging.replace(path)
