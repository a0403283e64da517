"""What a pickle may use of the code that ships with it, where lists say what pickles may name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

from bundleserver.errors import LoadError
from bundleserver.frameworks.interface import named_line, passes_through
from bundleserver.frameworks.isolated_code import IsolatedCode
from bundleserver.frameworks.pickles.gate.listed import refuse_unlisted
from bundleserver.frameworks.pickles.made import ClassName
from bundleserver.frameworks.trust import CodeTrust


def with_own_names(path: Path, named: frozenset[ClassName], trust: CodeTrust) -> CodeTrust:
    """Refuse what no list names, and let a pickle name what its own code defines besides.

    Called while that code is active. Whoever may ship code may name it: it runs anyway.

    Raises:
        LoadError: lists the names that are not listed, or says which its own code does not have.
    """
    if trust.own is None:
        refuse_unlisted(path, named, trust)
        return trust
    modules = trust.own.modules
    # First, so that no code of the bundle runs for a file that is refused anyway.
    refuse_unlisted(path, [name for name in named if not modules.owns(name.module)], trust)
    return replace(trust, allowed=trust.allowed | frozenset(_defined_in(modules, named, path)))


def _defined_in(modules: IsolatedCode, named: frozenset[ClassName], path: Path) -> Iterator[str]:
    """Yield the names of a pickle that the bundle's own code defines, not what it imported.

    Raises:
        LoadError: one is not defined there.
    """
    for name in sorted(named):
        if not modules.owns(name.module):
            continue
        try:
            found: Any = import_module(name.module)
            for part in name.qualname.split("."):
                found = vars(found)[part]
        except BaseException as error:  # the code runs here
            if passes_through(error):
                raise
            raise LoadError(
                f"'{path}' uses '{name}', which the model's code does not have: {named_line(error)}"
            ) from error
        is_own = isinstance(found, (type, FunctionType)) and modules.owns(found.__module__)
        if not is_own or found.__qualname__ != name.qualname:
            raise LoadError(
                f"'{path}' uses '{name}', which the model's code does not define; "
                "--pickle_policy=listed opens only classes and functions that it defines itself"
            )
        yield str(name)
