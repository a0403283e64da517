"""The states and items of objects: only what this load made gets any, and only checked ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import FunctionType, MemberDescriptorType, ModuleType
from typing import cast

from bundleserver.frameworks.pickles.gate.listing import BUILD, ITEMS, MAKE, NEW, own_names
from bundleserver.frameworks.pickles.gate.refusal import NotListed, Refused, kind_of
from bundleserver.frameworks.pickles.gate.rules import CHECKS, SETTERS
from bundleserver.frameworks.pickles.gate.session import Session


def build(session: Session, made: object, state: object) -> None:
    """Give an object its state.

    Raises:
        Refused: this load did not make it, or the state is not allowed.
    """
    if not session.ways_of(made) & {NEW, BUILD, MAKE}:
        if isinstance(made, (type, ModuleType, FunctionType)):
            raise Refused(f"it changes the {kind_of(made)} '{made.__name__}'")
        name = session.name_of(type(made))
        raise NotListed(name, BUILD, "with a state (or again, or of another's)")
    session.complete(made)
    names = own_names(type(made))
    for name in names:
        if setter := SETTERS.get(name):
            setter(session, made, state)
            return
    _check_keys(state)
    for name in names:
        if check := CHECKS.get(name):
            check(state)
    # Looked up as Python does for operators: what is in the object's own dict does not count.
    own: Callable[..., object] | None = getattr(type(made), "__setstate__", None)
    if own is not None:
        own(made, state)
    else:
        _set_attributes(made, state)


def add_items(session: Session, target: object, items: list[object]) -> None:
    """Put items into a set, or into a listed container of another kind.

    Raises:
        Refused: it is none, or this load did not make it.
    """
    if type(target) is set:
        target.update(items)
        return
    _check_container(session, target)
    if isinstance(target, set):
        set.update(target, items)
    elif isinstance(target, (list, deque)):
        target.extend(items)
    else:
        raise Refused(f"it appends items to a {kind_of(target)}")


def set_items(session: Session, target: object, pairs: Iterable[tuple[object, object]]) -> None:
    """Put items into a listed mapping.

    Raises:
        Refused: it is none, or this load did not make it.
    """
    _check_container(session, target)
    if not isinstance(target, dict):
        raise Refused(f"it sets items of a {kind_of(target)}")
    for key, value in pairs:
        target[key] = value


def _check_container(session: Session, target: object) -> None:
    if ITEMS not in session.ways_of(target):
        raise NotListed(session.name_of(type(target)), ITEMS, "with items")


def _check_keys(state: object) -> None:
    for part in state if type(state) is tuple else (state,):
        if isinstance(part, dict):
            for key, value in dict.items(part):
                is_special = type(key) is str and key.startswith("__") and key.endswith("__")
                # statsmodels keeps the text of a class's documentation in its results.
                if is_special and not (key == "__doc__" and type(value) in (str, type(None))):
                    raise Refused(f"it sets the attribute '{key}'")


def _set_attributes(made: object, state: object) -> None:
    state, slots = state if type(state) is tuple and len(state) == 2 else (state, None)
    attributes = dict(_named(state))
    if attributes:
        cast("dict[str, object]", object.__getattribute__(made, "__dict__")).update(attributes)
    for name, value in _named(slots):
        if not isinstance(getattr(type(made), name, None), MemberDescriptorType):
            raise Refused(f"it sets '{name}' of a {kind_of(made)}, which is no slot")
        object.__setattr__(made, name, value)


def _named(state: object) -> Iterator[tuple[str, object]]:
    if state is None:
        return
    if not isinstance(state, dict) or not all(type(key) is str for key in dict.keys(state)):
        raise Refused(f"an object's state is a {kind_of(state)}; expected a dict of attributes")
    yield from dict.items(state)
