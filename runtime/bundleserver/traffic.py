"""``serving.json``: which versions of a model are wanted, their labels, and who gets how much."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated

from pydantic import Field

from bundleserver.errors import ConfigError, Problem
from bundleserver.forms import ABSENT, Form, form_problems, nearest, quoted
from bundleserver.jsontext import Place, json_path, pretty, read_object, shown
from bundleserver.versions import VersionPolicy, is_version_label

RESERVED_LABELS = ("default", "latest")
"""Names that mean something else wherever a label may stand, so no label has them."""

_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_LABEL_IS = "a letter, then letters, digits, '.', '_', '-', 64 characters at most"


@dataclass(frozen=True)
class ServingConfig:
    """What a model root asks for; everything that is absent is left to the server's flags.

    Args:
        policy: a version policy, as ``VersionPolicy.parse`` reads it.
        labels: version labels by the names that people give them.
        default: the version or label that answers where a request names none.
        traffic: weights of versions and labels among the requests that name none; any finite scale.
            Two names may stand for one version: their weights then add up.
        shadow: versions and labels that get a copy of the requests and whose answers nobody gets.
    """

    policy: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    default: str | None = None
    traffic: Mapping[str, float] = field(default_factory=dict)
    shadow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", MappingProxyType(dict(self.labels)))
        object.__setattr__(self, "traffic", MappingProxyType(dict(self.traffic)))

    @classmethod
    def from_json(cls, data: bytes | str, where: str) -> ServingConfig:
        """Read a ``serving.json``; whether its versions exist is for the server to say.

        Args:
            data: the file's content.
            where: the file's path, which the error names.

        Raises:
            ConfigError: the text is no JSON, or a value cannot be used; lists every problem.
        """
        document, odd = read_object(data, where, ConfigError)
        problems = {**_problems(document), **odd}
        if problems:
            raise ConfigError(where, tuple(problems.values()))
        form = _ServingForm.model_validate(document)
        return cls(form.policy, form.labels, form.default, form.traffic, tuple(form.shadow))

    def to_json(self) -> str:
        """Write it for people, without what is absent; ``from_json`` reads it back equal."""
        written = {
            "policy": self.policy,
            "labels": dict(self.labels),
            "default": self.default,
            "traffic": dict(self.traffic),
            "shadow": list(self.shadow),
        }
        return pretty({key: value for key, value in written.items() if value}) + "\n"


_Name = Annotated[str, Field(description="a version, or a label that 'labels' has")]
_Weight = Annotated[float, Field(ge=0, description="a weight: a number that is not negative")]
_Target = Annotated[str, Field(description="a version")]


class _ServingForm(Form):
    policy: str = Field(default=ABSENT, description="a version policy: 'latest:2'")
    labels: dict[str, _Target] = Field(
        default_factory=dict, description="an object with a version per label"
    )
    default: _Name = ABSENT
    traffic: dict[str, _Weight] = Field(
        default_factory=dict, description="an object with a weight per version or label"
    )
    shadow: list[_Name] = Field(default_factory=list, description="a list of versions and labels")


def _problems(document: Mapping[str, object]) -> dict[Place, Problem]:
    found = form_problems(_ServingForm, document)
    form = _ServingForm.model_validate(_without(document, found))
    labels = document.get("labels", {})
    more = [*_policy_problems(form), *_label_problems(form)]
    if isinstance(labels, dict):
        more += _name_problems(form, labels)
    if not any(place[0] == "traffic" for place in found):
        more += _weight_problems(form)
    for place, what in more:
        found.setdefault(place, Problem(json_path(place), what))
    return found


def _without(document: Mapping[str, object], found: Mapping[Place, Problem]) -> dict[str, object]:
    """Leave out what did not parse: entries of objects one by one, everything else as a whole."""
    kept: dict[str, object] = {}
    for key, value in document.items():
        if isinstance(value, dict) and (key,) not in found:
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
            yield place, "is a version itself; expected a label, which is no version"
        elif label in RESERVED_LABELS:
            yield place, f"is reserved; no label is called {quoted(RESERVED_LABELS)}"
        elif not _LABEL.fullmatch(label):
            yield place, f"is no label; expected {_LABEL_IS}"
        elif not is_version_label(version):
            yield place, f"is {shown(version)}; expected a version, as in 'v2'"


def _weight_problems(form: _ServingForm) -> Iterator[tuple[Place, str]]:
    total = sum(form.traffic.values())
    if form.traffic and not 0 < total < math.inf:
        yield ("traffic",), f"adds up to {total}; expected a finite sum above 0"


def _name_problems(form: _ServingForm, labels: Mapping[str, object]) -> Iterator[tuple[Place, str]]:
    """Find names that are neither a version nor a label, and shadows named twice."""
    named: list[tuple[Place, str]] = [(("traffic", name), name) for name in form.traffic]
    named += [(("shadow", at), name) for at, name in enumerate(form.shadow)]
    if form.default is not None:
        named.append((("default",), form.default))
    for place, name in named:
        if not is_version_label(name) and name not in labels:
            known = nearest(name, labels)
            yield place, f"names {shown(name)}, which is no version and no label{known}"
    for at, name in enumerate(form.shadow):
        if name in form.shadow[:at]:
            yield ("shadow", at), f"is {shown(name)} once more"
