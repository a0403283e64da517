"""What this process and others that serve the same tell each other, so that all switch or none.

A process that serves alone lets every version answer that it has open. Together with others, one
that is open waits until all of them have it, and counts as failed here while it fails elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from bundleserver.manager.gate import Key
from bundleserver.manager.models import ModelRecord
from bundleserver.manager.shared import Shared, log_notes
from bundleserver.versions import Version
from bundleserver.versions.lifecycle import State

ByHand = Mapping[str, Mapping[str, object]]
"""What was loaded and unloaded by hand, by model; ready for JSON."""


@dataclass(frozen=True)
class Report:
    """What a process has open, and what does not load there, with the reason."""

    opened: frozenset[Key] = frozenset()
    failed: Mapping[Key, str] = field(default_factory=dict)


class Together:
    """One process's side of the agreement. Called from any thread; takes the manager's lock."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._inherited: ByHand = MappingProxyType({})
        self._caught_up_with: frozenset[Key] = frozenset()

    def begin(self, by_hand: ByHand, agreed: Collection[Key]) -> None:
        """Serve together from now on, called before the first look at the models.

        Args:
            by_hand: what was ordered by hand before this process began.
            agreed: what the others have open; it is loaded here too, whatever the policy wants.
        """
        with self._shared.changed:
            self._shared.gate.begin(agreed)
            self._inherited = by_hand
            self._caught_up_with = frozenset(agreed)
            for model in self._shared.models.values():
                self.teach(model)

    def teach(self, model: ModelRecord) -> None:
        """Let a model begin as the other processes know it; under the lock."""
        known = self._inherited.get(model.name, {})
        held, pinned = known.get("held"), known.get("pinned")
        if isinstance(held, dict):
            model.held.update({Version(label): files for label, files in held.items()})
        if isinstance(pinned, list):
            model.pinned.update(Version(label) for label in pinned)
        model.is_stopped = model.is_stopped or bool(known.get("stopped"))
        model.pinned.update(Version(v) for m, v, _ in self._caught_up_with if m == model.name)

    def by_hand(self) -> ByHand:
        """Return what was ordered by hand, for a process that begins."""
        with self._shared.changed:
            return {
                name: {
                    "held": {version.label: files for version, files in model.held.items()},
                    "pinned": [version.label for version in model.pinned],
                    "stopped": model.is_stopped,
                }
                for name, model in self._shared.models.items()
                if model.held or model.pinned or model.is_stopped
            }

    def join(self) -> None:
        """Wait for the others no longer: this process has all that they have."""
        with self._shared.changed:
            for model in self._shared.models.values():
                pinned = self._inherited.get(model.name, {}).get("pinned")
                kept = {Version(label) for label in pinned} if isinstance(pinned, list) else set()
                caught_up = {Version(v) for m, v, _ in self._caught_up_with if m == model.name}
                model.pinned -= caught_up - kept
            self._caught_up_with = frozenset()
        self._shared.work.set()

    def agree(self, agreed: Collection[Key], failed: Mapping[Key, str]) -> None:
        """Take in what all processes have open, and what does not load in one of them."""
        with self._shared.changed:
            self._shared.gate.agreed = frozenset(agreed)
            self._shared.gate.failed = dict(failed)
            for model in self._shared.models.values():
                for record in model.versions.values():
                    if record.blocked_as is not None and record.blocked_as not in failed:
                        # It is tried again elsewhere, so it is here.
                        record.forget_failure()
            notes = self._shared.take_notes()
            self._shared.changed.notify_all()
        log_notes(notes)
        self._shared.work.set()

    def report(self) -> Report:
        """Return what this process has open, and what does not load here by its own fault."""
        with self._shared.changed:
            return self._report()

    def wait_for_news(self, known: Report, timeout_seconds: float) -> Report:
        """Wait until the report differs from one, or the time is over; return it as it is then."""
        with self._shared.changed:
            self._shared.changed.wait_for(lambda: self._report() != known, timeout_seconds)
            return self._report()

    def _report(self) -> Report:
        return Report(frozenset(self._opened()), dict(self._failed()))

    def _opened(self) -> Iterator[Key]:
        yield from self._shared.gate.waiting
        for name, model in self._shared.models.items():
            for version, record in model.versions.items():
                if record.loaded is not None:
                    yield name, version.label, record.loaded.fingerprint

    def _failed(self) -> Iterator[tuple[Key, str]]:
        for name, model in self._shared.models.items():
            for version, record in model.versions.items():
                is_own = record.tried is not None and record.blocked_as is None
                has_failed = record.state is State.FAILED or bool(record.failure)
                if is_own and has_failed and not record.is_underway:
                    yield (name, version.label, str(record.tried)), record.failure
