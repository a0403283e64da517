"""``serving.json``: which versions of a model to serve, their labels, and the traffic split."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Annotated

from pydantic import Field

from bundleserver.documents.forms import (
    ABSENT,
    Form,
    TooManyProblems,
    form_problems,
    nearest,
    quoted,
)
from bundleserver.documents.strict_json import Place, json_path, pretty, read_object, shown
from bundleserver.errors import ConfigError, Problem
from bundleserver.versions import VersionPolicy, is_version_label
from bundleserver.versions.canary import CanaryRules

CONFIG_NAME = "serving.json"
"""The name of the file in a model's directory."""

_MOST = {"labels": 1_000, "traffic": 1_000, "shadow": 1_000}

RESERVED_LABELS = ("default", "latest")
"""Names with another meaning where a label may be used, so they cannot be labels."""

_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_LABEL_IS = "a letter, then letters, digits, '.', '_', '-', 64 characters at most"


@dataclass(frozen=True)
class ServingConfig:
    """One model's configuration; command-line flags apply to what is absent.

    Args:
        policy: a version policy, as for ``VersionPolicy.parse``.
        labels: versions by label.
        default: the version or label for requests that name none.
        traffic: weights of versions and labels for requests that name none, on any finite scale.
            If two names refer to one version, their weights add up.
        shadow: versions that receive mirrored requests; their responses are discarded.
        shadow_share: the share of the requests that are mirrored, up to 1.
        canary: how a version replaces the default in steps; excludes ``traffic``.
    """

    policy: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    default: str | None = None
    traffic: Mapping[str, float] = field(default_factory=dict)
    shadow: tuple[str, ...] = ()
    shadow_share: float = 1.0
    canary: CanaryRules | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", MappingProxyType(dict(self.labels)))
        object.__setattr__(self, "traffic", MappingProxyType(dict(self.traffic)))

    @property
    def is_split(self) -> bool:
        """Whether requests that name no version are split or mirrored."""
        return bool(self.traffic or self.canary or self.shadow)

    @classmethod
    def from_json(cls, data: bytes | str, where: str) -> ServingConfig:
        """Parse a ``serving.json``; whether its versions exist is checked by the server.

        Args:
            data: the file's content.
            where: the file's path, for error messages.

        Raises:
            ConfigError: it is not valid JSON, or a value is invalid; lists every problem.
        """
        document, odd = read_object(data, where, ConfigError, _MOST)
        try:
            problems = {**_problems(document), **odd}
        except TooManyProblems as error:
            raise ConfigError(where, [Problem("", str(error))]) from error
        if problems:
            raise ConfigError(where, tuple(problems.values()))
        form = _ServingForm.model_validate(document)
        return cls(
            form.policy,
            form.labels,
            form.default,
            form.traffic,
            tuple(form.shadow),
            form.shadow_share,
            None if form.canary is None else form.canary.rules(),
        )

    def resolve(self, name: str) -> str:
        """Return the version that a name, a label or a version, refers to."""
        return self.labels.get(name, name)

    def phrases(self) -> list[str]:
        """Return what is set beside the policy, in words for people."""
        return [
            *([f"default {self.default}"] if self.default else []),
            *(f"{label} → {version}" for label, version in self.labels.items()),
            *(f"{weight:g} to {name}" for name, weight in self.traffic.items()),
            *(f"shadow {name}" for name in self.shadow),
            *([f"canary {self.canary.version}"] if self.canary else []),
        ]

    def to_json(self) -> str:
        """Format it without absent values; ``from_json`` parses it back equal."""
        written = {
            "policy": self.policy,
            "labels": dict(self.labels),
            "default": self.default,
            "traffic": dict(self.traffic),
            "shadow": list(self.shadow),
            "shadow_share": None if self.shadow_share == 1 else self.shadow_share,
            "canary": self.canary
            and {key: value for key, value in asdict(self.canary).items() if value is not None},
        }
        return pretty({key: value for key, value in written.items() if value}) + "\n"


def is_label(name: str) -> bool:
    """Ask whether a name may be a label."""
    return _LABEL.fullmatch(name) is not None and name not in RESERVED_LABELS


_Name = Annotated[str, Field(description="a version, or a label in 'labels'")]
_Weight = Annotated[float, Field(ge=0, description="a weight: a non-negative number")]
_Target = Annotated[str, Field(description="a version")]
_Step = Annotated[
    float, Field(gt=0, le=100, description="a share in percent: above 0, at most 100")
]


class _CanaryForm(Form):
    version: _Name
    steps: list[_Step] = Field(
        default=list(CanaryRules.steps),
        description="an array of increasing shares in percent: [5, 25, 50, 100]",
    )
    interval_seconds: float = Field(
        default=CanaryRules.interval_seconds, ge=0, description="seconds, 0 or more"
    )
    min_requests: int = Field(
        default=CanaryRules.min_requests, ge=1, description="an integer of at least 1"
    )
    max_error_rate: float = Field(
        default=CanaryRules.max_error_rate, ge=0, le=1, description="a share from 0 to 1"
    )
    max_p99_ratio: float = Field(default=ABSENT, gt=0, description="a number above 0")
    min_agreement: float = Field(default=ABSENT, ge=0, le=1, description="a share from 0 to 1")

    def rules(self) -> CanaryRules:
        return CanaryRules(**{**self.model_dump(), "steps": tuple(self.steps)})


class _ServingForm(Form):
    policy: str = Field(default=ABSENT, description="a version policy: 'latest:2'")
    labels: dict[str, _Target] = Field(
        default_factory=dict, description="an object with a version per label"
    )
    default: _Name = ABSENT
    traffic: dict[str, _Weight] = Field(
        default_factory=dict, description="an object with a weight per version or label"
    )
    shadow: list[_Name] = Field(default_factory=list, description="an array of versions and labels")
    shadow_share: float = Field(
        default=1.0, gt=0, le=1, description="a share of the requests: above 0, at most 1"
    )
    canary: _CanaryForm = ABSENT


def _problems(document: Mapping[str, object]) -> dict[Place, Problem]:
    found = form_problems(_ServingForm, document)
    form = _ServingForm.model_validate(_without(document, found))
    labels = document.get("labels", {})
    more = [*_policy_problems(form), *_label_problems(form), *_canary_problems(form, document)]
    if isinstance(labels, dict):
        more += [*_name_problems(form, labels), *_default_problems(form, labels)]
    if not any(place[0] == "traffic" for place in found):
        more += _weight_problems(form)
    for place, what in more:
        found.setdefault(place, Problem(json_path(place), what))
    return found


def _without(document: Mapping[str, object], found: Mapping[Place, Problem]) -> dict[str, object]:
    """Remove invalid values: single entries of objects, everything else as a whole."""
    kept: dict[str, object] = {}
    for key, value in document.items():
        if isinstance(value, dict) and key != "canary" and (key,) not in found:
            kept[key] = {name: value[name] for name in value if (key, name) not in found}
        elif not any(place[0] == key for place in found):
            kept[key] = value
    return kept


def _policy_problems(form: _ServingForm) -> Iterator[tuple[Place, str]]:
    if form.policy is None:
        return
    try:
        VersionPolicy.parse(form.policy)
    except ValueError as error:
        yield ("policy",), str(error)


def _label_problems(form: _ServingForm) -> Iterator[tuple[Place, str]]:
    for label, version in form.labels.items():
        place: Place = ("labels", label)
        if is_version_label(label):
            yield place, "has the form of a version; expected another name for a label"
        elif label in RESERVED_LABELS:
            yield place, f"is reserved; a label must not be {quoted(RESERVED_LABELS)}"
        elif not _LABEL.fullmatch(label):
            yield place, f"is not a valid label; expected {_LABEL_IS}"
        elif not is_version_label(version):
            yield place, f"is {shown(version)}; expected a version such as 'v2'"


def _weight_problems(form: _ServingForm) -> Iterator[tuple[Place, str]]:
    total = sum(form.traffic.values())
    if form.traffic and not 0 < total < math.inf:
        yield ("traffic",), f"adds up to {total}; expected a finite sum above 0"


def _name_problems(form: _ServingForm, labels: Mapping[str, object]) -> Iterator[tuple[Place, str]]:
    """Find names that are neither a version nor a label, and duplicate shadows."""
    named: list[tuple[Place, str]] = [(("traffic", name), name) for name in form.traffic]
    named += _challengers(form)
    if form.default is not None:
        named.append((("default",), form.default))
    for place, name in named:
        if not is_version_label(name) and name not in labels:
            known = nearest(name, labels)
            yield place, f"refers to {shown(name)}, which is neither a version nor a label{known}"
    for at, name in enumerate(form.shadow):
        if name in form.shadow[:at]:
            yield ("shadow", at), f"is {shown(name)}, a duplicate; name each shadow once"


def _default_problems(
    form: _ServingForm, labels: Mapping[str, object]
) -> Iterator[tuple[Place, str]]:
    default = None if form.default is None else labels.get(form.default, form.default)
    for place, name in _challengers(form):
        if default is not None and labels.get(name, name) == default:
            yield place, f"is {shown(name)}, the default version; expected another version"


def _challengers(form: _ServingForm) -> Iterator[tuple[Place, str]]:
    for at, name in enumerate(form.shadow):
        yield ("shadow", at), name
    if form.canary is not None:
        yield ("canary", "version"), form.canary.version


def _canary_problems(
    form: _ServingForm, document: Mapping[str, object]
) -> Iterator[tuple[Place, str]]:
    if form.canary is None:
        return
    if "default" not in document:
        yield ("canary",), "requires 'default', the version that the canary replaces"
    if document.get("traffic"):
        yield ("canary",), "cannot be combined with 'traffic'; remove one of them"
    steps = form.canary.steps
    if not steps:
        yield (
            ("canary", "steps"),
            "is empty; expected increasing shares in percent, such as [5, 100]",
        )
    for at in range(1, len(steps)):
        if steps[at] <= steps[at - 1]:
            yield (
                ("canary", "steps", at),
                f"is {steps[at]:g} after {steps[at - 1]:g}; expected increasing steps",
            )
