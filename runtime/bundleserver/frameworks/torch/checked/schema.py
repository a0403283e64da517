"""JSON that is of torch's own schema: every value of the declared type, so that none is guessed."""

from __future__ import annotations

import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from enum import IntEnum
from functools import cache
from typing import Annotated, Any

from torch._export.serde import schema
from torch._export.serde.serialize import _dict_to_dataclass
from torch._export.serde.union import _Union

from bundleserver.frameworks.torch.checked.problems import NotAllowed, shown

_NUMBERS = frozenset({"Infinity", "-Infinity", "NaN"})
_LARGEST = 1 << 64
_DEEPEST = 120


def converted(kind: type, document: object, where: str) -> Any:
    """Return a document as torch's dataclasses.

    Raises:
        NotAllowed: it is not of their schema; names the place.
    """
    _check(kind, document, where, 0)
    convert: Any = _dict_to_dataclass
    return convert(kind, document)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind, globalns=vars(schema))


def _check(hint: Any, value: object, where: str, depth: int) -> None:
    if depth > _DEEPEST:
        raise NotAllowed(where, "is nested too deep")
    if isinstance(hint, str):
        hint = getattr(schema, hint)
    if isinstance(hint, typing.ForwardRef):
        hint = getattr(schema, hint.__forward_arg__)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        _check(arguments[0], value, where, depth)
    elif origin in (typing.Union, types.UnionType):
        if value is not None:
            _check(arguments[0], value, where, depth)
    elif origin is list:
        for index, one in enumerate(_of(list, value, where)):
            _check(arguments[0], one, f"{where}[{index}]", depth + 1)
    elif origin is dict:
        for key, one in _of(dict, value, where).items():
            _check(arguments[1], one, f"{where}[{shown(key)}]", depth + 1)
    elif isinstance(hint, type) and issubclass(hint, _Union):
        _check_union(hint, _of(dict, value, where), where, depth)
    elif is_dataclass(hint) and isinstance(hint, type):
        _check_fields(hint, _of(dict, value, where), where, depth)
    else:
        _check_plain(hint, value, where)


def _check_union(kind: type, value: dict[str, object], where: str, depth: int) -> None:
    hints = _hints(kind)
    if len(value) != 1 or next(iter(value)) not in {field.name for field in fields(kind)}:
        raise NotAllowed(where, f"is {shown(value)}; expected one of {', '.join(hints)}")
    ((name, one),) = value.items()
    _check(hints[name], one, f"{where}.{name}", depth + 1)


def _check_fields(kind: type, value: dict[str, object], where: str, depth: int) -> None:
    hints = _hints(kind)
    for field in fields(kind):
        if field.name in value:
            _check(hints[field.name], value[field.name], f"{where}.{field.name}", depth + 1)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise NotAllowed(f"{where}.{field.name}", "is missing")


def _check_plain(hint: Any, value: object, where: str) -> None:
    if hint is float:
        fits = type(value) in (int, float) or value in _NUMBERS
    elif hint is int or (isinstance(hint, type) and issubclass(hint, IntEnum)):
        fits = type(value) is int and -_LARGEST < value < _LARGEST
    else:
        fits = hint in (str, bool) and type(value) is hint
    if not fits:
        raise NotAllowed(where, f"is {shown(value)}; expected {getattr(hint, '__name__', hint)}")


def _of(kind: type, value: object, where: str) -> Any:
    if type(value) is not kind:
        raise NotAllowed(where, f"is {shown(value)}; expected a JSON {kind.__name__}")
    return value
