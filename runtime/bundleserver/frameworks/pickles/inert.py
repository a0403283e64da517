"""An unpickler that imports, calls and sets nothing: records stand for what a pickle would make.

Whatever the stream says, it takes time in proportion to what is read, and bounded memory.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO, ClassVar, cast

from bundleserver.frameworks.giving_up import go_on
from bundleserver.frameworks.pickles.bounded import (
    BoundedStream,
    OverLimit,
    checked_key,
)
from bundleserver.frameworks.pickles.keeping import MOST_BYTES, settle
from bundleserver.frameworks.pickles.made import MOST_ITEMS, ClassName, Found, Items, Made, class_of
from bundleserver.frameworks.pickles.short import Memo, follow_short_ones
from bundleserver.frameworks.pickles.values import (
    holds_objects,
    item_bytes,
    item_count,
    short_text,
)

SETTLED_BYTES = 1 << 19
"""After so many bytes of instructions, what is not needed is forgotten."""

_DEEPEST = 50
_KEPT = 256
_LONGEST_NUMBER = 64
_READ_TEXT = 1 << 20

# joblib subclasses the same class, the Python twin of pickle.Unpickler: both see the same stream.
_Unpickler: Any = pickle._Unpickler
_Stop: Any = pickle._Stop  # type: ignore[attr-defined]  # typeshed lacks it


class InertUnpickler(_Unpickler):  # type: ignore[misc]  # typeshed has few of its methods
    """Follow a pickle's instructions without importing, calling or setting anything real."""

    def __init__(self, stream: BoundedStream, found: Found, depth: int = 0) -> None:
        super().__init__(cast(BinaryIO, stream), encoding="latin-1")
        self.stack: list[object] = []
        self.metastack: list[list[object]] = []
        self.memo = Memo()
        self._stream = stream
        self._found = found
        self._depth = depth

    def load(self) -> object:
        """Follow the stream to the end of its pickle, and return the record of its object.

        Raises:
            OverLimit: it cannot be followed within the limits.
            Exception: it is damaged, or no pickle.
        """
        stream = self._stream
        self.read, self.readline, self.append = stream.read, stream.readline, self.stack.append
        settled = stream.taken
        try:
            while True:
                if stream.taken >= settled + SETTLED_BYTES:
                    self._settle()
                    settled = stream.taken
                follow_short_ones(stream, self)
                code = stream.read(1)
                if not code:
                    raise EOFError("it has no end")
                self.dispatch[code[0]](self)
        except _Stop as stop:
            return cast(object, stop.value)

    def _settle(self) -> None:
        go_on()
        frames = [*self.metastack, self.stack]
        room = MOST_BYTES // (1 + self._depth)
        self.memo.values = settle(frames, self.memo.values, self._found.attributes, room)

    def find_class(self, module: str, name: str) -> object:
        """Return the name in place of what it names."""
        # Protocols 0 to 2 spell these two modules as Python 2 did.
        renamed = {"copy_reg": "copyreg", "__builtin__": "builtins"}.get(module, module)
        return self._found.name(renamed, name)

    def _stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if type(name) is str and type(module) is str:
            self._found.attributes.update((name, module))
            self.stack.append(self.find_class(module, name))
        elif Made in (type(name), type(module)):
            # The same text was an item of a long container before.
            self._found.unnamed = "a name is made while it is opened"
            self.stack.append(self._found.name("?", "?"))
        else:
            raise pickle.UnpicklingError("the name of a class is no text")

    def persistent_load(self, pid: object) -> object:
        """Return a record of something outside of the pickle."""
        return Made(None)

    def get_extension(self, code: int) -> None:
        """Push a record of something that a registry of codes names."""
        self._found.unnamed = f"it names something by the extension code {code}"
        self.stack.append(Made(None))

    def _instantiate(self, maker: object, args: object) -> None:
        # Nothing is copied: a long tuple may be the arguments of a million calls.
        self.stack.append(Made(maker, args if isinstance(args, tuple) else ()))

    def _newobj(self) -> None:
        args = self.stack.pop()
        self._instantiate(self.stack.pop(), args if isinstance(args, tuple) else ())

    def _newobj_ex(self) -> None:
        self.stack.pop()
        self._newobj()

    def _build(self) -> None:
        state = self.stack.pop()
        made = self.stack[-1]
        state = state[0] if type(state) is tuple and len(state) == 2 else state
        if not isinstance(made, Made):
            return
        made.state = state
        if isinstance(state, Items):
            self._found.note_attributes(state)
        made_class = class_of(made)
        if made_class is not None and made_class.qualname == "NumpyArrayWrapper":
            self.stack[-1] = self._skip_array(cast("dict[str, object]", state))

    def _skip_array(self, wrapper: dict[str, object]) -> object:
        """Skip the bytes of an array, which joblib writes into the middle of the pickle."""
        dtype = cast("Made", wrapper["dtype"])
        if holds_objects(dtype):
            if self._depth >= _DEEPEST:
                raise OverLimit(f"arrays of objects in each other, more than {_DEEPEST}")
            return type(self)(self._stream, self._found, self._depth + 1).load()
        if wrapper.get("numpy_array_alignment_bytes") is not None:
            self._stream.skip(self._stream.read(1)[0])
        self._stream.skip(item_bytes(dtype.args[0]) * item_count(wrapper["shape"]))
        return Made(ClassName("numpy", "ndarray"))

    def _number(self, form: str) -> int:
        return cast(int, struct.unpack(form, self._stream.read(struct.calcsize(form)))[0])

    def _bytes(self, form: str, kind: type[bytes | bytearray] = bytes) -> None:
        """Keep short bytes; nobody asks for long ones."""
        count = self._number(form)
        if count <= _KEPT:
            self.stack.append(kind(self._stream.read(count)))
        else:
            self._stream.skip(count)
            self.stack.append(kind())

    def _text(self, form: str, encoding: str = "utf-8") -> None:
        count = self._number(form)
        if count <= _READ_TEXT:
            self.stack.append(
                short_text(self._stream.read(count).decode(encoding, "surrogatepass"))
            )
        else:
            self._stream.skip(count)
            self.stack.append("")

    def _text_line(self, parse: Callable[[Any], None], empty: bytes) -> None:
        """Parse a line of text; of a very long one nothing is kept."""
        line = self._stream.text_line()
        self.readline = lambda: empty if line is None else line
        parse(self)
        self.readline = self._stream.readline
        self.stack[-1] = short_text(cast(str, self.stack[-1]))

    def _long(self) -> None:
        count = self._number("<i")
        self._stream.skip(count)
        self.stack.append(0)

    def _number_line(self, parse: Callable[[Any], None]) -> None:
        """Parse a line with a number; of a very long one nothing is kept."""
        line = self._stream.readline()
        self.readline = lambda: line if len(line) <= _LONGEST_NUMBER else b"0\n"
        parse(self)
        self.readline = self._stream.readline

    def _set_item(self) -> None:
        value = self.stack.pop()
        self._set([self.stack.pop(), value])

    def _set(self, pairs: list[object]) -> None:
        target = self.stack[-1]
        if not isinstance(target, (Items, Made)):
            raise pickle.UnpicklingError("items are put into what is no dict")
        target.add(pairs)

    def _dict(self) -> None:
        pairs = self.pop_mark()
        self.stack.append(Items())
        self._set(pairs)

    def _tuple(self) -> None:
        values = self.pop_mark()
        self.stack.append(tuple(values[:MOST_ITEMS]))

    def _list(self) -> None:
        values = self.pop_mark()
        self.stack.append(values[:MOST_ITEMS])

    def _append(self) -> None:
        self._extend([self.stack.pop()])

    def _extend(self, values: list[object]) -> None:
        target = self.stack[-1]
        if not isinstance(target, (list, Made)):
            raise pickle.UnpicklingError("values are put into what is no list")
        if isinstance(target, list):
            values = values[: max(0, MOST_ITEMS - len(target))]
        target.extend(values)

    def _make_set(self, name: str, items: Iterable[object] = ()) -> None:
        for item in items:
            checked_key(item)
        self.stack.append(Made(ClassName("builtins", name)))

    def _add_items(self) -> None:
        for item in self.pop_mark():
            checked_key(item)

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **_Unpickler.dispatch,
        pickle.GET[0]: lambda self: self.stack.append(self.memo.get(int(self.readline()))),
        pickle.BINGET[0]: lambda self: self.stack.append(self.memo.get(self._number("<B"))),
        pickle.LONG_BINGET[0]: lambda self: self.stack.append(self.memo.get(self._number("<I"))),
        pickle.PUT[0]: lambda self: self.memo.put(int(self.readline()), self.stack[-1]),
        pickle.BINPUT[0]: lambda self: self.memo.put(self._number("<B"), self.stack[-1]),
        pickle.LONG_BINPUT[0]: lambda self: self.memo.put(self._number("<I"), self.stack[-1]),
        pickle.MEMOIZE[0]: lambda self: self.memo.put_next(self.stack[-1]),
        pickle.STACK_GLOBAL[0]: _stack_global,
        pickle.INT[0]: lambda self: self._number_line(_Unpickler.load_int),
        pickle.LONG[0]: lambda self: self._number_line(_Unpickler.load_long),
        pickle.FLOAT[0]: lambda self: self._number_line(_Unpickler.load_float),
        pickle.EMPTY_DICT[0]: lambda self: self.stack.append(Items()),
        pickle.TUPLE[0]: _tuple,
        pickle.LIST[0]: _list,
        pickle.APPEND[0]: _append,
        pickle.APPENDS[0]: lambda self: self._extend(self.pop_mark()),
        pickle.REDUCE[0]: _newobj,
        pickle.NEWOBJ[0]: _newobj,
        pickle.NEWOBJ_EX[0]: _newobj_ex,
        pickle.BUILD[0]: _build,
        # The length of a frame says nothing: what is in it follows.
        pickle.FRAME[0]: lambda self: self._stream.read(8),
        pickle.BINBYTES[0]: lambda self: self._bytes("<I"),
        pickle.BINBYTES8[0]: lambda self: self._bytes("<Q"),
        pickle.BYTEARRAY8[0]: lambda self: self._bytes("<Q", bytearray),
        pickle.BINUNICODE[0]: lambda self: self._text("<I"),
        pickle.BINUNICODE8[0]: lambda self: self._text("<Q"),
        pickle.BINSTRING[0]: lambda self: self._text("<i", "latin-1"),
        pickle.STRING[0]: lambda self: self._text_line(_Unpickler.load_string, b"''\n"),
        pickle.UNICODE[0]: lambda self: self._text_line(_Unpickler.load_unicode, b"\n"),
        pickle.LONG4[0]: _long,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: lambda self: self._set(self.pop_mark()),
        pickle.DICT[0]: _dict,
        pickle.EMPTY_SET[0]: lambda self: self._make_set("set"),
        pickle.FROZENSET[0]: lambda self: self._make_set("frozenset", self.pop_mark()),
        pickle.ADDITEMS[0]: _add_items,
    }
