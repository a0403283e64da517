"""The plain half of the gate's unpickler: it reads, and keeps references out of what is made."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO, ClassVar, cast

from bundleserver.frameworks.giving_up import go_on
from bundleserver.frameworks.pickles.bounded import OverLimit, checked_key
from bundleserver.frameworks.pickles.gate.building import add_items, set_items
from bundleserver.frameworks.pickles.gate.joblib_arrays import check_room
from bundleserver.frameworks.pickles.gate.listing import VALUE
from bundleserver.frameworks.pickles.gate.refusal import NotListed, Refused
from bundleserver.frameworks.pickles.gate.session import Reference, Session

_PIECE = 1 << 20
_CHECK_EVERY = 1 << 14
_LONGEST_LINE = 1 << 28

_Unpickler: Any = pickle._Unpickler
_Stop: Any = pickle._Stop  # type: ignore[attr-defined]  # typeshed lacks it


class PlainUnpickler(_Unpickler):  # type: ignore[misc]  # typeshed has few of its methods
    """Follow the instructions that make values, tuples, lists, dicts and sets.

    Args:
        stream: a buffered stream.
        session: what the load has resolved and made.
    """

    def __init__(self, stream: BinaryIO, session: Session) -> None:
        super().__init__(stream)
        self.stack: list[Any] = []
        self.metastack: list[list[Any]] = []
        self._stream = stream
        self._session = session
        # Tuples with references: the arguments of a call.
        self._unfinished: dict[int, tuple[object, ...]] = {}

    def load(self) -> object:
        """Follow the stream to the end of its pickle, and return its object.

        Raises:
            Refused: it does what is not allowed; nothing of that was done.
            Exception: it is damaged, or no pickle, or a listed class refuses its state.
        """
        self.readline = self._line
        self.append = self.stack.append
        self.proto = 0
        read, dispatch = self._stream.read, self.dispatch
        try:
            while True:
                go_on()
                for _ in range(_CHECK_EVERY):
                    code = read(1)
                    if not code:
                        raise EOFError("it has no end")
                    dispatch[code[0]](self)
        except _Stop as stop:
            self._plain((stop.value,))
            return cast(object, stop.value)

    def read(self, count: int) -> bytes:
        """Read so many bytes; a large number is not believed before they are there."""
        if count <= _PIECE:
            data = self._stream.read(count)
        else:
            check_room(count)
            pieces = bytearray()
            while piece := self._stream.read(min(_PIECE, count - len(pieces))):
                go_on()
                pieces += piece
            data = bytes(pieces)
        if len(data) != count:
            raise EOFError(f"it ends {count - len(data)} bytes too early")
        return data

    def _line(self) -> bytes:
        line = self._stream.readline(_LONGEST_LINE)
        if len(line) == _LONGEST_LINE:
            raise Refused(f"it has a line of more than {_LONGEST_LINE} bytes")
        return line

    def _plain(self, values: Iterable[object]) -> None:
        """Check that no reference becomes part of an object."""
        for value in values:
            if type(value) is Reference:
                raise NotListed(value.name, VALUE, "as a part of an object")
            if type(value) is tuple and id(value) in self._unfinished:
                self._plain(value)

    def _plain_many(self, values: Sequence[object]) -> None:
        kinds = {*map(type, values)}
        if Reference in kinds or (tuple in kinds and self._unfinished):
            self._plain(values)

    def _push_tuple(self, values: tuple[object, ...]) -> None:
        if self._unfinished:
            self._plain(value for value in values if type(value) is tuple)
        if Reference in map(type, values):
            self._unfinished[id(values)] = values
        self.append(values)

    def _tuple(self) -> None:
        self._push_tuple(tuple(self.pop_mark()))

    def _tuple_of(self, count: int) -> None:
        values = tuple(self.stack[-count:])
        if len(values) != count:
            raise IndexError
        del self.stack[-count:]
        self._push_tuple(values)

    def _list(self) -> None:
        items = self.pop_mark()
        self._plain_many(items)
        self.append(items)

    def _frozenset(self) -> None:
        items = self.pop_mark()
        self._plain_many(items)
        _check_keys(items)
        self.append(frozenset(items))

    def _dict(self) -> None:
        items = self.pop_mark()
        self._plain_many(items)
        _check_keys(items[::2])
        self.append(dict(zip(items[::2], items[1::2], strict=True)))

    def _add(self, items: list[object]) -> None:
        self._plain_many(items)
        target = self.stack[-1]
        if type(target) is list:
            target.extend(items)
        else:
            _check_keys(items)
            add_items(self._session, target, items)

    def _append(self) -> None:
        value = self.stack.pop()
        target = self.stack[-1]
        if type(target) is list and type(value) is not Reference and type(value) is not tuple:
            target.append(value)
        else:
            self._add([value])

    def _set(self, items: list[object]) -> None:
        self._plain_many(items)
        target = self.stack[-1]
        _check_keys(items[::2])
        pairs = zip(items[::2], items[1::2], strict=True)
        if type(target) is dict:
            target.update(pairs)
        else:
            set_items(self._session, target, pairs)

    def _setitem(self) -> None:
        value = self.stack.pop()
        self._set([self.stack.pop(), value])

    def _memoize(self) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _bytearray(self) -> None:
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    def _refuse_buffer(self) -> None:
        raise Refused("it refers to buffers outside of itself")

    def _unknown(self) -> None:
        raise pickle.UnpicklingError("it has a byte that is no instruction of a pickle")

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **dict.fromkeys(range(256), _unknown),
        **{
            code[0]: _Unpickler.dispatch[code[0]]
            for code in (
                pickle.PROTO, pickle.NONE, pickle.NEWFALSE, pickle.NEWTRUE, pickle.INT,
                pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG, pickle.LONG1,
                pickle.LONG4, pickle.FLOAT, pickle.BINFLOAT, pickle.STRING, pickle.BINSTRING,
                pickle.BINBYTES, pickle.UNICODE, pickle.BINUNICODE, pickle.BINUNICODE8,
                pickle.BINBYTES8, pickle.SHORT_BINSTRING, pickle.SHORT_BINBYTES,
                pickle.SHORT_BINUNICODE, pickle.EMPTY_TUPLE, pickle.EMPTY_LIST, pickle.EMPTY_DICT,
                pickle.EMPTY_SET, pickle.POP, pickle.POP_MARK, pickle.DUP, pickle.GET,
                pickle.BINGET, pickle.LONG_BINGET, pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT,
                pickle.MARK, pickle.STOP,
            )
        },
        # The length of a frame says nothing: what is in it follows.
        pickle.FRAME[0]: lambda self: self.read(8),
        pickle.BYTEARRAY8[0]: _bytearray,
        pickle.NEXT_BUFFER[0]: _refuse_buffer,
        pickle.READONLY_BUFFER[0]: _refuse_buffer,
        pickle.TUPLE[0]: _tuple,
        pickle.TUPLE1[0]: lambda self: self._tuple_of(1),
        pickle.TUPLE2[0]: lambda self: self._tuple_of(2),
        pickle.TUPLE3[0]: lambda self: self._tuple_of(3),
        pickle.LIST[0]: _list,
        pickle.DICT[0]: _dict,
        pickle.FROZENSET[0]: _frozenset,
        pickle.APPEND[0]: _append,
        pickle.APPENDS[0]: lambda self: self._add(self.pop_mark()),
        pickle.ADDITEMS[0]: lambda self: self._add(self.pop_mark()),
        pickle.SETITEM[0]: _setitem,
        pickle.SETITEMS[0]: lambda self: self._set(self.pop_mark()),
        pickle.MEMOIZE[0]: _memoize,
    }  # fmt: skip


def _check_keys(keys: Sequence[object]) -> None:
    """Check that keys can be hashed in bounded time: tuples of tuples may take for ever."""
    if tuple in {*map(type, keys)}:
        try:
            for key in keys:
                checked_key(key)
        except OverLimit as error:
            raise Refused(f"it has {error}") from error
