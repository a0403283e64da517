"""What a scan makes in place of objects: records of what a pickle would make, which do nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from bundleserver.frameworks.pickles.bounded import OverLimit, checked_key

MOST_ITEMS = 1_000
"""The items of one container that are kept; of a vocabulary nobody asks for more."""

_DEEPEST_MAKER = 100
_MOST_NAMES = 10_000
_MOST_CHARACTERS = 1 << 18
_MOST_ATTRIBUTES = 20_000
_MOST_VERSIONS = 100

NOTHING = object()
"""In place of the object of a pickle that has none."""


class ClassName(NamedTuple):
    """A class or function as a pickle names it."""

    module: str
    qualname: str

    def __str__(self) -> str:
        return f"{self.module}.{self.qualname}"


class Items(dict[object, object]):
    """The first items of a dict.

    Attributes:
        left_out: how many more it has.
    """

    __slots__ = ("left_out",)

    def __init__(self) -> None:
        super().__init__()
        self.left_out = 0

    @property
    def length(self) -> int:
        """How many it has."""
        return len(self) + self.left_out

    def add(self, pairs: list[object]) -> None:
        """Add keys, each followed by its value; further ones are only counted."""
        keys = list(map(checked_key, pairs[::2]))
        room = max(0, MOST_ITEMS - len(self))
        self.update(zip(keys[:room], pairs[1::2], strict=False))
        self.left_out += max(0, len(keys) - room)

    def forget(self) -> None:
        """Keep none of the items."""
        self.left_out += len(self)
        self.clear()


@dataclass(eq=False, repr=False, slots=True)
class Made:
    """An object that a pickle would make: its class or function, its arguments and its state."""

    maker: object
    args: tuple[object, ...] = ()
    state: object = None
    items: Items | None = None

    def extend(self, items: Iterable[object]) -> None:
        """Ignore appended items (pickle prefers this to ``append``)."""

    def append(self, item: object) -> None:
        """Ignore an appended item."""

    def add(self, pairs: list[object]) -> None:
        """Keep the first items of a dict of another class, such as an OrderedDict."""
        self.items = Items() if self.items is None else self.items
        self.items.add(pairs)


_REBUILDERS: Mapping[str, ClassName | None] = {
    "copyreg._reconstructor": None,
    "copyreg.__newobj__": None,
    "copyreg.__newobj_ex__": None,
    "numpy.core.multiarray._reconstruct": None,
    "numpy._core.multiarray._reconstruct": None,
    "numpy.core.numeric._frombuffer": ClassName("numpy", "ndarray"),
    "numpy._core.numeric._frombuffer": ClassName("numpy", "ndarray"),
}
"""Functions that make objects of another class: the named one, or that of their first argument."""


@dataclass
class Found:
    """What a scan has found so far.

    Attributes:
        named: the classes and functions, in their order.
        versions: those of scikit-learn that wrote its objects.
        attributes: the names of attributes, and the parts of the names of classes.
        unnamed: why ``named`` cannot be all that it names; empty if it is.
    """

    named: dict[ClassName, None] = field(default_factory=dict)
    versions: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    unnamed: str = ""
    _characters: int = 0

    def name(self, module: str, qualname: str) -> ClassName:
        """Add a class or function.

        Raises:
            OverLimit: there are too many, or their names are too long.
        """
        found = ClassName(module, qualname)
        if found not in self.named:
            self.named[found] = None
            self._characters += len(module) + len(qualname)
            if len(self.named) > _MOST_NAMES or self._characters > _MOST_CHARACTERS:
                raise OverLimit(
                    f"more than {_MOST_NAMES} names of classes and functions, or than "
                    f"{_MOST_CHARACTERS} characters of them"
                )
        return found

    def note_attributes(self, state: Items) -> None:
        """Add the names of an object's attributes, and the version that wrote it.

        Raises:
            OverLimit: there are too many versions.
        """
        if len(self.attributes) < _MOST_ATTRIBUTES:
            some = islice(state, _MOST_ATTRIBUTES)
            self.attributes.update(key for key in some if isinstance(key, str))
        version = state.get("_sklearn_version")
        if isinstance(version, str):
            self.attributes.add(version)
            self.versions.add(version)
            if len(self.versions) > _MOST_VERSIONS:
                raise OverLimit(f"more than {_MOST_VERSIONS} versions of scikit-learn")


def class_of(value: object) -> ClassName | None:
    """Return the class of a value in a pickle; a class or function is itself."""
    for _ in range(_DEEPEST_MAKER):
        if value is NOTHING:
            return None
        if isinstance(value, ClassName):
            return value
        if not isinstance(value, Made):
            kind = "dict" if isinstance(value, Items) else type(value).__name__
            return ClassName("builtins", kind)
        maker = value.maker
        if maker is None:
            return None
        if isinstance(maker, ClassName) and value.args and str(maker) in _REBUILDERS:
            maker = _REBUILDERS[str(maker)] or value.args[0]
        value = maker
    return None
