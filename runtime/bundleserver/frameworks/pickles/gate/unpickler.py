"""An unpickler that does only what lists allow; each instruction is checked as it is followed."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, BinaryIO, ClassVar, cast

from bundleserver.frameworks.pickles.gate.building import build
from bundleserver.frameworks.pickles.gate.joblib_arrays import ArrayRecord, read_array
from bundleserver.frameworks.pickles.gate.listing import BUILD, CALL, ITEMS, MAKE, NEW
from bundleserver.frameworks.pickles.gate.plain import PlainUnpickler
from bundleserver.frameworks.pickles.gate.refusal import NotListed, Refused, kind_of
from bundleserver.frameworks.pickles.gate.session import Session

_DEEPEST = 50
_OF_PYTHON = ("builtins.", "collections.")
_PLAIN = frozenset({bool, bytes, dict, float, int, list, set, str, tuple, type(None)})

_Unpickler: Any = pickle._Unpickler
_NAMES: Any = pickle._compat_pickle.NAME_MAPPING  # type: ignore[attr-defined]  # not in typeshed
_MODULES: Any = pickle._compat_pickle.IMPORT_MAPPING  # type: ignore[attr-defined]  # as above


class GateUnpickler(PlainUnpickler):
    """Open one pickle of a stream; afterwards the stream is where the pickle ended.

    Args:
        stream: a buffered stream.
        session: what the load has resolved and made, shared with the pickles inside of it.
        persistent: returns what is outside of the pickle; without it that is refused.
        depth: how many pickles it is inside of.
    """

    def __init__(
        self,
        stream: BinaryIO,
        session: Session,
        persistent: Callable[[object], object] | None = None,
        depth: int = 0,
    ) -> None:
        super().__init__(stream, session)
        if depth > _DEEPEST:
            raise Refused(f"it has pickles inside of each other, more than {_DEEPEST}")
        self._persistent = persistent
        self._depth = depth

    def find_class(self, module: str, name: str) -> object:
        """Return what a name means, if it is listed."""
        if self.proto < 3:
            if (module, name) in _NAMES:
                module, name = _NAMES[module, name]
            else:
                module = _MODULES.get(module, module)
        return self._session.find(module, name)

    def get_extension(self, code: int) -> None:
        """Refuse what the extension registry of this process has under a number."""
        raise Refused(f"it names a class by the extension code {code}")

    def persistent_load(self, pid: object) -> object:
        """Return what is outside of the pickle, as whoever opens it says."""
        self._plain((pid,))
        if self._persistent is None:
            raise Refused("it refers to objects outside of itself")
        return self._persistent(pid)

    def _args(self, args: object) -> tuple[object, ...]:
        if type(args) is not tuple:
            raise Refused(f"the arguments of a call are a {kind_of(args)}; expected a tuple")
        return args

    def _reduce(self) -> None:
        args = self._args(self.stack.pop())
        self.append(self._call(self.stack.pop(), args))

    def _call(self, callee: object, args: tuple[object, ...]) -> object:
        found = self._session.reference_to(callee)
        if found is None:
            raise Refused(f"it calls a {kind_of(callee)} that it did not name")
        if found.form is not None:
            return found.form(self._session, args)
        if MAKE in found.ways:
            args = (self._session.class_of(args[0] if args else None).real, *args[1:])
        elif CALL not in found.ways:
            raise NotListed(found.name, CALL, "as a function")
        self._plain(args)
        if found.name.startswith(_OF_PYTHON):
            self._check_plain_args(found.name, args)
        made = cast("Callable[..., object]", found.real)(*args)
        if found.ways & {BUILD, ITEMS, MAKE}:
            self._session.note(made, found.ways)
        self._session.watch(made)
        return made

    def _check_plain_args(self, name: str, args: tuple[object, ...]) -> None:
        """Refuse to let a container of Python go through anything but its items."""
        for arg in args:
            if type(arg) not in _PLAIN and self._session.reference_to(arg) is None:
                raise Refused(f"it makes a '{name}' of a {kind_of(arg)}")

    def _new(self, of: object, args: object, keywords: object = None) -> None:
        args, made_of = self._args(args), self._session.class_of(of)
        if keywords is not None and (
            type(keywords) is not dict or not all(type(key) is str for key in keywords)
        ):
            raise Refused("the keyword arguments of a new object are no dict of strings")
        self._plain(args)
        self.append(self._session.new(made_of, args, keywords or {}))

    def _newobj(self) -> None:
        args = self.stack.pop()
        self._new(self.stack.pop(), args)

    def _newobj_ex(self) -> None:
        keywords, args = self.stack.pop(), self.stack.pop()
        self._new(self.stack.pop(), args, keywords)

    def _instantiate(self, of: object, args: list[object]) -> None:
        found = self._session.reference_to(of)
        if not args and found is not None and NEW in found.ways:
            self._new(of, ())
        else:
            self.append(self._call(of, tuple(args)))

    def _inst(self) -> None:
        names = (self.readline()[:-1].decode("ascii") for _ in range(2))
        of = self.find_class(*names)
        self._instantiate(of, self.pop_mark())

    def _obj(self) -> None:
        args = self.pop_mark()
        self._instantiate(args.pop(0), args)

    def _build(self) -> None:
        state = self.stack.pop()
        made = self.stack[-1]
        self._plain((state,))
        if type(made) is ArrayRecord:
            self.stack[-1] = read_array(state, self._stream, self._inner)
        else:
            build(self._session, made, state)

    def _inner(self) -> object:
        """Open the pickle of an array of objects, which joblib writes into its own."""
        return GateUnpickler(self._stream, self._session, None, self._depth + 1).load()

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **PlainUnpickler.dispatch,
        **{
            code[0]: _Unpickler.dispatch[code[0]]
            for code in (
                pickle.PERSID, pickle.BINPERSID, pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.EXT1,
                pickle.EXT2, pickle.EXT4,
            )
        },
        pickle.REDUCE[0]: _reduce,
        pickle.NEWOBJ[0]: _newobj,
        pickle.NEWOBJ_EX[0]: _newobj_ex,
        pickle.INST[0]: _inst,
        pickle.OBJ[0]: _obj,
        pickle.BUILD[0]: _build,
    }  # fmt: skip
