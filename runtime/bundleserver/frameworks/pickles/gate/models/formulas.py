"""The text of a statsmodels formula, which patsy or formulaic evaluate as Python during a load.

So it may have only what is written in formulas, and nothing of it may grow: numbers and powers,
the terms that it multiplies out to, the columns that those become with the table.
"""

from __future__ import annotations

import ast
import io
import keyword
import math
import tokenize
from collections.abc import Sequence
from typing import Any

from bundleserver.frameworks.pickles.gate.models.formula_values import (
    BASES,
    DEEPEST,
    LARGEST_DEGREE,
    LARGEST_POWER,
    NUMPY,
    Values,
    could_run,
    is_call,
    too_large,
)
from bundleserver.frameworks.pickles.gate.refusal import Refused

_LONGEST = 10_000
_MOST_TERMS = 1_000
_MOST_FACTORS = 8
_MOST_LEVELS = 1_000
_MOST_COLUMNS = 20_000
_MOST_CELLS = 100_000_000
_SIGNS = frozenset("+ - * / ** : ( ) ~ , = | [ ] < > <= >= == !=".split())  # noqa: SIM905
_ENDS = frozenset(
    {tokenize.NEWLINE, tokenize.NL, tokenize.ENDMARKER, tokenize.INDENT, tokenize.DEDENT}
)
_Term = frozenset[str]


def check_formula(text: object, table: Any = None) -> None:
    """Check that a formula has columns, numbers, signs and well-known functions only, and few.

    Args:
        text: the formula.
        table: what it is evaluated on; without it nothing is said of columns.

    Raises:
        Refused: it has anything else, or becomes larger than a model is.
    """
    if type(text) is not str or len(text) > _LONGEST:
        raise Refused("a formula is no text, or a very long one")
    tokens = _tokens(text)
    depth = 0
    for at, token in enumerate(tokens):
        depth += (token.string in ("(", "[")) - (token.string in (")", "]"))
        if depth > DEEPEST:
            raise too_large(text, "brackets inside of each other, more than are evaluated")
        if not _is_allowed(tokens, at):
            raise could_run(token.string, text)
    sides = "\0".join(_python(token) for token in tokens).split("\0~\0")
    if sides and sides[0].startswith("~\0"):
        sides[0] = sides[0][2:]
    if len(sides) > 2:
        raise Refused(f"the formula '{text:.80}' cannot be read")
    for side in sides:
        _check_side(side.replace("\0", " "), text, table)


def _tokens(text: str) -> list[tokenize.TokenInfo]:
    try:
        lines = io.StringIO(" ".join(text.split())).readline
        return [token for token in tokenize.generate_tokens(lines) if token.type not in _ENDS]
    except (tokenize.TokenError, SyntaxError, ValueError) as error:
        raise Refused(f"the formula '{text:.80}' cannot be read") from error


def _python(token: tokenize.TokenInfo) -> str:
    # Whatever ':' becomes in terms, '*' becomes too, and more.
    is_interaction = token.type == tokenize.OP and token.string == ":"
    return "*" if is_interaction else token.string


def _is_allowed(tokens: Sequence[tokenize.TokenInfo], at: int) -> bool:
    token, before = tokens[at], tokens[at - 1].string if at else ""
    if token.type == tokenize.NUMBER:
        return True
    if token.type == tokenize.STRING:
        return token.string[0] in "'\"" and "\\" not in token.string
    if token.type == tokenize.OP and token.string == ".":
        # Python allows spaces around it, which nobody writes.
        is_close = at > 0 and tokens[at - 1].end == token.start
        return before in NUMPY and is_close
    if token.type == tokenize.OP:
        return token.string in _SIGNS
    is_name = token.type == tokenize.NAME and not keyword.iskeyword(token.string)
    return is_name and "__" not in token.string


def _check_side(side: str, text: str, table: Any) -> None:
    try:
        tree = ast.parse(f"({side})", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Refused(f"the formula '{text:.80}' cannot be read") from error
    reader = _Reader(text, table)
    terms = reader.terms(tree, 0)
    if table is None:
        return
    columns = sum(math.prod(reader.width(factor) for factor in term) for term in terms)
    if columns > _MOST_COLUMNS or columns * len(table) > _MOST_CELLS:
        raise too_large(text, f"{columns} columns for {len(table)} rows, more than are evaluated")


class _Reader(Values):
    """Reads one side of a formula."""

    def __init__(self, text: str, table: Any) -> None:
        super().__init__(text, table)
        self._widths: dict[str, int] = {}

    def width(self, factor: str) -> int:
        """Return the columns that a factor becomes at most."""
        return self._widths.get(factor, 1)

    def terms(self, node: ast.expr, depth: int) -> list[_Term]:
        """Return the terms that a part of a formula is multiplied out to, as often as it is."""
        if depth > DEEPEST:
            raise too_large(self.text, "parts inside of each other, more than are evaluated")
        match node:
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                return self._power(self.terms(left, depth + 1), right)
            case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.BitOr(), right=right):
                # A sum of many terms is deep to the left.
                parts = [right]
                while isinstance(left, ast.BinOp) and isinstance(left.op, (ast.Add, ast.Sub)):
                    parts.append(left.right)
                    left = left.left
                found = [term for part in (left, *parts) for term in self.terms(part, depth + 1)]
                return self._few(found)
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                ours, others = self.terms(left, depth + 1), self.terms(right, depth + 1)
                return self._few([*ours, *others, *self._products(ours, others)])
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                ours, others = self.terms(left, depth + 1), self.terms(right, depth + 1)
                all_ours = frozenset[str]().union(*ours)
                return self._few([*ours, *self._products([all_ours], others)])
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
                return self.terms(operand, depth + 1)
            case ast.Compare(left=left):
                # Of 'a + x > 1' the second term is compared, whatever Python says.
                self.check(node, depth)
                return self._few([*self.terms(left, depth + 1), self._factor(node)])
            case ast.Constant(value=value) if type(value) in (int, float):
                return [frozenset()]
        self.check(node, depth)
        return [self._factor(node)]

    def _few(self, terms: list[_Term]) -> list[_Term]:
        if len(terms) > _MOST_TERMS:
            raise too_large(self.text, f"more than {_MOST_TERMS} terms")
        return terms

    def _products(self, ours: list[_Term], others: list[_Term]) -> list[_Term]:
        if len(ours) * len(others) > _MOST_TERMS:
            raise too_large(self.text, f"more than {_MOST_TERMS} terms")
        products = [one | other for one in ours for other in others]
        if any(len(product) > _MOST_FACTORS for product in products):
            raise too_large(self.text, f"a term of more than {_MOST_FACTORS} factors")
        return products

    def _power(self, terms: list[_Term], times: ast.expr) -> list[_Term]:
        is_number = isinstance(times, ast.Constant) and type(times.value) is int
        if not is_number or not 1 <= times.value <= LARGEST_POWER:  # type: ignore[attr-defined]
            raise too_large(self.text, f"a power that is no number up to {LARGEST_POWER}")
        found = terms
        for _ in range(1, min(times.value, len(terms))):  # type: ignore[attr-defined]
            found = self._few([*terms, *self._products(found, terms)])
        return found

    def _factor(self, node: ast.expr) -> _Term:
        name = ast.unparse(node)
        if self.table is not None and name not in self._widths:
            self._widths[name] = self._width_of(node)
        return frozenset({name})

    def _width_of(self, node: ast.expr) -> int:
        called = node.func.id if is_call(node) else ""  # type: ignore[attr-defined]
        if called in BASES:
            return LARGEST_DEGREE + 4
        sizes = [1]
        for name in self.columns_in(node):
            column = self.table[name]
            if called == "C" or column.dtype.kind not in "biufcmM":
                sizes.append(int(column.astype(object).map(str).nunique()))
        if max(sizes) > _MOST_LEVELS:
            raise too_large(self.text, f"a column of more than {_MOST_LEVELS} levels")
        return max(sizes)
