"""What a pickle or joblib file holds, told from its scan: little enough to be kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path

from bundleserver.frameworks.interface import reading
from bundleserver.frameworks.pickles.made import ClassName, Items, Made, class_of
from bundleserver.frameworks.pickles.scan import inspect_pickle

_MOST_KEYS = 1000
_MOST_PARTS = 50
_DEEPEST = 5
_MOST_AT_ALL = 10_000

_PLAIN_MODULES = frozenset(
    {
        "_codecs", "array", "builtins", "collections", "copyreg", "datetime", "dateutil", "decimal",
        "fractions", "joblib", "numpy", "pandas", "pathlib", "pyarrow", "pytz", "types", "uuid",
        "zoneinfo",
    }
)  # fmt: skip
_PLAIN_PACKAGES = ("scipy.sparse", "sklearn.utils._bunch", "torch._utils", "torch.storage")


@dataclass(frozen=True)
class Held:
    """The object at the top of a pickle, without its values.

    Attributes:
        made_by: its class; None if the file is not a pickle, or is damaged before its class.
        is_plain: it has only containers, numbers, strings, dates, arrays and tables.
        named: the classes and functions that the pickle names.
        keys: the keys of a dict that are strings, up to a thousand.
        numbers: its attributes that are integers.
        lengths: the length of its attributes that are dicts.
        parts: the steps of a pipeline, the estimator that a search found, or a dict's values that
            are dicts.
        sklearn_versions: those of scikit-learn that wrote its objects, for the whole file.
    """

    made_by: ClassName | None
    is_plain: bool = False
    named: frozenset[ClassName] = frozenset()
    keys: frozenset[str] = frozenset()
    numbers: Mapping[str, int] = field(default_factory=dict)
    lengths: Mapping[str, int] = field(default_factory=dict)
    parts: tuple[Held, ...] = ()
    sklearn_versions: frozenset[str] = frozenset()

    @property
    def what(self) -> str:
        """Its class for messages: ``a StandardScaler``, ``a pandas DataFrame``, ``a list``."""
        if self.made_by is None:
            return "not a pickle, or damaged"
        module, name = self.made_by
        package = module.partition(".")[0]
        short = name.rpartition(".")[2]
        is_known = package in ("builtins", "collections", "sklearn")
        return with_article(short if is_known else f"{package} {short}")


def with_article(noun: str) -> str:
    """Put ``a`` or ``an`` before a noun."""
    return f"{'an' if noun[:1].lower() in 'aeio' else 'a'} {noun}"


def held_in(path: Path) -> Held:
    """Return what a pickle or joblib file holds, without running anything.

    Raises:
        LoadError: the file cannot be read.
    """
    with reading(path):
        status = path.stat()
    return _held_in(path, (status.st_ino, status.st_mtime_ns, status.st_size))


def top_class(path: Path) -> ClassName | None:
    """Return the class of the object in a pickle or joblib file, without running anything.

    A list or dict at the top is ``builtins.list`` and so on. ``None``: the file is not a pickle, or
    is damaged before its class.

    Raises:
        LoadError: the file cannot be read.
    """
    return held_in(path).made_by


def top_package(path: Path) -> str:
    """Return the top-level package of a pickle's :func:`top_class`; empty when that is None."""
    held = top_class(path)
    return held.module.partition(".")[0] if held is not None else ""


@lru_cache(maxsize=16)
def _held_in(path: Path, which: tuple[int, ...]) -> Held:
    """Read each file once, however many frameworks ask; ``which`` identifies its content."""
    contents = inspect_pickle(path)
    made_by = class_of(contents.top)
    # A damaged file is an error, whatever it may have been.
    is_plain = (
        contents.failure is None
        and made_by is not None
        and all(map(_is_plain, (made_by, *contents.named)))
    )
    left = [_MOST_AT_ALL]
    held = _outline(contents.top, made_by, left, is_plain=is_plain, named=contents.named)
    return replace(held, sklearn_versions=contents.sklearn_versions)


def _is_plain(name: ClassName) -> bool:
    if name.module == "torch":
        return name.qualname.endswith("Storage")
    package = name.module.partition(".")[0]
    return package in _PLAIN_MODULES or name.module.startswith(_PLAIN_PACKAGES)


def _outline(
    top: object,
    made_by: ClassName | None,
    left: list[int],
    *,
    is_plain: bool = False,
    named: frozenset[ClassName] = frozenset(),
    deep: int = 0,
) -> Held:
    """Describe an object and its parts, while so many names and parts are ``left``."""
    items = _first(_items(top))
    state = _first(top.state) if isinstance(top, Made) and isinstance(top.state, Items) else {}
    may = max(0, min(_MOST_PARTS, left[0])) if deep < _DEEPEST else 0
    parts = [*islice(_parts(items, state), may)]
    left[0] -= len(parts) + len(items) + len(state)
    return Held(
        made_by,
        is_plain,
        named,
        keys=frozenset(items),
        numbers={key: value for key, value in state.items() if type(value) is int},
        lengths={key: value.length for key, value in state.items() if isinstance(value, Items)},
        parts=tuple(_outline(part, class_of(part), left, deep=deep + 1) for part in parts),
    )


def _first(items: Mapping[object, object]) -> dict[str, object]:
    """Return the first items under a string, of so many."""
    named = ((key, value) for key, value in items.items() if isinstance(key, str))
    return dict(islice(named, _MOST_KEYS))


def _parts(items: Mapping[str, object], state: Mapping[str, object]) -> Iterator[object]:
    """Yield what an estimator delegates to, or the dicts in a dict."""
    if "best_estimator_" in state:
        yield state["best_estimator_"]
        return
    steps = state.get("steps")
    for step in steps if isinstance(steps, list) else ():
        if isinstance(step, (tuple, list)) and len(step) == 2:
            yield step[1]
    for value in items.values():
        if _items(value):
            yield value


def _items(value: object) -> Mapping[object, object]:
    """Return the items of a dict, or of one of another class."""
    found = value.items if isinstance(value, Made) else value
    return found if isinstance(found, Items) else {}
