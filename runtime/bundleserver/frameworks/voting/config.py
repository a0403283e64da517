"""What an ensemble's configuration says: who votes, and which rule combines the votes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from bundleserver.errors import InvalidInput
from bundleserver.operations import voting
from bundleserver.tensors import NamedTensor

Config = Mapping[str, object]

KEYS = ("methods", "weights", "threshold", "best_method", "performance")
"""The keys that mean something; a notebook may keep others as notes."""

_HARD = frozenset(
    {"hard", "hard_vote", "hard_voting", "majority", "majority_vote", "majority_voting"}
)
_WEIGHTED = frozenset(
    {"weighted", "weighted_vote", "weighted_voting", "weighted_average", "weighted_majority"}
)


@dataclass(frozen=True)
class Ensemble:
    """What a configuration says: who votes, with what weight, and how the votes are combined.

    ``rule`` is ``hard``, ``weighted``, or the name of the one member that decides alone.
    """

    members: tuple[str, ...]
    weights: tuple[float, ...]
    threshold: float
    rule: str
    encoding: voting.Encoding

    @classmethod
    def from_config(cls, config: Config, encoding: voting.Encoding) -> Ensemble:
        """Read a dict in which ``problems_with_config`` found none."""
        methods = cast("list[str]", config["methods"])
        weights = cast("list[float] | None", config.get("weights"))
        members = _members(methods, weights)
        return cls(
            tuple(members),
            tuple(float(weight) for weight in weights or [1.0] * len(members)),
            float(cast(float, config.get("threshold", voting.THRESHOLD))),
            _rule(config.get("best_method"), members),
            encoding,
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The members' names as inputs have them: ``Isolation Forest`` → ``isolation_forest``."""
        return tuple(_snake_case(member) for member in self.members)

    def decide(self, votes: Sequence[NamedTensor]) -> tuple[voting.Labels, voting.Scores]:
        """Combine one tensor of votes per member, ``[n]`` each, into label and score.

        Raises:
            InvalidInput: their number or lengths differ, or a value is no vote.
        """
        if len(votes) != len(self.members):
            came = ", ".join(f"'{tensor.name}'" for tensor in votes) or "none"
            raise InvalidInput(
                f"{len(votes)} inputs came: {came}; the ensemble takes one of votes per member: "
                f"{', '.join(self.inputs)}"
            )
        named = [
            NamedTensor(name, tensor.values)
            for name, tensor in zip(self.inputs, votes, strict=True)
        ]
        # One member alone has all the weight: the label is its vote, whatever the threshold.
        alone = [float(member == self.rule) for member in self.members]
        if any(alone):
            return voting.combine(named, alone, 1.0, self.encoding)
        weights = self.weights if self.rule == "weighted" else (1.0,) * len(named)
        return voting.combine(named, weights, self.threshold, self.encoding)


def plain(value: object) -> object:
    """Turn numpy's arrays and numbers, inside lists and dicts too, into Python's own."""
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist()) if isinstance(value, np.ndarray) else value.item()
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return value


def problems_with_config(config: Config) -> list[str]:
    """List everything that is wrong with a configuration's dict."""
    methods, weights = config.get("methods"), config.get("weights")
    problems = [*_misspelt(config), *_problems_with_methods(methods)]
    if isinstance(methods, list) and methods and (weights is None or isinstance(weights, list)):
        names = [name if isinstance(name, str) else "" for name in methods]
        problems += _problems_with_members(names, weights)
    if weights is not None:
        problems += voting.problems_with_weights(weights)
    problems += voting.problems_with_threshold(config.get("threshold", voting.THRESHOLD))
    best = config.get("best_method")
    if best is not None and not isinstance(best, str):
        problems.append(f"best_method is {best!r}; expected a name")
    return problems


def names_a_combination(best: object) -> bool:
    """Ask whether ``best_method`` is hard or weighted voting, in any of their spellings."""
    return isinstance(best, str) and _is_combination(best)


def _misspelt(config: Config) -> list[str]:
    """List unknown keys that look like a known one; others are the notebook's own notes."""
    found = []
    for key in config:
        near = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.8)
        if near and key not in KEYS and near[0] not in config:
            found.append(f"'{key}' is unknown; did you mean '{near[0]}'?")
    return found


def _problems_with_methods(methods: object) -> list[str]:
    if methods is None:
        return ["methods is missing; expected the list of the members' names"]
    if not isinstance(methods, list) or not methods:
        return [f"methods is {methods!r}; expected a list of the members' names"]
    return [
        f"methods[{index}] is {name!r}; expected a name with a letter or digit"
        for index, name in enumerate(methods)
        if not isinstance(name, str) or not _snake_case(name)
    ]


def _problems_with_members(methods: list[str], weights: list[object] | None) -> list[str]:
    if weights is not None and len(weights) > len(methods):
        return [f"weights has {len(weights)} entries for {len(methods)} methods"]
    members = _members(methods, weights)
    if not members and weights is None:
        return [f"methods is {methods!r}, which names combinations and no member"]
    problems = [
        f"methods[{index}] is '{name}', a combination, but weights has an entry for it"
        for index, name in enumerate(members)
        if _is_combination(name)
    ]
    inputs = [_snake_case(name) for name in members]
    for name in filter(None, dict.fromkeys(inputs)):
        if inputs.count(name) > 1:
            twins = [f"'{member}'" for member in members if _snake_case(member) == name]
            problems.append(f"methods {', '.join(twins)} make one input name, '{name}'")
    return problems


def _rule(best: object, members: Sequence[str]) -> str:
    wanted = _snake_case(str(best))
    if wanted in _HARD:
        return "hard"
    alone = [member for member in members if _snake_case(member) == wanted]
    return alone[0] if alone else "weighted"


def _members(methods: Sequence[str], weights: Sequence[object] | None) -> list[str]:
    """Return the methods that vote: the first with a weight each, else all but the combinations."""
    if weights is not None:
        return list(methods[: len(weights)])
    return [name for name in methods if not _is_combination(name)]


def _is_combination(name: str) -> bool:
    return _snake_case(name) in _HARD | _WEIGHTED


def _snake_case(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
