"""What a scan keeps while it goes on: what is nearest to the top of the pickle, and the names.

A pickle may have a hundred million strings, and each may be asked for again. Only the names of
classes and attributes ever are, so that the others are forgotten now and then.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

from bundleserver.frameworks.pickles.bounded import OverLimit, TooHeavy
from bundleserver.frameworks.pickles.made import ClassName, Items, Made

MOST_BYTES = 4 << 20
"""What is kept of a pickle, about."""

_MOST_IN_FRAME = 10_000
_MOST_MEMOS = 100_000
_MOST_UNFINISHED = 300_000
_MOST_DTYPES = 1_000
_MOST_PARTS = 50_000
_SMALL = 1_000
_ITEM_BYTES = 100


def settle(
    frames: list[list[object]], memo: dict[int, object], names: set[str], most_bytes: int
) -> dict[int, object]:
    """Drop what is too much of what a scan holds, and return what it keeps of the memo.

    Args:
        frames: the values that nothing has taken yet, from the outermost container to the last.
        memo: what may be asked for again.
        names: those of classes and attributes.
        most_bytes: what may be kept, about.

    Raises:
        OverLimit: there are too many values that nothing takes.
    """
    keeper = _Keeper(most_bytes)
    for frame in frames:
        # What is cut are pairs, so that keys stay keys.
        del frame[_MOST_IN_FRAME : len(frame) - len(frame) % 2 - _MOST_IN_FRAME]
    if len(frames) + sum(map(len, frames)) > _MOST_UNFINISHED:
        raise OverLimit(f"more than {_MOST_UNFINISHED} values in containers that do not end")
    dtypes = (value for value in memo.values() if _is_dtype(value))
    keeper.add([*islice(dtypes, _MOST_DTYPES)])
    for frame in frames:
        keeper.add(frame)
    keeper.walk()
    kept = (
        (at, value)
        for at, value in memo.items()
        if keeper.has(value) or type(value) is ClassName or (type(value) is str and value in names)
    )
    return dict(islice(kept, _MOST_MEMOS))


class _Keeper:
    """Walks over values, those nearest to the top first, and empties all after the limit."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._seen: set[int] = set()
        self._queue: deque[Items | list[object] | Made] = deque()

    def has(self, value: object) -> bool:
        """Ask whether the walk came by."""
        return id(value) in self._seen

    def add(self, values: list[object]) -> None:
        """Add values to walk over; the list gets what stands for those that are too large."""
        for at, value in enumerate(values):
            if isinstance(value, str):
                self._seen.add(id(value))
            elif type(value) is tuple:
                values[at] = self._kept(value)
            else:
                self._enter(value)

    def walk(self) -> None:
        """Walk over all that was added, and what is in it."""
        while self._queue:
            value = self._queue.popleft()
            is_over = self._left < 0
            if isinstance(value, Items):
                self._walk_dict(value, is_over=is_over)
            elif isinstance(value, Made):
                self._walk_made(value, is_over=is_over)
            elif is_over:
                value.clear()
            else:
                self._left -= _ITEM_BYTES * len(value)
                self.add(value)

    def _walk_made(self, made: Made, *, is_over: bool) -> None:
        if is_over:
            made.maker = made.maker if isinstance(made.maker, ClassName) else None
            made.args, made.state, made.items = (), None, None
            return
        self._left -= _ITEM_BYTES
        args = self._kept(made.args)
        made.args = args if isinstance(args, tuple) else ()
        made.state = self._kept(made.state)
        self._enter(made.items)
        self._enter(made.maker)

    def _walk_dict(self, items: Items, *, is_over: bool) -> None:
        if is_over:
            items.forget()
            return
        self._left -= _ITEM_BYTES * len(items)
        if len(items) <= _SMALL:
            self._seen.update(map(id, items))
        for key, value in items.items():
            if isinstance(value, _WALKED):
                items[key] = self._kept(value)

    def _kept(self, value: object) -> object:
        """Return a value, which is walked over later, or what stands for it."""
        if type(value) is not tuple:
            self._enter(value)
            return value
        left = [value]
        for _ in range(_MOST_PARTS):
            if not left:
                return value
            part = left.pop()
            if type(part) is not tuple:
                self._enter(part)
            elif id(part) not in self._seen:
                self._seen.add(id(part))
                self._left -= _ITEM_BYTES * (1 + len(part))
                left += part
        return TooHeavy()

    def _enter(self, value: object) -> None:
        if isinstance(value, (Items, list, Made)) and id(value) not in self._seen:
            self._seen.add(id(value))
            self._queue.append(value)


_WALKED = (Items, list, Made, tuple)


def _is_dtype(value: object) -> bool:
    return isinstance(value, Made) and value.maker == ClassName("numpy", "dtype")
