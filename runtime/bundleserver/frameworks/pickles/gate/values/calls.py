"""Calls of Python's own classes: of exact plain values, and in bounded time.

``set(range(10**12))`` and ``int(Decimal("1e99999999"))`` are a few bytes and take for ever. So
these take only what is in the pickle already, and that in the forms in which Python writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bundleserver.frameworks.pickles.gate.listing import own_names
from bundleserver.frameworks.pickles.gate.refusal import Refused, kind_of

if TYPE_CHECKING:
    from bundleserver.frameworks.pickles.gate.session import Session

_LONGEST_NUMBER = 400
_MOST_PARTS = 1_000
_LONGEST_RANGE = 1 << 24
_LARGEST_EXPONENT = 10_000

_KEYS = frozenset({bool, bytes, complex, float, int, str, tuple, frozenset, type, type(None)})
_NUMBERS = frozenset({bool, bytes, float, int, str})
_MANY = frozenset({dict, frozenset, list, set, str, tuple})
_OTHER_KEYS = frozenset(
    {
        "datetime.date", "datetime.datetime", "datetime.time", "datetime.timedelta",
        "datetime.timezone", "decimal.Decimal", "pandas._libs.interval.Interval",
        "pandas._libs.tslibs.nattype.NaTType", "pandas._libs.tslibs.period.Period",
        "pandas._libs.tslibs.timedeltas.Timedelta", "pandas._libs.tslibs.timestamps.Timestamp",
        "uuid.UUID",
    }
)  # fmt: skip


def check_keys(session: Session, keys: Sequence[object]) -> None:
    """Check that keys can be hashed and compared in bounded time, and without the file's help.

    Raises:
        Refused: one is a tuple of tuples of tuples, or of a class that has a hash of its own.
    """
    kinds = {*map(type, keys)}
    if kinds <= {str}:
        return
    for kind in kinds - _KEYS:
        _check_kind_of_key(session, kind)
    if tuple in kinds:
        for key in keys:
            if type(key) is tuple:
                _check_tuple(session, key)


def _check_tuple(session: Session, key: tuple[object, ...]) -> None:
    left: list[object] = [key]
    for _ in range(_MOST_PARTS):
        if not left:
            return
        part = left.pop()
        if type(part) is tuple:
            left += part[:_MOST_PARTS]
        elif type(part) not in _KEYS:
            _check_kind_of_key(session, type(part))
    raise Refused("it has a key of a dict or set that has too many parts")


def _check_kind_of_key(session: Session, kind: type) -> None:
    is_number = issubclass(kind, np.generic) and kind.__module__ == "numpy" and kind is not np.void
    is_known = is_number or issubclass(kind, type) or own_names(kind)[0] in _OTHER_KEYS
    if not (
        is_known or cast(object, kind.__hash__) is object.__hash__ or session.is_of_operator(kind)
    ):
        name = f"{kind.__module__}.{kind.__qualname__}"
        raise Refused(f"it has a {name} as the key of a dict or the member of a set")


def _check_many(session: Session, args: tuple[object, ...]) -> None:
    if len(args) > 1:
        raise Refused(f"it makes a container of {len(args)} values; expected one")
    for arg in args:
        _check_members(session, arg)


def _check_members(session: Session, members: object) -> None:
    if type(members) not in _MANY:
        raise Refused(f"it makes a container of a {kind_of(members)}")
    check_keys(session, [*cast("Iterable[object]", members)])


def _check_queue(session: Session, args: tuple[object, ...]) -> None:
    if len(args) > 2 or (args and type(args[0]) not in _MANY):
        raise Refused("it makes a queue of other values than a list")
    if len(args) == 2 and type(args[1]) not in (int, type(None)):
        raise Refused("it makes a queue of a length that is no number")


def _check_mapping(session: Session, args: tuple[object, ...]) -> None:
    if len(args) > 1:
        raise Refused(f"it makes a mapping of {len(args)} values; expected one")
    for arg in args:
        _check_pairs(session, arg)


def _check_pairs(session: Session, pairs: object) -> None:
    if type(pairs) is dict:
        return
    if type(pairs) not in (list, tuple) or not all(
        type(pair) in (list, tuple) and len(pair) == 2 for pair in cast("list[list[object]]", pairs)
    ):
        raise Refused(f"it makes a mapping of a {kind_of(pairs)}; expected pairs")
    check_keys(session, [pair[0] for pair in cast("list[list[object]]", pairs)])


def _check_default_mapping(session: Session, args: tuple[object, ...]) -> None:
    if args and args[0] is not None and session.reference_to(args[0]) is None:
        raise Refused(f"the default of a mapping is a {kind_of(args[0])} that it did not name")
    _check_mapping(session, args[1:])


def _check_counter(session: Session, args: tuple[object, ...]) -> None:
    if len(args) > 1 or (args and type(args[0]) is not dict):
        raise Refused("it makes a counter of other values than a dict")


def _check_number(session: Session, args: tuple[object, ...]) -> None:
    for arg in args:
        is_long = type(arg) in (str, bytes) and len(cast(str, arg)) > _LONGEST_NUMBER
        if type(arg) not in _NUMBERS or is_long:
            raise Refused(f"it makes a number of a {kind_of(arg)}, or of a long one")


def _check_range(session: Session, args: tuple[object, ...]) -> None:
    _check_slice(session, args)
    if len(range(*cast("tuple[int, int, int]", args))) > _LONGEST_RANGE:
        raise Refused(f"it has a range of more than {_LONGEST_RANGE} numbers")


def _check_slice(session: Session, args: tuple[object, ...]) -> None:
    for arg in args:
        if type(arg) not in (int, type(None)) or abs(cast(int, arg or 0)) >= 1 << 63:
            raise Refused(f"it makes a range of a {kind_of(arg)}; expected a number of 64 bits")


def _check_decimal(session: Session, args: tuple[object, ...]) -> None:
    _check_number(session, args)
    text = args[0] if args else ""
    exponent = text.lower().rpartition("e") if type(text) is str else ("", "", "")
    if exponent[1] and len(exponent[2].strip("+-")) > len(str(_LARGEST_EXPONENT)):
        raise Refused(f"it has a decimal number with an exponent above {_LARGEST_EXPONENT}")


def _check_tree(session: Session, args: tuple[object, ...]) -> None:
    columns, classes, outputs = args if len(args) == 3 else (None, None, None)
    is_sound = type(columns) is int and type(outputs) is int and type(classes) is np.ndarray
    if (
        not is_sound
        or cast(Any, classes).shape != (outputs,)
        or cast(Any, classes).dtype != np.intp
    ):
        raise Refused("a decision tree is made with other sizes than scikit-learn's")


CALL_CHECKS: Mapping[str, Callable[[Session, tuple[object, ...]], None]] = {
    "builtins.complex": _check_number,
    "builtins.float": _check_number,
    "builtins.frozenset": _check_many,
    "builtins.int": _check_number,
    "builtins.range": _check_range,
    "builtins.set": _check_many,
    "builtins.slice": _check_slice,
    "collections.Counter": _check_counter,
    "collections.OrderedDict": _check_mapping,
    "collections.defaultdict": _check_default_mapping,
    "collections.deque": _check_queue,
    "decimal.Decimal": _check_decimal,
    "sklearn.tree._tree.Tree": _check_tree,
}
"""Checks of what classes of Python are called with, by their names."""
