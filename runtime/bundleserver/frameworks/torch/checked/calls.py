"""Kernels that believe the sizes of what they get: their arguments are compared before each call.

``torch.export`` writes them into decomposed programs. Called by torch's own modules they get what
fits; called by a file they would read, or write, whatever lies behind their tensors. The other
operators of the list compare sizes themselves, which ``tests/hostile/test_operators.py`` tries.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import torch

from bundleserver.frameworks.torch.checked.problems import NotAllowed
from bundleserver.frameworks.torch.checked.sizes import CHECKS

_ABOUT_SIZES = re.compile(r"aten::(_assert_scalar|_functional_assert_scalar|sym_\w+)")
_LARGEST_INTEGER = 1 << 64
_LONGEST_SHIFT = 64


def check_targets(program: Any) -> None:
    """Refuse calls that write into outputs that they are given: no exported program has any.

    Raises:
        NotAllowed: names the operator.
    """
    for graph_module in _graph_modules(program.graph_module):
        for node in graph_module.graph.nodes:
            schema = getattr(node.target, "_schema", None)
            for argument in schema.arguments if schema is not None else ():
                if argument.is_out:
                    raise NotAllowed(f"it calls '{node.target}',", "which writes into its outputs")
            if schema is not None and schema.name.startswith("aten::"):
                is_known = _ABOUT_SIZES.fullmatch(schema.name) is not None
                if not is_known and "Tensor" not in str(schema):
                    raise NotAllowed(f"it calls '{node.target}',", "which is not for tensors")


def with_checks(module: torch.nn.Module) -> None:
    """Put a check before each call of a program that needs one."""
    for graph_module in _graph_modules(module):
        for node in graph_module.graph.nodes:
            if node.op == "call_function":
                node.target = checked_call(node.target)
        graph_module.recompile()


def checked_call(target: Any) -> Any:
    """Return an operator with its check before it; itself if it needs none."""
    schema = getattr(target, "_schema", None)
    if schema is None:
        return _checked_number(target) if target in _NUMBERS else target
    check = CHECKS.get(schema.name.removeprefix("aten::"))
    if check is None or not schema.name.startswith("aten::"):
        return target
    defaults = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
    names = [argument.name for argument in schema.arguments]

    @functools.wraps(target.op, assigned=())
    def call(*args: Any, **keywords: Any) -> Any:
        given = {**defaults, **dict(zip(names, args, strict=False)), **keywords}
        if not check(given):
            raise RuntimeError(f"the sizes of what '{target}' gets do not fit each other")
        return target(*args, **keywords)

    call.__name__ = schema.name.replace("::", "_")
    return call


def _graph_modules(module: torch.nn.Module) -> list[torch.fx.GraphModule]:
    return [one for one in module.modules() if isinstance(one, torch.fx.GraphModule)]


def _numbers() -> frozenset[object]:
    import math
    import operator

    names = "add sub mul truediv floordiv mod neg pos and_ or_ lshift rshift".split()  # noqa: SIM905
    return frozenset({math.trunc, *(getattr(operator, name) for name in names)})


_NUMBERS = _numbers()
_KINDS = (int, float, bool, torch.SymInt, torch.SymFloat, torch.SymBool)


def _checked_number(function: Any) -> Any:
    """Return a function of Python's that takes and returns the sizes of tensors, not what grows."""
    is_shift = function.__name__.endswith("shift")

    def call(*args: Any) -> Any:
        if not all(isinstance(arg, _KINDS) for arg in args):
            raise RuntimeError(f"'{function.__name__}' is for numbers")
        if is_shift and not 0 <= args[1] <= _LONGEST_SHIFT:
            raise RuntimeError("a number is shifted too far")
        result = function(*args)
        if type(result) is int and abs(result) >= _LARGEST_INTEGER:
            raise RuntimeError("a number is too large for a size")
        return result

    call.__name__ = f"number_{function.__name__}"
    return call
