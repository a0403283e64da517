"""Expressions in an archive, which torch evaluates as Python: only those of a small grammar pass.

What passes is written anew from what was parsed, so that nobody parses the file's own text again.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from bundleserver.frameworks.torch.checked.problems import NotAllowed, shown

_LONGEST = 4_000
_MOST_NODES = 600
_DEEPEST = 30
_LARGEST = 1 << 64
_MOST_BITS = 1 << 10
"""The bits that a value of an expression may have; a size has 64 at most."""
_MOST_TERMS = 100
"""The terms that an expression may have once sympy has multiplied it out."""
_SYMBOL = re.compile(r"(s|zf)\d{1,9}|(u|zuf)\d{1,4}")
_FLOAT = re.compile(r"[+-]?\d{1,40}(\.\d{0,60})?([eE][+-]?\d{1,3})?")
_ASSUMPTIONS = frozenset({"positive", "negative", "nonnegative", "integer", "real", "zero"})
_FUNCTION = re.compile(
    r"Add|Mul|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|ModularIndexing|(Int|Float)TrueDiv"
    r"|ToFloat|TruncTo(Int|Float)|(Floor|Ceil|Round)ToInt|Identity|Equality|Unequality"
    r"|(Strict)?(Greater|Less)Than|Eq|Ne|Ge|Le|Gt|Lt|And|Or|Not|Where"
)
_POWERS = frozenset({"Pow", "PowByNatural", "FloatPow"})
_CONSTANTS = frozenset({"true", "false"})
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod, ast.Div)
_COMPARED = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)
_GUARD_KEY = re.compile(r"[A-Za-z_]\w{0,199}")


def checked_expression(text: str, where: str) -> str:
    """Return an expression of sizes, as ``Mul(Integer(2), Symbol('s77', integer=True))``.

    Raises:
        NotAllowed: it is anything else.
    """
    tree = _parsed(text, where)
    _check_size(tree, text, where)
    _check_work(tree, where)
    return ast.unparse(tree)


def checked_guard(text: str, where: str) -> str:
    """Return a condition on the inputs' sizes, as ``L['x'].size()[0] % 2 == 0``.

    Raises:
        NotAllowed: it is anything else.
    """
    tree = _parsed(text, where)
    _check_condition(tree, text, where)
    return ast.unparse(tree)


def _parsed(text: str, where: str) -> ast.expr:
    if len(text) > _LONGEST or not text.isascii() or not text.isprintable():
        raise NotAllowed(where, f"is {shown(text)}; expected an expression of sizes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NotAllowed(where, f"is {shown(text)}; expected an expression of sizes") from error
    if sum(1 for _ in ast.walk(tree)) > _MOST_NODES:
        raise NotAllowed(where, "is an expression with too many parts")
    return tree


def _refused(node: ast.AST, text: str, where: str) -> NotAllowed:
    part = ast.get_source_segment(text, node) or text
    return NotAllowed(where, f"has {shown(part)}, which is not an expression of sizes")


def _check_size(node: ast.expr, text: str, where: str) -> None:
    match node:
        case ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str() as name)]):
            fits = _SYMBOL.fullmatch(name) is not None and all(
                keyword.arg in _ASSUMPTIONS
                and isinstance(keyword.value, ast.Constant)
                and type(keyword.value.value) is bool
                for keyword in node.keywords
            )
        case ast.Call(func=ast.Name(id="Integer"), args=[number], keywords=[]):
            fits = _is_integer(number, _LARGEST)
        case ast.Call(func=ast.Name(id="Rational"), args=[one, two], keywords=[]):
            fits = _is_integer(one, _LARGEST) and _is_integer(two, _LARGEST)
        case ast.Call(func=ast.Name(id="Float"), args=[ast.Constant(value=str() as number)]):
            fits = _FLOAT.fullmatch(number) is not None and all(
                keyword.arg == "precision" and _is_integer(keyword.value, 100)
                for keyword in node.keywords
            )
        case ast.Call(func=ast.Name(id=name), args=[base, exponent], keywords=[]) if (
            name in _POWERS
        ):
            _check_size(base, text, where)
            fits = _is_exponent(exponent)
        case ast.Call(func=ast.Name(id=name), keywords=[]) if _FUNCTION.fullmatch(name):
            for argument in node.args:
                _check_size(argument, text, where)
            fits = True
        case ast.Name(id=name):
            fits = name in _CONSTANTS or _SYMBOL.fullmatch(name) is not None
        case _:
            fits = _is_integer(node, _LARGEST)
    if not fits:
        raise _refused(node, text, where)


@dataclass(frozen=True)
class _Work:
    """The most that a part may become: bits of its value, terms, parts inside of each other."""

    bits: int
    terms: int
    depth: int


_OF_A_SYMBOL = _Work(64, 1, 1)


def _check_work(tree: ast.expr, where: str) -> None:
    """Refuse what is small as text, and large once it is evaluated."""
    _work_of(tree, where)


def _work_of(node: ast.expr, where: str) -> _Work:
    if not isinstance(node, ast.Call):
        return _OF_A_SYMBOL
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name in ("Symbol", "Integer", "Rational", "Float"):
        return _work_of_number(node, name)
    if name in _POWERS:
        base, times = _work_of(node.args[0], where), _highest(node.args[1])
        work = _Work(base.bits * times, base.terms**times, base.depth + 1)
    else:
        work = _combined([_work_of(argument, where) for argument in node.args], name)
    if work.bits > _MOST_BITS or work.terms > _MOST_TERMS or work.depth > _DEEPEST:
        raise NotAllowed(where, "is an expression whose values are too large to be sizes")
    return work


def _work_of_number(node: ast.Call, name: str) -> _Work:
    if name != "Float":
        return _Work(128 if name == "Rational" else 64, 1, 1)
    text = node.args[0].value if isinstance(node.args[0], ast.Constant) else ""
    exponent = str(text).lower().partition("e")[2] or "0"
    return _Work(256 + 4 * abs(int(exponent)), 1, 1)


def _combined(parts: list[_Work], name: str) -> _Work:
    """Return the work of a function: sums grow by terms, everything else as products do."""
    depth = 1 + max((part.depth for part in parts), default=0)
    if name == "Add":
        bits = max((part.bits for part in parts), default=0) + len(parts)
        return _Work(bits, sum(part.terms for part in parts), depth)
    if name == "Mul":
        bits = sum(part.bits for part in parts)
        return _Work(bits, math.prod(min(part.terms, _MOST_TERMS + 1) for part in parts), depth)
    bits = sum(part.bits for part in parts)
    return _Work(bits, sum(part.terms for part in parts), depth)


def _highest(exponent: ast.expr) -> int:
    """Return a whole number that is no less than an exponent, by the numbers in it."""
    numbers = [node.value for node in ast.walk(exponent) if isinstance(node, ast.Constant)]
    return max(1, *(abs(int(number)) for number in numbers if isinstance(number, int)))


def _is_integer(node: ast.expr, largest: int) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    return isinstance(node, ast.Constant) and type(node.value) is int and node.value < largest


def _is_exponent(node: ast.expr) -> bool:
    match node:
        case ast.Call(func=ast.Name(id="Integer"), args=[number], keywords=[]):
            return _is_integer(number, 5)
        case ast.Call(func=ast.Name(id="Rational"), args=[one, two], keywords=[]):
            return _is_integer(one, 5) and _is_integer(two, 5)
    return _is_integer(node, 5)


def _check_condition(node: ast.expr, text: str, where: str) -> None:
    for part in _parts_of(node):
        if part is None:
            raise _refused(node, text, where)
        _check_condition(part, text, where)


def _parts_of(node: ast.expr) -> Iterator[ast.expr | None]:
    """Yield what has to be checked of a part of a condition; None if it may not be there."""
    match node:
        case ast.Compare(left=left, ops=ops, comparators=others):
            yield from (left, *others)
            yield from (None for op in ops if not isinstance(op, _COMPARED))
        case ast.BoolOp(values=values):
            yield from values
        case ast.UnaryOp(op=ast.USub() | ast.Not(), operand=operand):
            yield operand
        case ast.BinOp(left=left, op=op, right=right) if isinstance(op, _OPERATORS):
            yield from (left, right)
        case ast.Call(func=ast.Name(id="max" | "min"), args=[_, _, *_], keywords=[]):
            yield from node.args
        case ast.Constant(value=value):
            if not (isinstance(value, (int, float)) and value < _LARGEST):
                yield None
        case ast.Subscript(
            value=ast.Call(
                func=ast.Attribute(value=source, attr="size" | "stride"), args=[], keywords=[]
            ),
            slice=ast.Constant(value=int()),
        ):
            if not _is_input(source):
                yield None
        case _:
            if not _is_input(node):
                yield None


def _is_input(node: ast.expr) -> bool:
    """Ask whether a part names an input: ``L['x']``, ``L['x'][0]``, ``L['x']['key']``."""
    steps = 0
    while isinstance(node, ast.Subscript):
        key = node.slice
        if not isinstance(key, ast.Constant):
            return False
        is_name = type(key.value) is str and _GUARD_KEY.fullmatch(key.value) is not None
        if not (is_name or (type(key.value) is int and key.value < 100_000)):
            return False
        node, steps = node.value, steps + 1
    return isinstance(node, ast.Name) and node.id == "L" and steps > 0
