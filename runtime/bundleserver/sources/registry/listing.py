"""Which versions of a registered model to serve, and under which labels: pure decisions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bundleserver.sources import Candidate, Demand, Listing
from bundleserver.sources.registry.state import LastKnown
from bundleserver.sources.registry.uri import ModelUri
from bundleserver.sources.registry.values import RegisteredModel, RegisteredVersion
from bundleserver.versions import Version, VersionPolicy
from bundleserver.versions.serving_config import ServingConfig

CHAMPION = "champion"
"""The default alias if the URI has none and it is among the labels."""


@dataclass(frozen=True)
class Choice:
    """What to serve: a URI, further labels, the name to serve under, a traffic split."""

    uri: ModelUri
    labels: tuple[str, ...]
    served_as: str
    traffic: Mapping[str, float] = field(default_factory=dict)

    @property
    def all_labels(self) -> tuple[str, ...]:
        """Every alias or stage to poll, the default's first."""
        first = (self.uri.label,) if self.uri.label else ()
        return tuple(dict.fromkeys((*first, *self.labels)))

    @property
    def default_label(self) -> str | None:
        """The label for requests that name no version, if any."""
        if self.uri.label:
            return self.uri.label
        is_open = self.uri.version is None and not self.uri.is_latest
        return CHAMPION if is_open and CHAMPION in self.labels else None


@dataclass(frozen=True)
class Resolved:
    """The current versions of a choice's labels; missing ones with the reason."""

    labels: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


def resolve(choice: Choice, model: RegisteredModel, place: str) -> Resolved:
    """Look up every label of a choice; ``place`` is the registry, for messages."""
    labels: dict[str, str] = {}
    missing: dict[str, str] = {}
    for label in choice.all_labels:
        number = model.named(label)
        if number is None:
            known = ", ".join(f"'{alias}'" for alias in sorted(model.aliases)) or "none"
            missing[label] = (
                f"'{model.name}' has no alias '{label}' in the registry at '{place}'; known "
                f"aliases: {known}"
            )
        elif model.find(number) is None:
            missing[label] = (
                f"alias '{label}' of '{model.name}' refers to version {number}, which is not in "
                f"the registry at '{place}'; it was probably deleted"
            )
        else:
            labels[label] = number
    return Resolved(labels, missing)


def list_model(
    choice: Choice,
    known: LastKnown,
    demand: Demand,
    place: str,
    candidate_of: Callable[[RegisteredVersion], Candidate],
) -> Listing:
    """Return all versions of a model to serve.

    Args:
        choice: what to serve.
        known: the registry's state.
        demand: the manager's demand.
        place: the registry, for messages.
        candidate_of: makes a candidate of a version.
    """
    model = known.model
    resolved = resolve(choice, model, place)
    if reason := _why_no_default(choice, model, resolved, place):
        return Listing(choice.served_as, reason=reason)
    config = _config(choice, known, resolved, demand, candidate_of)
    policy = demand.policy if config.policy is None else VersionPolicy.parse(config.policy)
    candidates, unseen = _split(model.versions, policy, config, demand, candidate_of)
    return Listing(
        choice.served_as,
        tuple(candidates),
        config if config != ServingConfig() else None,
        config_name="the registry",
        unseen=tuple(unseen),
        warnings=(*resolved.missing.values(), *_unknown_shares(choice, model, resolved.labels)),
        reason="" if candidates else f"'{model.name}' has no version in the registry at '{place}'",
    )


def _why_no_default(
    choice: Choice, model: RegisteredModel, resolved: Resolved, place: str
) -> str | None:
    """Return why there can be no default version, or None; loaded versions keep serving."""
    if (default := choice.default_label) is not None and default in resolved.missing:
        return resolved.missing[default]
    if choice.uri.version is not None and model.find(choice.uri.version) is None:
        return model.no_version(choice.uri.version, place)
    return None


def _config(
    choice: Choice,
    known: LastKnown,
    resolved: Resolved,
    demand: Demand,
    candidate_of: Callable[[RegisteredVersion], Candidate],
) -> ServingConfig:
    labels = dict(resolved.labels)
    traffic = {} if _unknown_shares(choice, known.model, labels) else choice.traffic
    policy, default = None, choice.default_label
    if choice.uri.version is not None:
        policy, default = f"specific:{choice.uri.version}", choice.uri.version
    elif choice.uri.is_latest:
        policy = "latest"
    elif default is not None:
        wanted = {Version(number) for number in labels.values()}
        wanted |= {*_replacements(known, labels, default, demand, candidate_of)}
        policy = str(VersionPolicy(None, tuple(sorted(wanted))))
    return ServingConfig(policy, labels, default, traffic)


def _unknown_shares(
    choice: Choice, model: RegisteredModel, labels: Mapping[str, str]
) -> tuple[str, ...]:
    """Describe names in the traffic split that do not exist; the default gets all requests then."""
    return tuple(
        f"--traffic refers to '{name}', which '{model.name}' does not have; the default version "
        "gets all requests"
        for name in choice.traffic
        if name not in labels and model.find(name) is None
    )


def _replacements(
    known: LastKnown,
    labels: Mapping[str, str],
    default: str,
    demand: Demand,
    candidate_of: Callable[[RegisteredVersion], Candidate],
) -> list[Version]:
    """Choose earlier versions to replace those that failed or are unavailable.

    First former versions of the default's label, then the registry's next older ones.
    """
    model = known.model
    chosen = set(labels.values())
    lost = [n for n in chosen if (v := model.find(n)) and candidate_of(v).problem is not None]
    # One that failed and that no label refers to any more is neither replaced nor a replacement.
    wanted = len({Version(number) for number in chosen} & demand.left_out) + len(lost)
    newest = Version(labels[default])
    older = (v.number for v in model.versions if v.version < newest)
    ordered = dict.fromkeys((*known.history.get(default, ()), *older))
    possible = (model.find(number) for number in ordered if number not in chosen)
    allowed = (v for v in possible if v and v.version not in demand.left_out)
    usable = (v.version for v in allowed if candidate_of(v).is_usable)
    return [version for version, _ in zip(usable, range(wanted), strict=False)]


def _split(
    versions: Sequence[RegisteredVersion],
    policy: VersionPolicy,
    config: ServingConfig,
    demand: Demand,
    candidate_of: Callable[[RegisteredVersion], Candidate],
) -> tuple[list[Candidate], list[Version]]:
    """Make candidates of the versions in demand, newest first; others are listed by name."""
    named = {*policy.specific, *demand.versions, *map(Version, config.labels.values())}
    count = 0 if policy.specific else policy.count
    candidates: list[Candidate] = []
    unseen: list[Version] = []
    sound = 0
    for version in versions:
        is_reached = count is None or (count > 0 and sound < count + demand.further)
        if not is_reached and version.version not in named:
            unseen.append(version.version)
            continue
        candidate = candidate_of(version)
        candidates.append(candidate)
        sound += candidate.is_usable
    return candidates, unseen
