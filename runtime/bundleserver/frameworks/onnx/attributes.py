"""Attributes of operators in ONNX files: what is kept of them, and what onnxruntime believes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

from bundleserver.frameworks.onnx.wire import Malformed

LABELS = (
    "classlabels_strings",
    "classlabels_int64s",
    "classlabels_ints",
    "cats_strings",
    "keys_strings",
)
"""Attributes that list classes or categories."""

_COUNTS, _INDEXES = "ngram_counts", "ngram_indexes"

KEPT = frozenset({*LABELS, _COUNTS})
"""Attributes whose values are kept."""

MOST_KEPT = 100_000


class Attribute(NamedTuple):
    """How many strings or numbers an attribute lists, those that are kept, and integers' range."""

    length: int
    values: tuple[str | int, ...]
    least: int = 0
    most: int = 0


_NONE = Attribute(0, ())


def check_attributes(operator: str, attributes: Mapping[str, Attribute]) -> None:
    """Check the numbers that onnxruntime reads past, or ends the process for.

    Raises:
        Malformed: they contradict each other.
    """
    if operator == "TfIdfVectorizer":
        _check_ngrams(attributes)
    elif operator.startswith("TreeEnsemble"):
        _check_trees(operator, attributes)


def _check_ngrams(attributes: Mapping[str, Attribute]) -> None:
    """Compare the n-grams of a vocabulary, whose lengths follow from where each begins."""
    pool = max(attributes.get(n, _NONE).length for n in ("pool_strings", "pool_int64s"))
    begins = [value for value in attributes.get(_COUNTS, _NONE).values if isinstance(value, int)]
    sizes = [end - begin for begin, end in pairwise([*begins, pool])]
    is_whole = all(size >= 0 and size % n == 0 for n, size in enumerate(sizes, 1))
    if not begins or begins[0] < 0 or not is_whole:
        raise Malformed(
            f"a TfIdfVectorizer has {pool} words in its n-grams, which begin at {begins[:10]}; "
            "expected places in their order, with whole n-grams between them"
        )
    grams = sum(size // n for n, size in enumerate(sizes, 1))
    if grams != attributes.get(_INDEXES, _NONE).length:
        raise Malformed(
            f"a TfIdfVectorizer has {grams} n-grams; expected {_INDEXES} to have as many, not "
            f"{attributes.get(_INDEXES, _NONE).length}"
        )


def _check_trees(operator: str, attributes: Mapping[str, Attribute]) -> None:
    """Compare the lists that have an entry for each node, or for each weight of a leaf."""
    for prefix in ("nodes_", "class_", "target_"):
        lengths = {
            name: attribute.length
            for name, attribute in attributes.items()
            if name.startswith(prefix) and attribute.length
        }
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name} {length}" for name, length in sorted(lengths.items()))
            raise Malformed(f"a {operator} has lists of different lengths: {listed}")
        for name in lengths:
            least, most = attributes[name].least, attributes[name].most
            if least < -1 or most > _MOST_PLACE:
                raise Malformed(
                    f"a {operator} has {name} from {least} to {most}; expected places in lists"
                )
        lacking = [name for name in _LISTS[prefix] if lengths and name not in lengths]
        if lacking and operator != "TreeEnsemble":
            raise Malformed(f"a {operator} lacks the list {lacking[0]}")


_MOST_PLACE = (1 << 31) - 1

_LISTS = {
    "nodes_": (
        "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_modes", "nodes_truenodeids",
        "nodes_falsenodeids",
    ),
    "class_": ("class_treeids", "class_nodeids", "class_ids"),
    "target_": ("target_treeids", "target_nodeids", "target_ids"),
}  # fmt: skip
"""The lists that trees have; others may lack, or are tensors."""
