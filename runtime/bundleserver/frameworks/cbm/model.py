"""What a CatBoost file says of its model: features, trees, and the text that training left."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bundleserver.frameworks.cbm.flatbuffer import Buffer, Damaged, Numbers, Table

MAGIC = b"CBM1"
"""The first bytes of a file."""

FORMAT = "FlabuffersModel_v1"
"""The only format that the library has had; it spells it so."""

_SIZE = struct.Struct("<I")
_HEAD_BYTES = len(MAGIC) + _SIZE.size
_LONG = 0xFFFFFFFF

Kind = Literal["number", "category", "text", "embedding"]


@dataclass(frozen=True)
class Feature:
    """One column that the model knows.

    Attributes:
        kind: what its values are.
        index: its place among the columns of its kind.
        place: its place among all columns.
        name: its name; empty if there is none.
        is_used: whether the trees ask for it.
        bins: how many bounds its values are compared with (numbers only).
        missing: what a missing number is taken for: 0, 1 or 2.
    """

    kind: Kind
    index: int
    place: int
    name: str
    is_used: bool
    bins: int = 0
    missing: int = 0


@dataclass(frozen=True)
class Trees:
    """The trees as flat arrays, which the library follows without a check.

    Attributes:
        dimensions: how many numbers a leaf has.
        splits: the place of a bound among all bounds, for each split.
        sizes: how many splits each tree has, or nodes where it is not symmetric.
        starts: where each tree's splits begin.
        leaf_values: how many numbers all leaves have.
        leaf_weights: how many weights there are.
        steps: for each node, how far its left and its right child are, ``[n, 2]``; empty where
            trees are symmetric.
        leaves: for each node, where the values of its leaf begin.
        biases: how many biases are written.
        repacked: how many splits are written a second time, in another form.
    """

    dimensions: int
    splits: Numbers
    sizes: Numbers
    starts: Numbers
    leaf_values: int
    leaf_weights: int
    steps: Numbers
    leaves: Numbers
    biases: int
    repacked: int


@dataclass(frozen=True)
class Model:
    """A file's model, as it is written.

    Attributes:
        trees: its trees; None if there are none.
        features: its columns, of all kinds.
        one_hot: the category and the number of values of each of its one-hot columns.
        computed: how many bounds belong to columns that it computes: statistics of categories,
            and what is computed of texts and embeddings.
        info: what training left: parameters, labels and the like, mostly JSON.
        parts: the names of the parts that follow in the file.
        rest: how many bytes follow.
    """

    trees: Trees | None
    features: tuple[Feature, ...]
    one_hot: tuple[tuple[int, int], ...]
    computed: int
    info: Mapping[str, str]
    parts: tuple[str, ...]
    rest: int

    @property
    def width(self) -> int:
        """How many columns a table needs, at least."""
        return max((feature.place for feature in self.features), default=-1) + 1


def read_model(data: bytes) -> Model:
    """Read a file's content, bounded; nothing of the library is called.

    Raises:
        Damaged: it is not such a file, is cut, or is of another format.
    """
    if data[: len(MAGIC)] != MAGIC:
        raise Damaged("does not begin with 'CBM1'")
    if len(data) < _HEAD_BYTES:
        raise Damaged("ends in its first bytes")
    (size,) = _SIZE.unpack_from(data, len(MAGIC))
    if size == _LONG:
        raise Damaged("has 4 GiB or more of trees, which is not supported")
    core = data[_HEAD_BYTES : _HEAD_BYTES + size]
    if len(core) < size:
        raise Damaged(f"is cut: it says {size} bytes and has {len(core)} of them")
    top = Buffer(core).root()
    if (written := top.text(0)) != FORMAT:
        raise Damaged(f"has the format {written!r:.40}; expected '{FORMAT}'")
    trees = top.table(1)
    info = {entry.text(0) or "": entry.text(1) or "" for entry in top.tables(2)}
    parts = tuple(top.texts(3))
    rest = len(data) - _HEAD_BYTES - size
    if trees is None:
        return Model(None, (), (), 0, info, parts, rest)
    return Model(
        _trees(trees),
        tuple(_features(trees)),
        tuple((int(t.number(0, "<i", -1)), _one_hot_values(t)) for t in trees.tables(6)),
        _bounds(trees, 7, 1) + _bounds(trees, 13, 3),
        info,
        parts,
        rest,
    )


def _trees(table: Table) -> Trees:
    return Trees(
        dimensions=int(table.number(0, "<i", 0)),
        splits=table.array(1, "<i4"),
        sizes=table.array(2, "<i4"),
        starts=table.array(3, "<i4"),
        leaf_values=len(table.array(8, "<f8")),
        leaf_weights=len(table.array(9, "<f8")),
        steps=table.array(10, "<u2", 2),
        leaves=table.array(11, "<u4"),
        biases=len(table.array(16, "<f8")),
        repacked=len(table.array(17, "<u2", 2)),
    )


def _features(table: Table) -> Iterator[Feature]:
    for number in table.tables(5):
        bins = len(number.array(3, "<f4"))
        missing = int(number.number(5, "<b", 0))
        yield Feature(
            "number", *_position(number, 1), number.text(4) or "", bins > 0, bins, missing
        )
    kinds: tuple[tuple[Kind, int, int], ...] = (
        ("category", 4, 3), ("text", 12, 3), ("embedding", 18, 4),
    )  # fmt: skip
    for kind, slot, used in kinds:
        for other in table.tables(slot):
            is_used = bool(other.number(used, "<B", 1))
            yield Feature(kind, *_position(other, 0), other.text(2) or "", is_used)


def _position(table: Table, slot: int) -> tuple[int, int]:
    return int(table.number(slot, "<i", -1)), int(table.number(slot + 1, "<i", -1))


def _one_hot_values(table: Table) -> int:
    for _ in table.texts(2):  # they are bounded as they are read
        pass
    return len(table.array(1, "<i4"))


def _bounds(table: Table, slot: int, borders: int) -> int:
    """Count the bounds of computed columns."""
    return sum(len(column.array(borders, "<f4")) for column in table.tables(slot))


def is_ascending(values: Numbers, most: int) -> bool:
    """Ask whether integers ascend from 0 or more to below a number, none twice."""
    if values.size == 0:
        return True
    return bool(values[0] >= 0 and values[-1] < most and (np.diff(values) > 0).all())
