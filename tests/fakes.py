"""Real, small implementations of what the manager works with; gates instead of sleeps."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np

from bundleserver.bundle.trust.verification import Verification
from bundleserver.bundle.warming.probe import ProbeResult
from bundleserver.errors import LoadError, SourceError
from bundleserver.manifest import Manifest
from bundleserver.sources import Candidate, Listing
from bundleserver.tensors.breaking import Interface
from bundleserver.tensors.signature import Signature
from bundleserver.versions import Version
from bundleserver.versions.lifecycle import State
from bundleserver.versions.serving_config import ServingConfig

P = ParamSpec("P")
T = TypeVar("T")

DEADLINE_SECONDS = 20.0
"""How long a test waits for what must come."""


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Gate:
    """A point that a thread reaches and waits at until it is let through."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._opened = threading.Event()

    def wait_here(self) -> None:
        self._reached.set()
        assert self._opened.wait(DEADLINE_SECONDS), "nobody opened the gate"

    def wait_until_reached(self) -> None:
        assert self._reached.wait(DEADLINE_SECONDS), "nobody came to the gate"

    def open(self) -> None:
        self._opened.set()


class FakeBundle:
    """An open bundle that answers with its version and complains when it is used after its end."""

    def __init__(self, model: str, version: str) -> None:
        self.model = model
        self.version = version
        self.identity = f"'{model}' version {version}"
        self.signature = Signature()
        self.probe = ProbeResult(True, "", "", self.signature)
        self.verification = Verification()
        self.mismatches = ()
        self.is_closed = False

    def predict(self, inputs: object, parameters: object) -> dict[str, np.ndarray]:
        assert not self.is_closed, f"{self.identity} was asked after it was closed"
        return {"version": np.array([self.version], dtype=object)}

    def interface(self) -> Interface:
        return Interface(self.signature)

    def metadata(self) -> dict[str, object]:
        return {"digest": f"digest of {self.version}"}

    def close(self) -> None:
        assert not self.is_closed, f"{self.identity} was closed twice"
        self.is_closed = True


@dataclass(frozen=True)
class Published:
    """A version as the source lists it, and how it behaves when it is opened."""

    candidate: Candidate
    fails_at: State | None
    error: BaseException
    gate: Gate | None


def alone(method: Callable[P, T]) -> Callable[P, T]:
    """Let only one thread at a time into the source, whose tests publish while a watcher looks."""

    @functools.wraps(method)
    def locked(*args: P.args, **kwargs: P.kwargs) -> T:
        with args[0]._lock:
            return method(*args, **kwargs)

    return locked


class FakeSource:
    """A source whose versions are put there by hand; ``open`` opens them."""

    place = "'here'"

    def __init__(self) -> None:
        self.error: str | None = None
        self.bundles: list[FakeBundle] = []
        self.opened: list[str] = []
        self.given_up: list[Candidate] = []
        self.polls = 0
        self._published: dict[tuple[str, Version], Published] = {}
        self._listings: dict[str, Listing] = {}
        self._fingerprints = itertools.count(1)
        self._lock = threading.RLock()

    @alone
    def publish(
        self,
        label: str,
        model: str = "fraud",
        *,
        fails_at: State | None = None,
        why: str | BaseException = "its file is broken",
        gate: Gate | None = None,
        settled: bool = True,
        problem: str | None = None,
    ) -> None:
        """Put a version there, or other files under its name."""
        fingerprint = str(next(self._fingerprints))
        location = Path("/models", model, label)
        version = Version.parse(label)
        candidate = Candidate(
            model, version, location, fingerprint, settled, problem, root=location.parent
        )
        error = why if isinstance(why, BaseException) else LoadError(why)
        self._published[model, version] = Published(candidate, fails_at, error, gate)
        self._listings.setdefault(model, Listing(model))

    @alone
    def settle(self, label: str, model: str = "fraud") -> None:
        """Let a version's files come to rest."""
        key = (model, Version.parse(label))
        published = self._published[key]
        candidate = replace(published.candidate, settled=True)
        self._published[key] = replace(published, candidate=candidate)

    @alone
    def mend(self, label: str, model: str = "fraud") -> None:
        """Let a version load that did not, with the same files."""
        key = (model, Version.parse(label))
        self._published[key] = replace(self._published[key], fails_at=None)

    @alone
    def hold(self, label: str, model: str, gate: Gate) -> None:
        """Let the next load of a version wait at a gate, with the same files."""
        key = (model, Version.parse(label))
        self._published[key] = replace(self._published[key], gate=gate)

    @alone
    def delete(self, label: str, model: str = "fraud") -> None:
        """Take a version away."""
        del self._published[model, Version.parse(label)]

    @alone
    def delete_model(self, model: str) -> None:
        """Take a model away with all its versions."""
        del self._listings[model]
        self._published = {key: it for key, it in self._published.items() if key[0] != model}

    @alone
    def configure(self, text: str | None, model: str = "fraud") -> None:
        """Write a ``serving.json``, or take it away."""
        config = ServingConfig.from_json(text, "serving.json") if text else None
        self.list_as(Listing(model, config=config))

    @alone
    def list_as(self, listing: Listing) -> None:
        """Set everything of a model's listing but its candidates."""
        self._listings[listing.model] = listing

    @alone
    def discover(self, demand_of: Callable[[str], object] | None = None) -> tuple[Listing, ...]:
        self.polls += 1
        if self.error is not None:
            raise SourceError(self.error)
        return tuple(
            replace(listing, candidates=self._candidates(model))
            for model, listing in self._listings.items()
        )

    def _candidates(self, model: str) -> tuple[Candidate, ...]:
        own = [it.candidate for key, it in self._published.items() if key[0] == model]
        return tuple(sorted(own, key=lambda candidate: candidate.version, reverse=True))

    def give_up(self, candidate: Candidate) -> None:
        self.given_up.append(candidate)

    def fetch(self, candidate: Candidate) -> tuple[Path, Manifest]:
        raise AssertionError("the fake opens its candidates itself")

    def open(self, candidate: Candidate, enter: Callable[[State], None]) -> FakeBundle:
        """Open a candidate, as the manager's ``open_bundle``."""
        published = self._published[candidate.model, candidate.version]
        self.opened.append(f"{candidate.model} {candidate.version}")
        for state in (State.FETCHING, State.VERIFYING, State.LOADING, State.WARMING):
            enter(state)
            if state is State.LOADING and published.gate is not None:
                published.gate.wait_here()
            if state is published.fails_at:
                raise published.error
        bundle = FakeBundle(candidate.model, candidate.version.label)
        self.bundles.append(bundle)
        return bundle

    def open_labels(self) -> list[str]:
        """Return the versions whose bundles are open, in the order in which they were opened."""
        return [bundle.version for bundle in self.bundles if not bundle.is_closed]
