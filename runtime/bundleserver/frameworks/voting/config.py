"""An ensemble's configuration: its members, and the rule that combines their votes."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import ConfigDict, Field

from bundleserver.documents.forms import ABSENT, Form, form_problems, must, quoted
from bundleserver.errors import InvalidInput
from bundleserver.operations import voting
from bundleserver.operations.params import Share, Weights, problem_with_weights
from bundleserver.tensors import NamedTensor


def _snake_case(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


class ConfigForm(Form):
    """An ensemble's configuration; other keys are ignored."""

    model_config = ConfigDict(extra="allow")

    methods: list[
        Annotated[
            str,
            must(lambda name: bool(_snake_case(name))),
            Field(description="a name with a letter or digit"),
        ]
    ] = Field(min_length=1, description="an array of the members' names")
    weights: Weights = ABSENT
    threshold: Share = voting.THRESHOLD
    best_method: str = Field(default=ABSENT, description="a name")


KEYS = (*ConfigForm.model_fields, "performance")
"""The known keys."""

_HARD = frozenset(
    {"hard", "hard_vote", "hard_voting", "majority", "majority_vote", "majority_voting"}
)
_WEIGHTED = frozenset(
    {"weighted", "weighted_vote", "weighted_voting", "weighted_average", "weighted_majority"}
)


@dataclass(frozen=True)
class VotingEnsemble:
    """An ensemble's members and their weights, and the rule that combines their votes.

    ``rule`` is ``hard``, ``weighted``, or the name of the one member that decides alone.
    """

    members: tuple[str, ...]
    weights: tuple[float, ...]
    threshold: float
    rule: str
    encoding: voting.Encoding

    @classmethod
    def from_config(cls, config: Mapping[str, object], encoding: voting.Encoding) -> VotingEnsemble:
        """Parse a dict without ``problems_with_config``."""
        form = ConfigForm.model_validate(config)
        members = _members(form.methods, form.weights)
        weights = tuple(form.weights or [1.0] * len(members))
        rule = _rule(form.best_method, members)
        return cls(tuple(members), weights, form.threshold, rule, encoding)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs: ``Isolation Forest`` → ``isolation_forest``."""
        return tuple(_snake_case(member) for member in self.members)

    def decide(self, votes: Sequence[NamedTensor]) -> tuple[voting.Labels, voting.Scores]:
        """Combine one tensor of votes per member, ``[n]`` each, into label and score.

        Raises:
            InvalidInput: their number or lengths differ, or a value is not a valid vote.
        """
        if len(votes) != len(self.members):
            got = quoted(tensor.name for tensor in votes)
            raise InvalidInput(
                f"got {len(votes)} inputs: {got}; the ensemble expects one of votes per member: "
                f"{quoted(self.inputs)}"
            )
        named = [
            NamedTensor(name, tensor.values)
            for name, tensor in zip(self.inputs, votes, strict=True)
        ]
        # A single member has all the weight: the label is its vote, whatever the threshold.
        alone = [float(member == self.rule) for member in self.members]
        if any(alone):
            return voting.combine(named, alone, 1.0, self.encoding)
        weights = self.weights if self.rule == "weighted" else (1.0,) * len(named)
        return voting.combine(named, weights, self.threshold, self.encoding)


def json_config(config: Mapping[object, object]) -> dict[str, object]:
    """Convert a notebook's configuration to JSON values, without keys that are None."""
    return {str(key): _json(value) for key, value in config.items() if value is not None}


def _json(value: object) -> object:
    """Convert numpy's values to Python's, NaN and infinities to null, other objects to strings."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _json(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def problems_with_config(config: Mapping[str, object]) -> list[str]:
    """List every problem of a configuration as ``json_config`` returns it."""
    found = form_problems(ConfigForm, config)
    problems = [*_misspelt(config), *map(str, found.values())]
    methods, weights = config.get("methods"), config.get("weights")
    if isinstance(methods, list) and methods and (weights is None or isinstance(weights, list)):
        names = [name if isinstance(name, str) else "" for name in methods]
        problems += _problems_with_members(names, weights)
    is_valid = not any(place[0] == "weights" for place in found)
    if isinstance(weights, list) and is_valid and (problem := problem_with_weights(weights)):
        problems.append(f"weights: {problem}")
    return problems


def names_a_combination(best: object) -> bool:
    """Ask whether ``best_method`` is hard or weighted voting, in any spelling."""
    return isinstance(best, str) and _is_combination(best)


def _misspelt(config: Mapping[str, object]) -> list[str]:
    """List unknown keys that are similar to a known one; others are ignored."""
    found = []
    for key in config:
        near = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.8)
        if near and key not in KEYS and near[0] not in config:
            found.append(f"'{key}' is not a known key; did you mean '{near[0]}'?")
    return found


def _problems_with_members(methods: list[str], weights: list[object] | None) -> list[str]:
    if weights is not None and len(weights) > len(methods):
        return [f"weights has {len(weights)} entries for {len(methods)} methods"]
    members = _members(methods, weights)
    if not members and weights is None:
        return [f"methods is {methods!r}, which has combinations but no member"]
    problems = [
        f"methods[{index}] is '{name}', a combination, which must not have a weight"
        for index, name in enumerate(members)
        if _is_combination(name)
    ]
    inputs = [_snake_case(name) for name in members]
    for name in filter(None, dict.fromkeys(inputs)):
        if inputs.count(name) > 1:
            twins = [f"'{member}'" for member in members if _snake_case(member) == name]
            problems.append(f"methods {', '.join(twins)} have the same input name '{name}'")
    return problems


def _rule(best: object, members: Sequence[str]) -> str:
    wanted = _snake_case(str(best))
    if wanted in _HARD:
        return "hard"
    alone = [member for member in members if _snake_case(member) == wanted]
    return alone[0] if alone else "weighted"


def _members(methods: Sequence[str], weights: Sequence[object] | None) -> list[str]:
    """Return the methods that vote: those with a weight, else all but the combinations."""
    if weights is not None:
        return list(methods[: len(weights)])
    return [name for name in methods if not _is_combination(name)]


def _is_combination(name: str) -> bool:
    return _snake_case(name) in _HARD | _WEIGHTED
