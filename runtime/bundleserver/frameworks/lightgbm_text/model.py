"""A LightGBM text as a whole: its head, its trees, and the categories of its columns."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bundleserver.frameworks.lightgbm_text.numbers import Malformed, count_in, integers
from bundleserver.frameworks.lightgbm_text.trees import check_trees, fields_of

START = b"tree\n"
_VERSIONS = ("v3", "v4")
"""The formats of LightGBM 3 and 4."""

_KEPT = (
    *("version", "num_class", "num_tree_per_iteration", "label_index", "max_feature_idx"),
    *("objective", "average_output", "feature_names", "feature_infos", "tree_sizes"),
)
"""The lines of a head that predictions depend on."""

_END = b"end of trees"
_CATEGORIES = b"pandas_categorical:"
_CATEGORICAL_FEATURE = re.compile(rb"^\[categorical_feature: ([\d,]*)\]$", re.MULTILINE)
_WHOLE_RANGE = re.compile(r"\[\d{1,9}:(\d{1,9})\]")
_MADE_UP = "Column_"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_SEVERAL = frozenset({"multiclass", "multiclassova"})
_OBJECTIVES = _SEVERAL | {
    "binary", "cross_entropy", "cross_entropy_lambda", "fair", "gamma", "huber", "lambdarank",
    "mape", "poisson", "quantile", "rank_xendcg", "regression", "regression_l1", "tweedie",
}  # fmt: skip
_ARGUMENT = re.compile(r"sqrt|[a-z_]+:[-+.\deE]{1,30}")

Category = str | int | float | bool


@dataclass(frozen=True)
class ModelText:
    """A checked text.

    Attributes:
        text: what the library is given: nothing that was not checked.
        names: the features, with ``_`` in place of spaces.
        infos: what training saw of each: ``[0.5:2]``, the numbers of categories, or ``none``.
        objective: the name of the objective; empty for one of the user's own.
        classes: how many values a row's answer has.
        trees: how many there are.
        categories: the values of columns that were pandas' categories, by position.
        has_codes: some such columns are not known by position, and are the numbers of categories.
    """

    text: str
    names: tuple[str, ...]
    infos: tuple[str, ...]
    objective: str
    classes: int
    trees: int
    categories: Mapping[int, tuple[Category, ...]]
    has_codes: bool

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the features, unless LightGBM made them up."""
        made_up = tuple(f"{_MADE_UP}{place}" for place in range(len(self.names)))
        return () if self.names == made_up else self.names


def read_model(data: bytes) -> ModelText:
    """Take a text apart and check it.

    Raises:
        Malformed: it is not a whole text as LightGBM writes it.
    """
    if b"\r\n" in data[: len(START) + 1]:
        raise Malformed("has Windows line ends, so that its sizes are wrong; copy it as binary")
    if not data.startswith(START):
        raise Malformed(f"does not begin with the line 'tree'; it begins with {data[:20]!r}")
    first = data.find(b"\n\nTree=")
    if first < 0 and b"\ntree_sizes=\n" in data:
        raise Malformed("has no trees, so it was not trained")
    if first < 0:
        raise Malformed("ends before its trees")
    head = _head_of(data[len(START) : first])
    names = _words(head, "feature_names")
    width = count_in(head.get("max_feature_idx", ""), "max_feature_idx") + 1
    infos = _words(head, "feature_infos")
    if len(names) != width or len(infos) != width:
        raise Malformed(
            f"has {len(names)} names and {len(infos)} ranges of features; expected {width}, as "
            "'max_feature_idx' says"
        )
    if len(set(names)) < width:
        raise Malformed("has a name in 'feature_names' more than once")
    classes, objective = _classes_of(head)
    sizes = integers(head.get("tree_sizes", "").encode(), "tree_sizes").tolist()
    trees, rest = _trees_of(data, first + 2, sizes)
    if not sizes or len(sizes) % classes:
        raise Malformed(f"has {len(sizes)} trees for {classes} classes")
    check_trees([fields_of(section, number) for number, section in enumerate(trees)], width)
    recorded = _recorded_categories(rest)
    categories = _by_position(recorded, rest, infos)
    kept = [f"{key}={head[key]}" if head[key] else key for key in _KEPT if key in head]
    text = "\n".join(["tree", *kept, "", b"".join(trees).decode() + _END.decode(), ""])
    return ModelText(
        text=text,
        names=names,
        infos=infos,
        objective=objective,
        classes=classes,
        trees=len(sizes),
        categories=categories,
        has_codes=len(categories) < len(recorded),
    )


def width_in(head: bytes) -> int | None:
    """Return the number of features that the first lines of a text say; None if they do not."""
    found = re.search(rb"^max_feature_idx=(\d{1,9})$", head, re.MULTILINE)
    return int(found[1]) + 1 if found else None


def _head_of(data: bytes) -> Mapping[str, str]:
    """Parse the lines before the trees."""
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError as error:
        raise Malformed("has names that are not UTF-8") from error
    pairs = [line.partition("=") for line in lines]
    head = {key: value for key, _, value in pairs}
    version = head.get("version", "")
    if re.fullmatch(r"v\d{1,3}", version) and int(version[1:]) > int(_VERSIONS[-1][1:]):
        raise Malformed(
            f"is of the format '{version}' of a later LightGBM; expected {' or '.join(_VERSIONS)}: "
            "save it with LightGBM 4"
        )
    if version not in _VERSIONS:
        raise Malformed(
            f"has the format '{version[:20]}'; expected {' or '.join(_VERSIONS)}: load and save it "
            "with LightGBM 3 or 4"
        )
    if len(head) < len(pairs):
        raise Malformed("has a line more than once before its trees")
    if any(map(_CONTROL.search, lines)):
        raise Malformed("has control characters before its trees")
    return head


def _words(head: Mapping[str, str], key: str) -> tuple[str, ...]:
    words = tuple(head.get(key, "").split(" "))
    if not all(words):
        raise Malformed(f"has no '{key}', or an empty one among them")
    return words


def _classes_of(head: Mapping[str, str]) -> tuple[int, str]:
    """Return how many values an answer has, and the objective."""
    classes = count_in(head.get("num_class", ""), "num_class", 1)
    trees = count_in(head.get("num_tree_per_iteration", ""), "num_tree_per_iteration", 1)
    count_in(head.get("label_index", ""), "label_index")
    objective, *arguments = head.get("objective", "").split(" ")
    if "objective" in head and (
        objective not in _OBJECTIVES or not all(map(_ARGUMENT.fullmatch, arguments))
    ):
        raise Malformed(f"has the unknown objective '{head['objective'][:60]}'")
    said = next((word[10:] for word in arguments if word.startswith("num_class:")), "1")
    if trees != classes or (objective and said != str(classes)):
        raise Malformed("has a number of classes that its objective or its trees do not have")
    return classes, objective


def _trees_of(data: bytes, start: int, sizes: Sequence[int]) -> tuple[list[bytes], bytes]:
    """Cut the text of each tree out; return what follows the last one, too."""
    sections = []
    for size in sizes:
        if size <= 0:
            raise Malformed("has a tree of no size")
        sections.append(data[start : start + size])
        start += size
        if start > len(data):
            raise Malformed(f"is truncated: it ends in tree {len(sections) - 1} of {len(sizes)}")
        if not sections[-1].endswith(b"\n\n"):
            raise Malformed(f"has a tree {len(sections) - 1} that does not end where its size says")
    if not data.startswith(_END, start):
        raise Malformed("has no line 'end of trees' after its last tree")
    return sections, data[start:]


def _recorded_categories(rest: bytes) -> list[list[Category]]:
    """Read the values of pandas' categories, of each column in its order; none if it has none."""
    start = rest.rfind(b"\n" + _CATEGORIES)
    if start < 0:
        return []
    try:
        said = json.loads(rest[start + 1 + len(_CATEGORIES) :])
    except (ValueError, RecursionError) as error:
        raise Malformed("has categories of pandas that are not valid JSON") from error
    if said is None:
        return []
    if type(said) is not list or not all(map(_are_categories, said)):
        raise Malformed("has categories of pandas that are not lists of different values")
    return said


def _are_categories(values: object) -> bool:
    return (
        type(values) is list
        and all(type(value) in (str, int, float, bool) for value in values)
        and len(set(values)) == len(values)
    )


def _by_position(
    recorded: Sequence[Sequence[Category]], rest: bytes, infos: Sequence[str]
) -> Mapping[int, tuple[Category, ...]]:
    """Say of which columns the recorded categories are; nothing if the text does not tell.

    Columns of ordered categories are not among the ones that it names. They are known where no
    others have ranges that numbers of categories can have.
    """
    said = _CATEGORICAL_FEATURE.search(rest)
    named = {int(word) for word in said[1].split(b",") if word} if said else set()
    if len(recorded) > len(named):
        most = max(map(len, recorded))
        named |= {place for place, info in enumerate(infos) if _may_be_numbers(info, most)}
    if len(named) != len(recorded) or not named <= set(range(len(infos))):
        return {}
    found = dict(zip(sorted(named), map(tuple, recorded), strict=True))
    is_sound = all(_may_be_of(values, infos[place]) for place, values in found.items())
    return found if is_sound else {}


def _may_be_numbers(info: str, most: int) -> bool:
    """Ask whether a column without a list of categories may be that of ordered ones."""
    found = _WHOLE_RANGE.fullmatch(info)
    return info == "none" or (found is not None and int(found[1]) < most)


def _may_be_of(values: Sequence[object], info: str) -> bool:
    """Ask whether all numbers of categories that training saw are those of recorded values."""
    found = _WHOLE_RANGE.fullmatch(info)
    codes = [found[1]] if found else [code for code in info.split(":") if code.isdecimal()]
    is_whole = found is not None or info[:1] != "["
    return is_whole and all(int(code) < len(values) for code in codes)
