"""What Python evaluates in a formula of statsmodels: columns, numbers, well-known functions.

Nothing of it may grow: a power of a power, a text times a number, the degree of a spline.
"""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass
from typing import Any

from bundleserver.frameworks.pickles.gate.refusal import Refused

DEEPEST = 40
LARGEST_POWER = 10
LARGEST_DEGREE = 100
_MOST_LABELS = 2_000
_LARGEST = 1 << 53
_CONTRASTS = frozenset({"Diff", "Helmert", "Poly", "Sum", "Treatment"})
BASES = frozenset({"bs", "cc", "cr"})
_FUNCTIONS = _CONTRASTS | BASES | {
    "C", "I", "Q", "center", "exp", "log", "log10", "log1p", "log2", "scale", "sqrt", "standardize",
}  # fmt: skip
_OF_NUMPY = frozenset(
    {
        "abs", "arcsinh", "arctan", "cbrt", "ceil", "clip", "cos", "cosh", "exp", "expm1", "floor",
        "fmax", "fmin", "hypot", "isfinite", "isnan", "log", "log10", "log1p", "log2", "maximum",
        "minimum", "power", "rint", "round", "sign", "sin", "sinh", "sqrt", "square", "tan", "tanh",
        "trunc", "where",
    }
)  # fmt: skip
NUMPY = frozenset({"np", "numpy"})
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow)
_COMPARED = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)


def could_run(what: str, text: str) -> Refused:
    """Return the refusal of what is not evaluated."""
    return Refused(
        f"'{what:.40}' in the formula '{text:.80}' could run code; expected columns and functions "
        "such as 'np.log'"
    )


def too_large(text: str, what: str) -> Refused:
    """Return the refusal of what would grow."""
    return Refused(f"the formula '{text:.80}' has {what}")


@dataclass
class Values:
    """Checks what Python evaluates of one formula.

    Attributes:
        text: the formula, for messages.
        table: what it is evaluated on, or None.
    """

    text: str
    table: Any

    def columns_in(self, node: ast.expr) -> list[str]:
        """Return the columns that a part uses.

        Raises:
            Refused: the table has no such column.
        """
        names = []
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and part.id not in NUMPY | _FUNCTIONS:
                names.append(part.id)
            elif is_call(part) and part.func.id == "Q":  # type: ignore[attr-defined]
                names.append(part.args[0].value)  # type: ignore[attr-defined]
        for name in names:
            if name not in self.table.columns:
                raise Refused(f"the formula '{self.text:.80}' has '{name:.40}', which is no column")
        return names

    def check(self, node: ast.expr, depth: int) -> None:
        """Check a part that Python evaluates."""
        if depth > DEEPEST:
            raise too_large(self.text, "parts inside of each other, more than are evaluated")
        match node:
            case ast.Name(id=name) if name not in NUMPY | _FUNCTIONS:
                return None
            case ast.Constant(value=value) if type(value) in (int, float):
                if abs(value) <= _LARGEST or value == math.inf:  # type: ignore[arg-type]
                    return None
                raise too_large(self.text, "a number that is too large")
            case ast.Compare(left=left, ops=ops, comparators=[other]):
                is_label = isinstance(other, ast.Constant) and type(other.value) is str
                if isinstance(ops[0], _COMPARED):
                    self.check(left, depth + 1)
                    return None if is_label else self.check(other, depth + 1)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
                return self.check(operand, depth + 1)
            case ast.BinOp(op=op) if isinstance(op, _ARITHMETIC):
                return self._check_arithmetic(node, depth)
            case ast.Call():
                return self._check_call(node, depth)
        raise could_run(ast.unparse(node), self.text)

    def _check_arithmetic(self, node: ast.BinOp, depth: int) -> None:
        self.check(node.left, depth + 1)
        if self.table is not None:
            for name in self.columns_in(node):
                # Objects may be texts and lists, which a product repeats.
                if self.table[name].dtype.kind not in "biufcmM":
                    raise Refused(f"the formula '{self.text:.80}' computes with texts of '{name}'")
        if not isinstance(node.op, ast.Pow):
            return self.check(node.right, depth + 1)
        power = node.right.operand if isinstance(node.right, ast.UnaryOp) else node.right
        is_small = isinstance(power, ast.Constant) and type(power.value) in (int, float)
        has_column = any(isinstance(part, ast.Name) for part in ast.walk(node.left))
        powers = sum(isinstance(part, ast.Pow) for part in ast.walk(node))
        if not is_small or abs(power.value) > LARGEST_POWER or not has_column or powers > 2:  # type: ignore[attr-defined]
            raise too_large(self.text, f"a power other than of a column, up to {LARGEST_POWER}")
        return None

    def _check_call(self, node: ast.Call, depth: int) -> None:
        match node.func:
            case ast.Attribute(value=ast.Name(id=owner), attr=name):
                if owner in NUMPY and name in _OF_NUMPY and node.args and not node.keywords:
                    for one in node.args:
                        self.check(one, depth + 1)
                    return None
            case ast.Name(id=name) if name in _FUNCTIONS:
                if name == "Q":
                    if len(node.args) == 1 and not node.keywords and _is_text(node.args[0]):
                        return None
                else:
                    return self._check_function(node, name, depth)
        raise could_run(ast.unparse(node), self.text)

    def _check_function(self, node: ast.Call, name: str, depth: int) -> None:
        first = 0 if name in _CONTRASTS else 1
        for one in node.args[:first]:
            self.check(one, depth + 1)
        given = [*node.args[first:], *(one.value for one in node.keywords)]
        names = [*("" for _ in node.args[first:]), *(one.arg or "**" for one in node.keywords)]
        for one, of in zip(given, names, strict=True):
            if of in ("**", "data") or (name in {"I", "exp", "log", "sqrt"}):
                raise could_run(ast.unparse(node), self.text)
            if name in BASES and of in ("", "df", "degree") and not _is_degree(one):
                raise too_large(self.text, f"a degree that is no number to {LARGEST_DEGREE}")
            self._check_option(one, depth)

    def _check_option(self, node: ast.expr, depth: int) -> None:
        """Check a label, a number, a list of those, or a contrast."""
        match node:
            case ast.List(elts=items) | ast.Tuple(elts=items) if len(items) <= _MOST_LABELS:
                for item in items:
                    if not isinstance(item, (ast.Constant, ast.UnaryOp)):
                        raise could_run(ast.unparse(node), self.text)
                    self._check_option(item, depth + 1)
                return None
            case ast.Name(id=name) if name in _CONTRASTS:
                return None
            case ast.Constant(value=value) if type(value) in (str, bool, type(None)):
                return None
            case ast.Call(func=ast.Name(id=name)) if name in _CONTRASTS:
                return self._check_call(node, depth + 1)
            case ast.Constant() | ast.UnaryOp():
                return self.check(node, depth + 1)
        raise could_run(ast.unparse(node), self.text)


def is_call(node: ast.AST) -> bool:
    """Ask whether a part calls a function by its plain name."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is str


def _is_degree(node: ast.expr) -> bool:
    is_number = isinstance(node, ast.Constant) and type(node.value) is int
    return is_number and 0 <= node.value <= LARGEST_DEGREE  # type: ignore[attr-defined]
