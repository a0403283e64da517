"""Combining several detectors' votes to a label and a score, for ensembles and the op ``vote``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from bundleserver.errors import InvalidInput
from bundleserver.tensors import NamedTensor, datatype_of
from bundleserver.tensors.meaning import Meaning

Flags = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

THRESHOLD = 0.5
"""The default share of votes from which a row is an anomaly."""

TOLERANCE = 1e-9
"""A share this close below the threshold reaches it: sums of weights such as 0.3 are not exact."""


@dataclass(frozen=True)
class Encoding:
    """The two values of a vote and of a label."""

    anomaly: int
    normal: int

    @property
    def meaning(self) -> Meaning:
        """How votes and the label are to be read."""
        return Meaning(f"{self.anomaly} for an anomaly and {self.normal} for normal", True)

    def label(self, flags: Flags) -> Labels:
        """Encode flags (true is an anomaly)."""
        return np.where(flags, np.int64(self.anomaly), np.int64(self.normal))

    def flags(self, votes: NamedTensor) -> Flags:
        """Decode one member's votes, ``[n]``: true is an anomaly.

        Raises:
            InvalidInput: the tensor is not ``[n]``, is not numeric, or has any third value.
        """
        values = votes.values
        if values.ndim != 1:
            raise InvalidInput(
                f"input '{votes.name}' has shape {list(values.shape)}; expected votes [-1]"
            )
        if values.dtype.kind not in "biuf":
            raise InvalidInput(
                f"input '{votes.name}' has datatype {datatype_of(values)}; expected INT64"
            )
        flags: Flags = values == self.anomaly
        invalid = ~(flags | (values == self.normal))
        if invalid.any():
            row = int(np.argmax(invalid))
            raise InvalidInput(
                f"input '{votes.name}' has the vote {values[row]!s} in row {row}; expected "
                f"{self.anomaly} for an anomaly or {self.normal} for normal"
            )
        return flags


ENCODINGS: Mapping[str, Encoding] = MappingProxyType(
    {"anomaly": Encoding(anomaly=1, normal=0), "sklearn": Encoding(anomaly=-1, normal=1)}
)
"""The encodings by the value of ``votes`` in options and params."""


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
        encoding: the encoding of the votes and of the label.

    Returns:
        The label, INT64 ``[n]``, and the score, FP64 ``[n]``: the share of the weights that voted
        anomaly.

    Raises:
        InvalidInput: a value is not a valid vote, or the lengths differ.
    """
    flags = [encoding.flags(tensor) for tensor in votes]
    if len(set(map(len, flags))) > 1:
        lengths = ", ".join(f"'{tensor.name}' {len(tensor.values)}" for tensor in votes)
        raise InvalidInput(f"votes differ in length: {lengths}; expected one vote per row")
    score = _share(flags, weights)
    return encoding.label(score >= threshold - TOLERANCE), score


def _share(flags: Sequence[Flags], weights: Sequence[float]) -> Scores:
    """Sum the weights that voted, in the same order as all weights: unanimity is exactly 1."""
    voted = np.zeros(len(flags[0]), dtype=np.float64)
    total = 0.0  # not sum(), which since Python 3.12 rounds otherwise
    for flag, weight in zip(flags, weights, strict=True):
        voted += np.where(flag, float(weight), 0.0)
        total += float(weight)
    return voted / total
