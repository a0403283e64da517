"""What a real unpickling does with each name: made anew, called, given a state or items, kept."""

from __future__ import annotations

import io
import pickle
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, ClassVar

from bundleserver.frameworks.pickles.gate.forms import FORMS, STAND_INS
from bundleserver.frameworks.pickles.gate.listing import BUILD, CALL, ITEMS, MAKE, NEW, VALUE

Uses = dict[str, set[str]]
"""The ways in which each name was used."""

_NAMES: Any = pickle._compat_pickle.NAME_MAPPING
_MODULES: Any = pickle._compat_pickle.IMPORT_MAPPING

# What the forms of the gate take as their first argument: a class to make, or any listed class.
_FIRST_IS_MADE = {
    "copyreg._reconstructor",
    "pandas.core.indexes.base._new_Index",
    "pandas.core.indexes.datetimes._new_DatetimeIndex",
    "pandas.core.indexes.interval._new_IntervalIndex",
    "copyreg.__newobj__",
    "copyreg.__newobj_ex__",
    "numpy.random._pickle.__bit_generator_ctor",
}
_FIRST_IS_OWNER = {"builtins.getattr"}


def uses_of(model: object, protocols: Iterable[int] = range(6)) -> Uses:
    """Save a model in protocols of pickle, open it for real, and return what was used how."""
    found: Uses = defaultdict(set)
    for protocol in protocols:
        recorder = Recorder(io.BytesIO(pickle.dumps(model, protocol)))
        recorder.load()
        for name, ways in recorder.uses.items():
            found[name] |= ways
    return {name: ways for name, ways in found.items() if name not in {*FORMS, *STAND_INS}}


class Recorder(pickle._Unpickler):  # type: ignore[misc,name-defined]  # typeshed has few methods
    """Python's own unpickler, that notes the use of each name."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self.uses: Uses = defaultdict(set)
        self._stream = stream
        # By identity, each with the object, so that it lives as long.
        self._named: dict[int, tuple[object, set[str]]] = {}
        self._made: dict[int, tuple[object, set[str], str]] = {}
        self._tuples: dict[int, tuple[object, ...]] = {}

    def find_class(self, module: str, name: str) -> object:
        """Import a name, as pickle does, and remember what it is."""
        if self.proto < 3:
            if (module, name) in _NAMES:
                module, name = _NAMES[module, name]
            else:
                module = _MODULES.get(module, module)
        found: object = super().find_class(module, name)
        self._name(found, f"{module}.{name}")
        return found

    def _name(self, found: object, full: str) -> None:
        self._named.setdefault(id(found), (found, set()))[1].add(full)
        self.uses[full]  # even if nothing uses it

    def _names_of(self, value: object) -> set[str]:
        found = self._named.get(id(value))
        return found[1] if found is not None and found[0] is value else set()

    def _use(self, value: object, *ways: str) -> None:
        for name in self._names_of(value):
            self.uses[name].update(ways)

    def _keep(self, value: object) -> None:
        """Note that a value becomes part of an object, with what a tuple holds."""
        self._use(value, VALUE)
        if type(value) is tuple and id(value) in self._tuples:
            for item in value:
                self._keep(item)

    def _note_tuple(self) -> None:
        made = self.stack[-1]
        if any(self._names_of(item) or id(item) in self._tuples for item in made):
            self._tuples[id(made)] = made

    def _call(self, callee: object, args: tuple[object, ...], made: object) -> None:
        names, first = self._names_of(callee), args[0] if args else None
        if names & _FIRST_IS_OWNER:
            for owner in self._names_of(first):
                self._name(made, f"{owner}.{args[1]}")
            return
        if names & {*FORMS}:
            self._use(first, NEW) if names & _FIRST_IS_MADE else self._keep(first)
            way, rest = "", args[1:]
            names = self._names_of(first) if names & _FIRST_IS_MADE else set()
        elif not isinstance(callee, type) and isinstance(first, type) and self._names_of(first):
            self._use(callee, MAKE)
            self._use(first, NEW)
            way, rest = "", args[1:]
        else:
            self._use(callee, CALL)
            way, rest = BUILD, args
        for item in rest:
            self._keep(item)
        self._made[id(made)] = (made, names, way)

    def _new(self, of: object, args: tuple[object, ...], made: object) -> None:
        self._use(of, NEW)
        for item in args:
            self._keep(item)
        self._made[id(made)] = (made, self._names_of(of), "")

    def _touch(self, made: object, way: str) -> None:
        found = self._made.get(id(made))
        if found is not None and found[0] is made and way:
            for name in found[1]:
                self.uses[name].add(way)

    def _reduce(self) -> None:
        callee, args = self.stack[-2:]
        super().load_reduce()
        self._call(callee, args, self.stack[-1])

    def _newobj(self) -> None:
        of, args = self.stack[-2:]
        super().load_newobj()
        self._new(of, args, self.stack[-1])

    def _newobj_ex(self) -> None:
        of, args, keywords = self.stack[-3:]
        super().load_newobj_ex()
        self._new(of, (*args, *keywords.values()), self.stack[-1])

    def _build(self) -> None:
        made, state = self.stack[-2:]
        self._keep(state)
        found = self._made.get(id(made))
        super().load_build()
        if found is not None and found[0] is made:
            self._touch(made, found[2])

    def _collection(self, code: bytes) -> None:
        for item in self.stack:
            self._keep(item)
        pickle._Unpickler.dispatch[code[0]](self)  # type: ignore[attr-defined]

    def _append(self) -> None:
        self._items([self.stack[-1]], self.stack[-2], list)
        super().load_append()

    def _setitem(self) -> None:
        self._items(self.stack[-2:], self.stack[-3], dict)
        super().load_setitem()

    def _items(self, items: Iterable[object], target: object, plain: type) -> None:
        for item in items:
            self._keep(item)
        if type(target) is not plain:
            self._touch(target, ITEMS)

    def _plain_load(self, code: bytes) -> None:
        pickle._Unpickler.dispatch[code[0]](self)  # type: ignore[attr-defined]
        self._note_tuple()

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,  # type: ignore[attr-defined]
        pickle.REDUCE[0]: _reduce,
        pickle.NEWOBJ[0]: _newobj,
        pickle.NEWOBJ_EX[0]: _newobj_ex,
        pickle.BUILD[0]: _build,
        pickle.APPEND[0]: _append,
        pickle.SETITEM[0]: _setitem,
        **{
            code[0]: lambda self, code=code: self._plain_load(code)
            for code in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3)
        },
        **{
            code[0]: lambda self, code=code: self._collection(code)
            for code in (pickle.LIST, pickle.DICT, pickle.FROZENSET)
        },
        pickle.APPENDS[0]: lambda self: self._many(pickle.APPENDS, list),
        pickle.ADDITEMS[0]: lambda self: self._many(pickle.ADDITEMS, set),
        pickle.SETITEMS[0]: lambda self: self._many(pickle.SETITEMS, dict),
    }

    def _many(self, code: bytes, plain: type) -> None:
        self._items(self.stack, self.metastack[-1][-1], plain)
        pickle._Unpickler.dispatch[code[0]](self)  # type: ignore[attr-defined]
