"""A registry's models and versions as values; the cache stores them as JSON for outages."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, cast

from bundleserver.versions import Version

_MOST_SECONDS = 2.5e11
"""Until the year 9892; later ones have no date in Python."""

_TEXT_COSTS = 20
"""What even an empty text costs."""


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of a registered model.

    Attributes:
        number: the registry's number, without a ``v``.
        status: ``READY``, ``PENDING_REGISTRATION`` or ``FAILED_REGISTRATION``.
        created_at: milliseconds since the epoch, as is ``updated_at``.
        stage: an empty string if there is none.
    """

    number: str
    status: str = "READY"
    status_message: str = ""
    source: str = ""
    run_id: str = ""
    model_id: str = ""
    description: str = ""
    user: str = ""
    created_at: int = 0
    updated_at: int = 0
    stage: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def version(self) -> Version:
        """The version's label."""
        return Version(self.number)

    @property
    def fingerprint(self) -> str:
        """Changes when the number refers to another model, not with a tag or a description."""
        known = repr((self.number, self.source, self.run_id, self.model_id, self.created_at))
        return hashlib.sha256(known.encode()).hexdigest()[:16]

    @property
    def characters(self) -> int:
        """How long its texts are together; each counts at least as much as its place in memory."""
        texts = (self.number, self.status, self.status_message, self.source, self.run_id)
        further = (self.model_id, self.description, self.user, self.stage)
        tags = (text for tag in self.tags.items() for text in tag)
        return sum(len(text) + _TEXT_COSTS for text in (*texts, *further, *tags))

    def facts(self) -> dict[str, object]:
        """Return this version's facts for the metadata, without empty ones."""
        known: dict[str, object] = {
            "version": self.number,
            "run_id": self.run_id,
            "model_id": self.model_id,
            "source": self.source,
            "description": self.description,
            "tags": dict(self.tags),
            "stage": self.stage,
            "created_by": self.user,
            "created_at": iso_time(self.created_at / 1000) if self.created_at else "",
            "updated_at": iso_time(self.updated_at / 1000) if self.updated_at else "",
        }
        return {key: value for key, value in known.items() if value}


@dataclass(frozen=True)
class RegisteredModel:
    """A registered model: its versions, newest first, and version numbers by alias."""

    name: str
    versions: tuple[RegisteredVersion, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    def find(self, number: str) -> RegisteredVersion | None:
        """Return the version of that number, or None."""
        return next((version for version in self.versions if version.number == number), None)

    def named(self, label: str) -> str | None:
        """Return an alias's version number, else the newest in the stage of that name."""
        if label in self.aliases:
            return self.aliases[label]
        in_stage = (v.number for v in self.versions if v.stage.lower() == label.lower())
        return next(in_stage, None)

    def no_version(self, number: str, place: str) -> str:
        """Return the message that a version does not exist in the registry at ``place``."""
        there = ", ".join(version.number for version in self.versions[:10]) or "none"
        return (
            f"'{self.name}' has no version {number} in the registry at '{place}'; versions: {there}"
        )

    def to_document(self) -> dict[str, object]:
        """Return it as a JSON object; ``from_document`` parses it back equal."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: Mapping[str, object]) -> RegisteredModel:
        """Parse the result of ``to_document``.

        Raises:
            TypeError, ValueError, KeyError: it is not one.
        """
        entries = document["versions"]
        if not isinstance(entries, list):
            raise TypeError("'versions' must be an array")
        versions = tuple(map(_version, entries))
        return cls(
            str(document["name"]),
            versions,
            _texts(document.get("aliases")),
            str(document.get("description", "")),
            _texts(document.get("tags")),
        )


def iso_time(seconds: float) -> str:
    """Format a time since the epoch in ISO 8601, UTC; empty if it is in no year that is written."""
    if not -_MOST_SECONDS < seconds < _MOST_SECONDS:
        return ""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _version(entry: Mapping[str, object]) -> RegisteredVersion:
    version = RegisteredVersion(**cast("Mapping[str, Any]", entry))
    for name, default in asdict(RegisteredVersion("1")).items():
        value = getattr(version, name)
        if type(value) is not type(default):
            raise TypeError(f"'{name}' is a {type(value).__name__}")
        if isinstance(value, int) and abs(value) >= 1 << 63:
            raise ValueError(f"'{name}' is {value.bit_length()} bits long")
    Version.parse(version.number)
    return replace(version, tags=_texts(version.tags))


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {str(key): str(entry) for key, entry in value.items()}
