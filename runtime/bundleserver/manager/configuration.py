"""Which ``serving.json`` is in effect: a new one once every version it refers to is ready."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from bundleserver.documents.printable import few
from bundleserver.manager.records import VersionRecord
from bundleserver.sources import Listing, named_versions, policy_of
from bundleserver.versions import Version, VersionPolicy, is_version_label
from bundleserver.versions.lifecycle import State
from bundleserver.versions.serving_config import CONFIG_NAME, ServingConfig

Note = tuple[int, str]
"""A line for the log and its level."""

_KEEPING = "keeping the last valid configuration"


class Configuration:
    """One model's flags and ``serving.json``: the configuration in effect and a pending one.

    Every method is called under the manager's lock.
    """

    def __init__(
        self, flags: VersionPolicy, traffic: Mapping[str, float] = MappingProxyType({})
    ) -> None:
        self.name = "serving.json"
        self.active: ServingConfig | None = None
        self.problem: str | None = None
        self._flags = flags
        self._traffic = traffic
        self._proposed: ServingConfig | None = None
        self._refusal: str | None = None
        self._awaited: list[Version] = []

    @property
    def in_effect(self) -> ServingConfig:
        """The ``serving.json`` in effect, with the flags' traffic unless it overrides that.

        A default or a canary overrides the flags too, so that a rollback selects one version.
        """
        active = self.active or ServingConfig()
        decides = active.traffic or active.default or active.canary
        return active if decides or not self._traffic else replace(active, traffic=self._traffic)

    @property
    def policy(self) -> VersionPolicy:
        """The version policy in effect."""
        return policy_of(self.active, self._flags)

    @property
    def labels(self) -> Mapping[str, str]:
        """The versions by label."""
        return self.active.labels if self.active else {}

    def names(self, versions: Sequence[Version]) -> str:
        """List versions, newest first, and the labels."""
        shown = ", ".join(f"'{version}'" for version in versions[:10]) or "none"
        more = f" and {len(versions) - 10} more" if len(versions) > 10 else ""
        labels = ", ".join(f"'{label}'" for label in self.labels)
        return f"versions: {shown}{more}" + (f"; labels: {labels}" if labels else "")

    @property
    def default(self) -> Version | None:
        """The version that the default is pinned to, or None."""
        if self.active is None or self.active.default is None:
            return None
        return Version(self.labels.get(self.active.default, self.active.default))

    @property
    def named(self) -> frozenset[Version]:
        """Every version that the configuration in effect, or the pending one, refers to."""
        is_any = self.active is not None or self._traffic
        return named_versions(self.in_effect if is_any else None) | _required(self._proposed)

    def consider(
        self, listing: Listing, known: Iterable[Version], is_answering: bool
    ) -> list[Note]:
        """Validate the configuration of a poll; ``advance`` puts it into effect.

        Args:
            listing: has the configuration, or why it is invalid.
            known: the versions that exist.
            is_answering: a version is serving, so a wrong configuration is refused.
        """
        config, self.name = listing.config, listing.config_name
        self._proposed, self._refusal = None, None
        if listing.config_problem is not None:
            self._refusal = f"{listing.config_problem}; {_KEEPING}"
        elif config == self.active:
            pass
        elif config is None:
            self.active = None
            gone = "was removed" if self.name == CONFIG_NAME else "configures nothing"
            return [(logging.INFO, f"{self.name} {gone}; using command-line flags")]
        elif (unknown := sorted(_required(config) - {*known})) and is_answering:
            what = "version" if len(unknown) == 1 else "versions"
            self._refusal = f"{self.name} refers to unknown {what} {_quoted(unknown)}; {_KEEPING}"
        else:
            self._proposed = config
        return []

    def advance(
        self,
        versions: Mapping[Version, VersionRecord],
        unloaded: Collection[Version],
        default: Version | None,
    ) -> list[Note]:
        """Put a pending configuration into effect if possible; returns new lines for the log.

        Args:
            versions: the record of each version.
            unloaded: the versions that were manually unloaded, so are not loaded for it.
            default: the default version, or None.
        """
        before, awaited = self.problem, self._awaited
        notes: list[Note] = []
        self._awaited = [v for v in sorted(_required(self._proposed)) if not _answers(versions, v)]
        if self._proposed is not None and not (self._awaited and default is not None):
            self.active, self._proposed = self._proposed, None
            notes.append((logging.INFO, f"{self.name} in effect: {_summary(self.active)}"))
        if self._proposed is None:
            self.problem = self._refusal or self._unready_problem(versions, default)
        elif lost := [v for v in self._awaited if v in unloaded or _has_failed(versions, v)]:
            self.problem = f"{self.name} {_unready(versions, lost)}; {_KEEPING}"
        else:
            self.problem = None
            if self._awaited != awaited:
                text = f"{self.name} takes effect once {_quoted(self._awaited)} is ready"
                notes.append((logging.INFO, text))
        if self.problem is not None and self.problem != before:
            notes.append((logging.WARNING, self.problem))
        return notes

    def _unready_problem(
        self, versions: Mapping[Version, VersionRecord], default: Version | None
    ) -> str | None:
        """Describe references of the configuration in effect to unknown or failed versions."""
        config = self.in_effect
        lost = [n for n in config.traffic if not is_version_label(config.resolve(n))]
        if lost:
            known = f"which is not a version or a label of {self.name}"
            return f"--traffic refers to '{lost[0]}', {known}"
        own = [name for name in config.shadow if config.resolve(name) == str(default)]
        if own:
            return f"{self.name} has the shadow '{own[0]}', which is the default version itself"
        unready = [
            version
            for version in sorted(named_versions(config))
            if version not in versions or versions[version].state in (State.FAILED, State.UNLOADED)
        ]
        who = self.name if config == self.active else "--traffic"
        return f"{who} {_unready(versions, unready)}" if unready else None


def _required(config: ServingConfig | None) -> frozenset[Version]:
    """Return the versions that must be ready before a configuration takes effect."""
    if config is None:
        return frozenset()
    return named_versions(config) | {*policy_of(config, VersionPolicy()).specific}


def _answers(versions: Mapping[Version, VersionRecord], version: Version) -> bool:
    return version in versions and versions[version].loaded is not None


def _has_failed(versions: Mapping[Version, VersionRecord], version: Version) -> bool:
    # A version without a record has not been demanded yet, so its files were not read.
    return version in versions and versions[version].state is State.FAILED


def _unready(versions: Mapping[Version, VersionRecord], named: Iterable[Version]) -> str:
    described = []
    for version in named:
        record = versions.get(version)
        if record is None:
            described.append(f"'{version}', which does not exist")
        elif record.state is State.FAILED:
            described.append(f"'{version}', which {record.failure}")
        else:
            described.append(f"'{version}', which is not ready")
    return "refers to " + "; ".join(few(described))


def _quoted(versions: Iterable[Version]) -> str:
    return ", ".join(few(f"'{version}'" for version in versions))


def _summary(config: ServingConfig) -> str:
    parts = [f"policy {config.policy}"] if config.policy else []
    return ", ".join(few([*parts, *config.phrases()])) or "empty, using command-line flags"
