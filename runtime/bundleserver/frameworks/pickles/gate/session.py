"""One load: the names that it resolved, and the objects that it made."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import cast

from bundleserver.frameworks.imports.lean import IMPORTING
from bundleserver.frameworks.pickles.gate.listing import (
    ANY_WAY,
    NEW,
    REAL_MODULES,
    VALUE,
    own_names,
    package_of,
    why_never,
)
from bundleserver.frameworks.pickles.gate.refusal import NotListed, Refused, kind_of
from bundleserver.frameworks.trust import CodeTrust

NO_WAYS: frozenset[str] = frozenset()


@dataclass(eq=False, repr=False, slots=True)
class Reference:
    """What a pickle named; nobody can call this, and it is part of no object.

    Attributes:
        name: the name, as the pickle says it.
        ways: how it may be used.
        real: the class or function; None where a form stands for it.
        form: the checked function in its place.
    """

    name: str
    ways: frozenset[str]
    real: object = None
    form: Form | None = None


Form = Callable[["Session", tuple[object, ...]], object]
"""A checked function in place of one that could do too much."""

Rule = Callable[["Session", object], None]
"""Checks a finished object, and may give it copies of what it must not share."""


class Session:
    """What one load, with the pickles inside of its pickle, has resolved and made.

    Args:
        trust: what the operator allows.
        forms: the checked functions by the names for which they stand.
        stand_ins: classes and functions in place of others, with their ways, by the names of those.
        listed: the ways of our own names.
        rules: checks of finished objects, by the names of their classes, or of their packages.
        held: classes whose objects get their state before they become part of anything.
        form_values: names with a form that may be part of an object too.
    """

    def __init__(
        self,
        trust: CodeTrust,
        forms: Mapping[str, Form],
        stand_ins: Mapping[str, tuple[object, frozenset[str]]],
        listed: Mapping[str, frozenset[str]],
        rules: Mapping[str, Rule],
        held: frozenset[str] = NO_WAYS,
        form_values: frozenset[str] = NO_WAYS,
    ) -> None:
        self._trust = trust
        self._forms = forms
        self._stand_ins = stand_ins
        self._listed = listed
        self._rules = rules
        self._held = held
        self._form_values = form_values
        self._found: dict[str, Reference] = {}
        self._values: dict[int, Reference] = {}
        self._fresh: dict[int, tuple[object, frozenset[str]]] = {}
        self._audits: list[tuple[Rule, object]] = []
        # Arrays and the like, which become part of nothing before they have their values.
        self.pending: dict[int, object] = {}

    def find(self, module: str, name: str) -> object:
        """Return what a pickle names: the thing itself if it may be a value, else a reference.

        Raises:
            NotListed: it is in no list.
            Refused: its module does not have it.
        """
        full = f"{module}.{name}"
        found = self._found.get(full)
        if found is None:
            found = self._found[full] = self._resolve(full, module, name)
            if VALUE in found.ways:
                self._values[id(found.real)] = found
        return found.real if VALUE in found.ways else found

    def reference_to(self, value: object) -> Reference | None:
        """Return the reference to what the pickle named, or None for anything else."""
        if type(value) is Reference:
            return value
        found = self._values.get(id(value))
        return found if found is not None and found.real is value else None

    def class_of(self, value: object) -> Reference:
        """Return the reference to a class of which the pickle may make new instances.

        Raises:
            Refused: it is none.
        """
        found = self.reference_to(value)
        if found is None or NEW not in found.ways or not isinstance(found.real, type):
            if found is not None and isinstance(found.real, type):
                raise NotListed(found.name, NEW, "to make an instance")
            raise Refused(f"it makes an instance of a {kind_of(value)}, which is no listed class")
        return found

    def new(
        self, of: Reference, args: tuple[object, ...], keywords: Mapping[str, object]
    ) -> object:
        """Make a new instance of a listed class, which may get items and a state."""
        kind = cast(type, of.real)
        made = cast("Callable[..., object]", kind.__new__)(kind, *args, **keywords)
        if type(made) is kind:
            self.note(made, of.ways)
            self.hold_if_known(made)
        self.watch(made)
        return made

    def note(self, made: object, ways: frozenset[str]) -> None:
        """Remember that an object was made by this load, and may get a state or items.

        Asked with a new object that only the caller has: what others have too is not new.
        """
        if sys.getrefcount(made) <= _MOST_OWNERS:
            self._fresh[id(made)] = (made, ways)

    def hold(self, made: object, ways: frozenset[str]) -> None:
        """Remember a new object that gets its state before it becomes part of anything.

        Whoever has read an array's length, or its datatype, would not learn that it changes.
        """
        self._fresh[id(made)] = (made, ways)
        self.pending[id(made)] = made

    def hold_if_known(self, made: object) -> None:
        """Hold a new object of a class that is always held."""
        if self._held & {*own_names(type(made))} and self.ways_of(made):
            self.pending[id(made)] = made

    def watch(self, made: object) -> None:
        """Check an object at the end of the load, if there is a rule for its class."""
        names = own_names(type(made))
        for name in (package_of(names[0]), *names):
            if rule := self._rules.get(name):
                self._audits.append((rule, made))

    def ways_of(self, made: object) -> frozenset[str]:
        """Return what may still be done to an object that this load has made."""
        found = self._fresh.get(id(made))
        return found[1] if found is not None and found[0] is made else NO_WAYS

    def complete(self, made: object) -> None:
        """Remember that an object has its state: it gets no other."""
        self._fresh.pop(id(made), None)
        self.pending.pop(id(made), None)

    def audit(self) -> None:
        """Check objects as they are, once the whole pickle was followed.

        Raises:
            Refused: one is not as its rule says.
        """
        for check, made in self._audits:
            check(self, made)

    def is_of_operator(self, kind: type) -> bool:
        """Ask whether an operator listed a class, which is trusted like installed code then."""
        name = own_names(kind)[0]
        if name in self._trust.allowed:
            return True
        return any(
            ref.real is kind and ref.name in self._trust.allowed for ref in self._found.values()
        )

    def name_of(self, kind: type) -> str:
        """Return what the pickle called a class, or what it calls itself."""
        found = next((ref.name for ref in self._found.values() if ref.real is kind), None)
        return found or f"{kind.__module__}.{kind.__qualname__}"

    def _resolve(self, full: str, module: str, name: str) -> Reference:
        if form := self._forms.get(full):
            is_value = full in self._form_values
            real = _imported(module, name, full) if is_value else None
            return Reference(full, frozenset({VALUE}) if is_value else NO_WAYS, real, form)
        if full in self._stand_ins:
            real, ways = self._stand_ins[full]
            return Reference(full, ways, real)
        ways = self._listed.get(full, NO_WAYS)
        if full in self._trust.allowed and not why_never(full):
            ways |= ANY_WAY
        if not ways:
            raise NotListed(full)
        found = _imported(module, name, full)
        # Under another name it is still the function that has a form.
        if form := next(filter(None, map(self._forms.get, _own_names(found))), None):
            return Reference(full, NO_WAYS, form=form)
        return Reference(full, ways, found)


# The caller's name, the parameter of `note`, and the argument of getrefcount.
_MOST_OWNERS = 3


def _imported(module: str, name: str, full: str) -> object:
    """Import a listed name; classes may be inside of classes, nothing is found inside of else."""
    with IMPORTING:
        found: object = import_module(REAL_MODULES.get(module, module))
    for depth, part in enumerate(name.split(".")):
        if depth and not isinstance(found, type):
            raise Refused(f"'{full}' is inside of what is no class")
        found = getattr(found, part)
    if isinstance(found, ModuleType):
        raise Refused(f"'{full}' is a module; expected a class or a function")
    return found


def _own_names(real: object) -> Iterator[str]:
    qualname = getattr(real, "__qualname__", None)
    if isinstance(qualname, str):
        yield f"{getattr(real, '__module__', '')}.{qualname}"
