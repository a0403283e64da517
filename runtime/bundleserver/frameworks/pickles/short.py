"""What most of a pickle consists of, followed without a call for each instruction."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from typing import Protocol

from bundleserver.frameworks.pickles.bounded import BoundedStream
from bundleserver.frameworks.pickles.made import Made


class Memo:
    """What a pickle may ask for again; of what was forgotten a record says nothing."""

    def __init__(self) -> None:
        self.values: dict[int, object] = {}
        self._count = 0

    def put(self, at: int, value: object) -> None:
        """Keep a value under a number."""
        if at < 0:
            raise pickle.UnpicklingError("a negative number of the memo")
        self.values[at] = value
        self._count = max(self._count, at + 1)

    def put_next(self, value: object) -> None:
        """Keep a value under the next number."""
        self.values[self._count] = value
        self._count += 1

    def get(self, at: int) -> object:
        """Return the value under a number."""
        value = self.values.get(at, self)
        if value is self:
            if not 0 <= at < self._count:
                raise pickle.UnpicklingError(f"nothing was memoized as {at}")
            return Made(None)
        return value


class Follows(Protocol):
    """An unpickler: its stack, which an instruction may exchange, and its memo."""

    stack: list[object]
    memo: Memo
    dispatch: Mapping[int, Callable[..., None]]


_SHORT_TEXT = pickle.SHORT_BINUNICODE[0]
_MEMOIZE = pickle.MEMOIZE[0]
_SIGNED = pickle.BININT[0]
_GETS = {pickle.BINGET[0]: 2, pickle.LONG_BINGET[0]: 5}
_PUTS = {pickle.BINPUT[0]: 2, pickle.LONG_BINPUT[0]: 5}
_INTEGERS = {pickle.BININT[0]: 5, pickle.BININT1[0]: 2, pickle.BININT2[0]: 3}
_CONSTANTS: dict[int, tuple[object, int]] = {
    pickle.NONE[0]: (None, 1),
    pickle.NEWTRUE[0]: (True, 1),
    pickle.NEWFALSE[0]: (False, 1),
    # Nobody asks for its value.
    pickle.BINFLOAT[0]: (0.0, 9),
}
_ON_THE_STACK = frozenset(
    b"".join(
        (
            pickle.MARK, pickle.POP, pickle.POP_MARK, pickle.DUP, pickle.EMPTY_TUPLE,
            pickle.EMPTY_LIST, pickle.EMPTY_DICT, pickle.EMPTY_SET, pickle.TUPLE, pickle.TUPLE1,
            pickle.TUPLE2, pickle.TUPLE3, pickle.LIST, pickle.DICT, pickle.APPEND, pickle.APPENDS,
            pickle.SETITEM, pickle.SETITEMS, pickle.ADDITEMS, pickle.FROZENSET, pickle.REDUCE,
            pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.STACK_GLOBAL,
        )
    )
)  # fmt: skip
"""The instructions that only move what is on the stack."""


def follow_short_ones(stream: BoundedStream, reader: Follows) -> None:
    """Follow what most of a pickle consists of, without a call for each."""
    end, memo = stream.ahead(), reader.memo
    data, at = stream.data, stream.at
    stack, push = reader.stack, reader.stack.append
    count = 0
    while at < end:
        code = data[at]
        count += 1
        if code == _SHORT_TEXT:
            after = at + 2 + data[at + 1]
            push(data[at + 2 : after].decode("utf-8", "surrogatepass"))
            at = after
        elif code == _MEMOIZE:
            memo.put_next(stack[-1])
            at += 1
        elif code in _CONSTANTS:
            value, length = _CONSTANTS[code]
            push(value)
            at += length
        elif code in _INTEGERS:
            length = _INTEGERS[code]
            push(int.from_bytes(data[at + 1 : at + length], "little", signed=code == _SIGNED))
            at += length
        elif code in _GETS:
            length = _GETS[code]
            push(memo.get(int.from_bytes(data[at + 1 : at + length], "little")))
            at += length
        elif code in _PUTS:
            length = _PUTS[code]
            memo.put(int.from_bytes(data[at + 1 : at + length], "little"), stack[-1])
            at += length
        elif code in _ON_THE_STACK:
            reader.dispatch[code](reader)
            stack, push = reader.stack, reader.stack.append
            at += 1
        else:
            break
    stream.take(at, count)
