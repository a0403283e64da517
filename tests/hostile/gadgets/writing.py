"""Pickles that nobody's ``__reduce__`` would write."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Gadget:
    """A hostile file.

    Attributes:
        name: what it tries.
        write: makes the file or files in a directory; returns the one to open.
        framework: which opens it; empty: the function for pickles.
        uses: methods that are called on what was opened, as a probe would.
        ran: expression that is true if it had its way, beside the file ``canary``.
        prepare: statement that its process runs before.
        theoretical: why it does not run even without a gate; empty: it does.
    """

    name: str
    write: Callable[[Path], Path]
    framework: str = ""
    uses: tuple[str, ...] = ()
    ran: str = "False"
    prepare: str = ""
    theoretical: str = ""


CORE = np.zeros(0).__reduce__()[0].__module__.rpartition(".")[0]
"""The package of numpy's own functions, as this version's pickles name it."""

GADGETS: dict[str, Gadget] = {}


def add(name: str, content: Callable[[str], object], *, protocol: int = 4, **others: Any) -> None:
    """Add a gadget of one pickle: bytes, or objects for :func:`dumps`.

    ``content`` gets the path of the canary.
    """

    def write(directory: Path) -> Path:
        made = content(str(directory / "canary"))
        path = directory / "model.pkl"
        path.write_bytes(made if isinstance(made, bytes) else dumps(made, protocol))
        return path

    add_files(name, write, **others)


def add_files(name: str, write: Callable[[Path], Path], **others: Any) -> None:
    """Add a gadget that writes its own files."""
    if name in GADGETS:
        raise ValueError(name)
    GADGETS[name] = Gadget(name, write, **others)


class Name:
    """A class or function, by a name that only its process must know."""

    def __init__(self, qualname: str, module: str = "") -> None:
        self.module = module or qualname.rpartition(".")[0]
        self.name = qualname if module else qualname.rpartition(".")[2]


class Call:
    """The result of a call, and the state that it gets."""

    code = pickle.REDUCE

    def __init__(self, of: object, *args: object, state: object = None) -> None:
        self.of, self.args, self.state = of, args, state


class New(Call):
    """An object that is made without ``__init__``."""

    code = pickle.NEWOBJ


class State:
    """Anything that gets a state, or items (with their instruction)."""

    def __init__(self, of: object, *parts: object, code: bytes = pickle.BUILD) -> None:
        self.of, self.parts, self.code = of, parts, code


_Pickler: Any = pickle._Pickler  # type: ignore[attr-defined]  # typeshed lacks it


class _Writer(_Pickler):  # type: ignore[misc]  # as above
    def save(self, thing: object, save_persistent_id: bool = True) -> None:
        if isinstance(thing, (Call, State)) and id(thing) in self.memo:
            self.write(self.get(self.memo[id(thing)][0]))
        elif isinstance(thing, Name):
            self._save_name(thing)
        elif isinstance(thing, Call):
            self._save_call(thing)
        elif isinstance(thing, State):
            self._save_state(thing)
        else:
            super().save(thing, save_persistent_id)

    def _save_name(self, name: Name) -> None:
        if self.proto >= 4:
            super().save(name.module)
            super().save(name.name)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(pickle.GLOBAL + f"{name.module}\n{name.name}\n".encode())

    def _save_call(self, call: Call) -> None:
        self.save(call.of)
        self.save(call.args)
        self.write(call.code)
        self.memoize(call)
        if call.state is not None:
            self.save(call.state)
            self.write(pickle.BUILD)

    def _save_state(self, given: State) -> None:
        self.save(given.of)
        if given.code in (pickle.SETITEMS, pickle.APPENDS, pickle.ADDITEMS):
            self.write(pickle.MARK)
        for part in given.parts:
            self.save(part)
        self.write(given.code)


def dumps(thing: object, protocol: int = 4) -> bytes:
    """Pickle a thing, what is described in it as it is described."""
    written = io.BytesIO()
    _Writer(written, protocol).dump(thing)
    return written.getvalue()


def text(value: str) -> bytes:
    """Write a string."""
    data = value.encode()
    return pickle.BINUNICODE + len(data).to_bytes(4, "little") + data


def named(module: str, name: str) -> bytes:
    """Write a name, as all protocols can."""
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def many(*things: object) -> Call:
    """Do several things one after the other; the result is a tuple."""
    return Call(tuple, list(things))


def mkdir(path: str) -> Call:
    """Make the canary."""
    return Call(Name("os.mkdir"), path)


def source(path: str) -> str:
    """Return Python code that makes the canary."""
    return f"__import__('os').mkdir({path!r})"
