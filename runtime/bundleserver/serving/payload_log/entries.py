"""One request of the payload log as it waits in the queue, and the memory that it holds."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from bundleserver.serving.codecs.number_rows import NumberRows
from bundleserver.serving.requests import PredictRequest, PredictResponse
from bundleserver.tensors import Array
from bundleserver.tensors.signature import Signature

QUEUE_BYTES = 64 * 2**20
"""Memory of all requests that wait to be written."""

LARGE_TEXT_BYTES = QUEUE_BYTES // 4
"""What a request with many texts counts for: to measure each would take too long."""

MOST_MEASURED = 2_000
"""Texts that are measured one by one."""

_NUMBERS = frozenset((bool, int, float))
_NUMBER_BYTES = 40  # a Python number and its place in a list
_ROW_BYTES = 200  # a small list or dict
_ENTRY_BYTES = 1_000


class Taker(NamedTuple):
    """The version that answered: what its requests are validated with."""

    signature: Signature
    identity: str


class Entry(NamedTuple):
    """One request that is logged.

    Attributes:
        request: it, without ``tensors`` and ``rows`` where no inputs are logged.
        protocol: ``v1``, ``v2`` or ``grpc``.
        at: when it came, in seconds since the epoch.
        seconds: how long it took, from decoding to the response.
        outcome: ``ok``, or what the error was, as the metrics name it.
        row_count: the rows that it has.
        response: its response; None if it failed.
        taker: what the version that answered validates with; None if it failed.
    """

    request: PredictRequest
    protocol: str
    at: float
    seconds: float
    outcome: str
    row_count: int
    response: PredictResponse | None = None
    taker: Taker | None = None


def request_bytes(request: PredictRequest) -> int:
    """Estimate the memory that a valid request's inputs hold, never by much too little."""
    if request.rows is not None:
        return _ENTRY_BYTES + _rows_bytes(request.rows)
    return _ENTRY_BYTES + sum(array_bytes(tensor.values) for tensor in request.tensors or ())


def response_bytes(response: PredictResponse) -> int:
    """Estimate the memory that a response holds."""
    if response.answers is not None:
        return response.size_bytes * _NUMBER_BYTES // 8
    return sum(array_bytes(array, is_trusted=True) for array in response.outputs.values())


def array_bytes(array: Array, *, is_trusted: bool = False) -> int:
    """Return the memory that an array holds: of a view it is that of all that it is a view of.

    Of many texts some are measured where they are a model's: a client would know which.
    """
    held = getattr(array.base, "nbytes", 0) if array.base is not None else 0
    own = max(array.nbytes, held)
    if array.dtype.kind != "O":
        return own
    step = 1
    if array.size > MOST_MEASURED:
        if not is_trusted:
            return max(own, LARGE_TEXT_BYTES)
        step = array.size // 200
    return own + step * sum(map(sys.getsizeof, array.ravel()[::step].tolist()))


def _rows_bytes(rows: Sequence[object]) -> int:
    """Estimate rows of equal form: an answered request has no others."""
    if isinstance(rows, NumberRows):
        # The text that it was decoded from is still there.
        return 4 * rows.values.nbytes
    if not rows:
        return 0
    count, start = len(rows), rows[0]
    values = start.values() if isinstance(start, dict) else start
    if isinstance(values, Collection) and _NUMBERS.issuperset(map(type, values)):
        return count * (_ROW_BYTES + len(values) * _NUMBER_BYTES)
    first = list(_plain(start, MOST_MEASURED))
    nested = count * _ROW_BYTES if isinstance(start, (list, dict)) else 0
    if count * len(first) <= MOST_MEASURED:
        return nested + sum(map(_value_bytes, _plain(rows, 2 * MOST_MEASURED)))
    if all(isinstance(value, (bool, int, float)) for value in first):
        return nested + count * max(len(first), _width(start)) * _NUMBER_BYTES
    return LARGE_TEXT_BYTES


def _plain(value: object, most: int) -> Iterable[object]:
    """Yield the plain values in a nested one, and no more than so many."""
    waiting = [value]
    while waiting and most > 0:
        found = waiting.pop()
        if isinstance(found, dict):
            waiting.extend(list(found.values())[:most])
        elif isinstance(found, (list, tuple)):
            waiting.extend(found[:most])
        else:
            most -= 1
            yield found


def _width(value: object) -> int:
    """Count the values of a regularly nested row by its first elements."""
    if isinstance(value, dict):
        return sum(map(_width, value.values()))
    if isinstance(value, (list, tuple)):
        return len(value) * _width(value[0]) if value else 0
    return 1


def _value_bytes(value: object) -> int:
    return sys.getsizeof(value) + 8 if isinstance(value, str) else _NUMBER_BYTES
