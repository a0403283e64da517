"""An unpickler that imports, calls and sets nothing: records stand for what a pickle would make.

Whatever the stream says, it takes time and memory in proportion to what is read; ``bounded`` says
how much that is.
"""

from __future__ import annotations

import hashlib
import math
import pickle
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar, NamedTuple, cast

import numpy as np

from bundleserver.frameworks.pickles.bounded import BoundedStream, OverLimit, checked_key

_MOST_NAMES = 10_000
_MOST_VERSIONS = 100
_MOST_DIMENSIONS = 64
_DEEPEST = 50
_DEEPEST_MAKER = 100
_KEPT = 256
_READ_TEXT = 1 << 20
_ITEM = re.compile(r"[<>=|]?[?A-Za-z]+[0-9]{0,9}")

NOTHING = object()
"""In place of the object of a pickle that has none."""


class ClassName(NamedTuple):
    """A class or function as a pickle names it."""

    module: str
    qualname: str

    def __str__(self) -> str:
        return f"{self.module}.{self.qualname}"


@dataclass(eq=False, repr=False, slots=True)
class Made:
    """An object that a pickle would make: its class or function, its arguments and its state."""

    maker: object
    args: tuple[object, ...] = ()
    state: object = None
    items: dict[object, object] | None = None

    def extend(self, items: Iterable[object]) -> None:
        """Ignore appended items (pickle prefers this to ``append``)."""

    def append(self, item: object) -> None:
        """Ignore an appended item."""

    def __setitem__(self, key: object, value: object) -> None:
        """Keep an item of a dict of another class, such as an OrderedDict."""
        self.items = {} if self.items is None else self.items
        self.items[key] = value


# joblib subclasses the same class, the Python twin of pickle.Unpickler: both see the same stream.
_Unpickler: Any = pickle._Unpickler


class InertUnpickler(_Unpickler):  # type: ignore[misc]  # typeshed has few of its methods
    """Follow a pickle's instructions without importing, calling or setting anything real."""

    def __init__(
        self,
        stream: BoundedStream,
        named: dict[ClassName, None],
        versions: set[str],
        depth: int = 0,
    ) -> None:
        super().__init__(cast(BinaryIO, stream), encoding="latin-1")
        self.stack: list[object] = []
        self.metastack: list[list[object]] = []
        self._stream = stream
        self._named = named
        self._versions = versions
        self._depth = depth

    def find_class(self, module: str, name: str) -> object:
        """Return the name in place of what it names."""
        # Protocols 0 to 2 spell these two modules as Python 2 did.
        renamed = {"copy_reg": "copyreg", "__builtin__": "builtins"}.get(module, module)
        found = ClassName(renamed, name)
        self._named[found] = None
        if len(self._named) > _MOST_NAMES:
            raise OverLimit(f"more than {_MOST_NAMES} names of classes and functions")
        return found

    def persistent_load(self, pid: object) -> object:
        """Return a record of something outside of the pickle."""
        return Made(None)

    def get_extension(self, code: int) -> None:
        """Push a record of something that a registry of codes names."""
        self.stack.append(Made(None))

    def _instantiate(self, maker: object, args: object) -> None:
        # Of a tuple nothing is copied: a long one may be the arguments of a million calls.
        known = args if isinstance(args, tuple) else tuple(args) if isinstance(args, list) else ()
        self.stack.append(Made(maker, known))

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
        if isinstance(state, dict) and isinstance(state.get("_sklearn_version"), str):
            self._versions.add(state["_sklearn_version"])
            if len(self._versions) > _MOST_VERSIONS:
                raise OverLimit(f"more than {_MOST_VERSIONS} versions of scikit-learn")
        made_class = class_of(made)
        if made_class is not None and made_class.qualname == "NumpyArrayWrapper":
            self.stack[-1] = self._skip_array(cast("dict[str, object]", state))

    def _skip_array(self, wrapper: dict[str, object]) -> object:
        """Skip the bytes of an array, which joblib writes into the middle of the pickle."""
        dtype = cast("Made", wrapper["dtype"])
        if _holds_objects(dtype):
            if self._depth >= _DEEPEST:
                raise OverLimit(f"arrays of objects in each other, more than {_DEEPEST}")
            return type(self)(self._stream, self._named, self._versions, self._depth + 1).load()
        if wrapper.get("numpy_array_alignment_bytes") is not None:
            self._stream.skip(self._stream.read(1)[0])
        self._stream.skip(_item_bytes(dtype.args[0]) * _item_count(wrapper["shape"]))
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
            self.stack.append(_kept(self._stream.read(count).decode(encoding, "surrogatepass")))
        else:
            self._stream.skip(count)
            self.stack.append("")

    def _text_line(self, parse: Callable[[Any], None], empty: bytes) -> None:
        """Parse a line of text; of a very long one nothing is kept."""
        line = self._stream.text_line()
        self.readline = lambda: empty if line is None else line
        parse(self)
        self.readline = self._stream.readline
        self.stack[-1] = _kept(cast(str, self.stack[-1]))

    def _long(self) -> None:
        count = self._number("<i")
        self._stream.skip(count)
        self.stack.append(0)

    def _set_item(self) -> None:
        value = self.stack.pop()
        self._set([self.stack.pop(), value])

    def _set(self, items: list[object]) -> None:
        target = self.stack[-1]
        if not isinstance(target, (dict, Made)):
            raise pickle.UnpicklingError("items are put into what is no dict")
        for key, value in zip(items[::2], items[1::2], strict=False):
            target[checked_key(key)] = value

    def _dict(self) -> None:
        items = self.pop_mark()
        self.stack.append({})
        self._set(items)

    def _make_set(self, name: str, items: Iterable[object] = ()) -> None:
        for item in items:
            checked_key(item)
        self.stack.append(Made(ClassName("builtins", name)))

    def _add_items(self) -> None:
        for item in self.pop_mark():
            checked_key(item)

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **_Unpickler.dispatch,
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


def _kept(text: str) -> str:
    """Return a text, or what stands for a long one: as different from others as the text is."""
    if len(text) <= _KEPT:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{text[:100]}…{digest}"


def _holds_objects(dtype: Made) -> bool:
    """Ask whether a pickled dtype holds Python objects: numpy's lowest dtype flag."""
    flags = dtype.state[7] if isinstance(dtype.state, tuple) and len(dtype.state) > 7 else 0
    return bool(cast(int, flags) & 1)


def _item_bytes(code: object) -> int:
    if not isinstance(code, str) or not _ITEM.fullmatch(code):
        raise pickle.UnpicklingError("an array's datatype is no datatype")
    return np.dtype(code).itemsize


def _item_count(shape: object) -> int:
    sizes = shape if isinstance(shape, tuple) and len(shape) <= _MOST_DIMENSIONS else (-1,)
    if not all(type(size) is int and 0 <= size < 1 << 63 for size in sizes):
        raise pickle.UnpicklingError("an array's shape is no shape")
    return math.prod(sizes)


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


def class_of(value: object) -> ClassName | None:
    """Return the class of a value in a pickle; a class or function is itself."""
    for _ in range(_DEEPEST_MAKER):
        if value is NOTHING:
            return None
        if isinstance(value, ClassName):
            return value
        if not isinstance(value, Made):
            return ClassName("builtins", type(value).__name__)
        maker = value.maker
        if maker is None:
            return None
        if isinstance(maker, ClassName) and value.args and str(maker) in _REBUILDERS:
            maker = _REBUILDERS[str(maker)] or value.args[0]
        value = maker
    return None
