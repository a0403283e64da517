"""How several detectors' votes become a label and a score, for ensembles and the op ``vote``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from bundleserver.errors import InvalidInput
from bundleserver.tensors import NamedTensor, datatype_of

Flags = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

THRESHOLD = 0.5
"""The share of votes from which a row is an anomaly, where nothing else is said."""

TOLERANCE = 1e-9
"""A share so little below the threshold reaches it: sums of weights such as 0.3 are not exact."""


@dataclass(frozen=True)
class Encoding:
    """The two numbers that a vote may be, and that a label is."""

    anomaly: int
    normal: int

    def label(self, flags: Flags) -> Labels:
        """Write flags (true is an anomaly) in this encoding."""
        return np.where(flags, np.int64(self.anomaly), np.int64(self.normal))

    def flags(self, votes: NamedTensor) -> Flags:
        """Read one member's votes, ``[n]``: true where it saw an anomaly.

        Raises:
            InvalidInput: the tensor is not ``[n]``, holds no numbers, or holds any third value.
        """
        values = votes.values
        if values.ndim != 1:
            raise InvalidInput(
                f"input '{votes.name}' has shape {list(values.shape)}; votes have shape [-1]"
            )
        if values.dtype.kind not in "biuf":
            raise InvalidInput(
                f"input '{votes.name}' has datatype {datatype_of(values)}; votes are INT64"
            )
        flags: Flags = values == self.anomaly
        foreign = ~(flags | (values == self.normal))
        if foreign.any():
            row = int(np.argmax(foreign))
            raise InvalidInput(
                f"input '{votes.name}' has the vote {values[row]!s} in row {row}; a vote is "
                f"{self.anomaly} for an anomaly and {self.normal} for normal"
            )
        return flags


ENCODINGS: Mapping[str, Encoding] = MappingProxyType(
    {"anomaly": Encoding(anomaly=1, normal=0), "sklearn": Encoding(anomaly=-1, normal=1)}
)
"""The encodings of a vote by the name that ``votes`` gives them in options and params."""


def combine(
    votes: Sequence[NamedTensor],
    weights: Sequence[float],
    threshold: float = THRESHOLD,
    encoding: Encoding = ENCODINGS["anomaly"],
) -> tuple[Labels, Scores]:
    """Combine the members' votes, ``[n]`` each, row by row.

    Args:
        votes: one tensor per member.
        weights: one per member, with a finite sum above 0; equal: hard voting.
        threshold: a row is an anomaly from this score on (within ``TOLERANCE``).
        encoding: what the votes mean; the label comes back in the same one.

    Returns:
        The label, INT64 ``[n]``, and the score, FP64 ``[n]``: the weights that voted anomaly by all
        weights.

    Raises:
        InvalidInput: a value is no vote, or the lengths differ.
    """
    flags = [encoding.flags(tensor) for tensor in votes]
    _check_lengths(votes)
    score = _share(flags, weights)
    return encoding.label(score >= threshold - TOLERANCE), score


def _check_lengths(votes: Sequence[NamedTensor]) -> None:
    if len({len(tensor.values) for tensor in votes}) > 1:
        lengths = ", ".join(f"'{tensor.name}' {len(tensor.values)}" for tensor in votes)
        raise InvalidInput(
            f"votes differ in length: {lengths}; every member votes on the same rows"
        )


def _share(flags: Sequence[Flags], weights: Sequence[float]) -> Scores:
    """Add up the weights that voted; all are added in the same order, so unanimity is exactly 1."""
    voted = np.zeros(len(flags[0]), dtype=np.float64)
    whole = 0.0
    for flag, weight in zip(flags, weights, strict=True):
        voted += np.where(flag, float(weight), 0.0)
        whole += float(weight)
    return voted / whole
