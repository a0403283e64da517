"""The operators that a checked program may call: those that compute."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache
from pathlib import Path

_LIST = Path(__file__).with_name("operators.txt")
"""Those of ATen that compute outputs from inputs and nothing else. Left out: what reads or writes
files, memory that nobody wrote, raw storages, backends, sparse and quantized layouts, training, and
kernels that trust indices of their input."""

_ATEN = re.compile(r"torch\.ops\.aten\.([a-z_A-Z0-9]{1,80})\.([a-z_A-Z0-9]{1,80})")
_OPERATOR = re.compile(r"torch\.ops\.[A-Za-z_]\w*\.[A-Za-z_]\w*\.[A-Za-z_]\w*")
_NUMBERS = re.compile(
    r"_operator\.(eq|ne|le|ge|lt|gt|neg|pos|mul|add|sub|floordiv|mod|truediv|and_|or_|[lr]shift)"
    r"|math\.trunc|torch\.sym_(not|int|float|ite|max|min)|torch\._sym_sqrt"
)
_WITH_GRAPHS = frozenset(
    f"torch.ops.higher_order.{name}"
    for name in ("cond", "wrap_with_set_grad_enabled", "wrap_with_autocast")
)


def is_listed(target: str, allowed: Collection[str]) -> bool:
    """Ask whether a program may call an operator of that name."""
    match = _ATEN.fullmatch(target)
    if match is not None and match[1] in _aten() and not match[2].startswith("__"):
        return True
    if _NUMBERS.fullmatch(target) or target in _WITH_GRAPHS:
        return True
    return target in allowed and _OPERATOR.fullmatch(target) is not None and "__" not in target


@cache
def _aten() -> frozenset[str]:
    return frozenset(_LIST.read_text().split())
