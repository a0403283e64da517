"""What the page tells of models: to administrators all of it, to others what everybody is told.

Where the index is for administrators, that is what the metadata have: versions that are READY, and
no reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from bundleserver.errors import ModelNotFound
from bundleserver.serving.administration import Discretion
from bundleserver.serving.models import ServingManager
from bundleserver.serving.page.activity import Activities, Activity
from bundleserver.versions.lifecycle import State

if TYPE_CHECKING:
    from bundleserver.manager import ModelStatus, VersionStatus

Traffic = Callable[[str], Mapping[str, object]]

PER_PAGE = 100
"""Models of one page of the overview."""

_KINDS: Mapping[State, str] = {
    State.READY: "good",
    State.FAILED: "bad",
    State.DRAINING: "busy",
    State.UNLOADED: "idle",
}


@dataclass(frozen=True)
class VersionFacts:
    """One version: its status, and its last minutes.

    Attributes:
        reason: why it is in its state, without the state's name; an empty string if there is none.
        warnings: what is worse than it should be although it is READY.
    """

    status: VersionStatus
    activity: Activity
    is_default: bool
    labels: tuple[str, ...]

    @property
    def kind(self) -> str:
        """How its state looks: ``good``, ``bad``, ``busy`` or ``idle``."""
        return kind_of(self.status)

    @property
    def reason(self) -> str:
        """Why it is in its state; an empty string if that is no news."""
        word = self.status.state.value
        return self.status.reason.removeprefix(word).lstrip(":;, ")

    @property
    def since(self) -> str:
        """Since when it is so, in UTC: READY, failing for this reason, or in its state.

        An empty string if that is not known.
        """
        is_failed = self.status.state is State.FAILED
        failing = self.status.failing_since if is_failed else None
        return moment(self.status.loaded_at or failing or self.status.entered_at)

    @property
    def retried(self) -> str:
        """When a version that FAILED was last tried again, in UTC; else an empty string."""
        if self.status.state is not State.FAILED:
            return ""
        last = moment(self.status.entered_at)
        return "" if last == self.since else last

    @property
    def signed(self) -> str:
        """What the signature of its files is worth, by which key, and why not."""
        verification = self.status.metadata.get("verification")
        signature = verification.get("signature") if isinstance(verification, Mapping) else None
        if not isinstance(signature, Mapping):
            return "nobody looked"
        key, problem = signature.get("key"), signature.get("problem")
        status = str(signature.get("status"))
        by = f" by the key '{key.get('name')}'" if isinstance(key, Mapping) else ""
        return f"{'nobody looked' if status == 'off' else status}{by}" + (
            f": {problem}" if problem else ""
        )


@dataclass(frozen=True)
class ModelFacts:
    """One model, its versions, where its requests go, and its last minutes."""

    status: ModelStatus
    traffic: Mapping[str, object]
    is_whole: bool
    activities: Activities = field(default_factory=lambda: Activities({}))

    @property
    def name(self) -> str:
        """Its name."""
        return self.status.name

    @property
    def activity(self) -> Activity:
        """The requests of all versions."""
        return self.activities.of_model(self.status.name)

    @property
    def versions(self) -> list[VersionFacts]:
        """Its versions, newest first."""
        return [
            VersionFacts(
                status,
                self.activities.of_version(self.status.name, status.version),
                status.version == self.status.default,
                tuple(sorted(k for k, v in self.status.labels.items() if v == status.version)),
            )
            for status in self.status.versions
        ]

    @property
    def state(self) -> str:
        """In a word: READY if it answers by default, else the state of its newest version."""
        if self.status.default is not None:
            return State.READY.value
        if not self.is_whole:
            return "not ready"
        return self.status.versions[0].state.value if self.status.versions else "no version"

    @property
    def kind(self) -> str:
        """How its state looks."""
        if self.status.default is not None:
            return "good"
        return kind_of(self.status.versions[0]) if self.status.versions else "idle"

    @property
    def stale_since(self) -> str:
        """Since when its source cannot be polled; an empty string if it can."""
        return moment(self.status.stale_since)

    @property
    def problems(self) -> list[str]:
        """What an operator should know, each with the version that it is about."""
        found = [
            f"{version.status.version}: {version.status.reason}"
            for version in self.versions
            if version.kind == "bad" or (version.kind == "good" and version.reason)
        ]
        is_news = self.status.default is None and not self._is_on_the_way
        if is_news and not found and self.status.reason:
            found.append(self.status.reason)
        if self.status.config_problem:
            found.append(f"serving.json: {self.status.config_problem}")
        if self.status.source_problem:
            found.append(f"no newer version is seen: {self.status.source_problem}")
        return found

    @property
    def _is_on_the_way(self) -> bool:
        """Whether nothing is wrong but that it is not ready yet."""
        newest = self.status.versions[0] if self.status.versions else None
        if newest is None or newest.failing_since is not None or newest.waits_for:
            return False
        return kind_of(newest) == "busy"


def kind_of(status: VersionStatus) -> str:
    """Return how a version's state looks; one that is not selected is idle."""
    if status.state is State.DISCOVERED and not status.wanted:
        return "idle"
    return _KINDS.get(status.state, "busy")


def moment(seconds: float | None) -> str:
    """Return a time in seconds since the epoch in UTC; an empty string for None."""
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


@dataclass(frozen=True)
class Overview:
    """The models of one page of the overview, and how many there are of each kind.

    Attributes:
        counts: the number of models by kind, and with problems, of those that match.
        first: the place of the first one shown among those that match.
    """

    models: Sequence[ModelFacts]
    counts: Mapping[str, int]
    matching: int
    all: int
    first: int

    def with_activities(self, activities: Activities) -> Overview:
        """Add the last minutes of the models that are shown."""
        return replace(
            self, models=[replace(model, activities=activities) for model in self.models]
        )

    @property
    def previous(self) -> int | None:
        """The first one of the page before; None if there is none."""
        return max(0, self.first - PER_PAGE) if self.first else None

    @property
    def next(self) -> int | None:
        """The first one of the page after; None if there is none."""
        following = self.first + PER_PAGE
        return following if following < self.matching else None


class Facts:
    """Collects what is shown. Called from one thread at a time."""

    def __init__(self, manager: ServingManager, traffic: Traffic) -> None:
        self._manager = manager
        self._traffic = traffic
        self._discretion = Discretion(is_on=True)

    def names(self, wanted: str = "") -> list[str]:
        """Return the names of the models that have a text in their name, in any case of letters."""
        text = wanted.casefold()
        return sorted(name for name in self._manager.models() if text in name.casefold())

    def model(self, name: str, is_whole: bool) -> ModelFacts:
        """Return what is shown of a model without its requests; ``is_whole``: to an administrator.

        Raises:
            ModelNotFound: there is no such model.
        """
        status = self._manager.status(name)
        if is_whole:
            return ModelFacts(status, self._traffic(name), is_whole)
        traffic = {} if status.default is None else self._discretion.traffic(self._traffic(name))
        return ModelFacts(self._public(status), traffic, is_whole)

    def overview(self, wanted: str, first: int, only: str, is_whole: bool) -> Overview:
        """Return a page of the models whose names have a text, without their requests.

        Args:
            wanted: the text; an empty one matches all.
            first: the place of the first one to show.
            only: ``problems`` for those that have any; else all.
            is_whole: what administrators are told.
        """
        counts = {"good": 0, "busy": 0, "bad": 0, "idle": 0, "problems": 0}
        matching = []
        for name in self.names(wanted):
            try:
                found = self.model(name, is_whole)
            except ModelNotFound:
                continue  # removed since it was listed
            has_problems = bool(found.problems)
            if only == "problems" and not has_problems:
                continue
            matching.append(found)
            counts[found.kind] += 1
            counts["problems"] += has_problems
        first = min(max(0, first), max(0, len(matching) - 1))
        first -= first % PER_PAGE
        shown = matching[first : first + PER_PAGE]
        return Overview(shown, counts, len(matching), len(self._manager.models()), first)

    def _public(self, status: ModelStatus) -> ModelStatus:
        """Return a status as metadata have it: only what is READY, without reasons and times."""
        told = self._discretion.status(status)
        ready = [version for version in told.versions if version.state is State.READY]
        names = {version.version for version in ready}
        return replace(
            told,
            versions=tuple(
                replace(
                    version,
                    reason="",
                    loaded_at=None,
                    entered_at=None,
                    failing_since=None,
                    load_seconds=None,
                )
                for version in ready
            ),
            labels={label: name for label, name in told.labels.items() if name in names},
            known=tuple(name for name in told.known if name in names),
            config_problem=None,
            source_problem="",
        )
