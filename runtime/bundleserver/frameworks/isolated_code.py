"""Python code of one version of a model, isolated from that of every other.

Python has one table of modules per process, so two versions with different modules of the same
name would get each other's. Here a version's modules are in ``sys.modules`` only while the version
is loaded, under a lock; afterwards only its objects refer to them. An ``import`` that runs later,
inside a function, calls the version's own ``__import__``, from the ``__builtins__`` of the module
that defines the function.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.abc
import sys
import threading
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
    SourcelessFileLoader,
)
from importlib.util import resolve_name
from pathlib import Path
from pickle import PicklingError
from types import ModuleType
from typing import Any, TypeVar, cast

from bundleserver.frameworks.giving_up import turn
from bundleserver.frameworks.imports.lean import without

G = TypeVar("G")
T = TypeVar("T")

_LOOKING_UP = frozenset({"inspect", "pickle", "pkgutil", "typing"})
"""Modules of Python that look up the module of a class or function by its name."""

_LOCK = threading.RLock()
"""Held while the modules of one version are in ``sys.modules``."""


class IsolatedCode:
    """The modules below one directory, for one version only. Safe for many threads."""

    def __init__(self, directory: Path) -> None:
        """Use a directory; its modules are imported on demand."""
        self._directory = directory
        self._names = frozenset(_top_level_names(directory))
        self._modules: dict[str, ModuleType] = {}
        self._builtins = {**vars(builtins), "__import__": self._import}
        self._depth = 0
        self._is_exclusive = False

    @property
    def names(self) -> frozenset[str]:
        """The names of its modules and packages, without what is inside of packages."""
        return self._names

    def owns(self, module: str) -> bool:
        """Ask whether a module of that name is in the directory."""
        return module.partition(".")[0] in self._names

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let plain imports find the version's modules in the block; other versions wait."""
        waits_for = f"the code in {self._directory} runs after that of another version has ended"
        with turn(_LOCK, waits_for), nullcontext() if self._depth else self._installed():
            yield

    def call(self, function: Callable[[G], T], given: G, copied: Callable[[G], G]) -> T:
        """Call code of the version; repeat it inside ``active`` if it does not find a module.

        Only code that looks up modules by itself fails so, e.g. when it opens a pickle. From then
        on all calls of the version are made inside ``active``, and none is repeated.

        Args:
            function: the code.
            given: what it takes, and may change.
            copied: copies that, so that a repeated call gets what the first one got.
        """
        if not self._is_exclusive:
            kept = copied(given)
            try:
                return function(given)
            except Exception as error:
                if not self._is_missing(error):
                    raise
            given, self._is_exclusive = kept, True
        with self.active():
            return function(given)

    def call_once(self, function: Callable[[], T]) -> T:
        """Do the same for what is called once, which says nothing of other calls."""
        try:
            return function()
        except Exception as error:
            if not self._is_missing(error):
                raise
        with self.active():
            return function()

    def _is_missing(self, error: Exception) -> bool:
        """Ask whether an error comes of a module of the version that was not found."""
        if isinstance(error, ModuleNotFoundError | KeyError):
            # A pickle imports a module, then looks for it in the table: KeyError: 'helper'.
            missing = error.name if isinstance(error, ImportError) else error.args[:1]
            name = missing[0] if isinstance(missing, tuple) and missing else missing
            if isinstance(name, str) and self.owns(name):
                return True
        # Others find no module, and raise something else for what it should have had.
        looked_up = False
        for frame, _ in traceback.walk_tb(error.__traceback__):
            looked_up |= frame.f_globals.get("__name__") in _LOOKING_UP
            if Path(frame.f_code.co_filename).is_relative_to(self._directory):
                looked_up = False
        return isinstance(error, PicklingError) or looked_up

    @contextmanager
    def _installed(self) -> Iterator[None]:
        hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if self.owns(name)}
        path = sys.path
        finder = _Finder(self._directory, self._names, self._builtins)
        sys.modules.update(self._modules)
        finders = sys.meta_path
        sys.meta_path = [finder, *finders]
        # For code that searches sys.path itself for data and namespace packages.
        sys.path = [str(self._directory), *path]
        importlib.invalidate_caches()
        self._depth += 1
        try:
            with _functions_by_value(self._builtins):
                yield
        finally:
            self._depth -= 1
            # New lists: a thread that iterates over the old ones must not skip an entry. What the
            # code added stays, and what it took away is there again.
            kept = [each for each in sys.meta_path if each is not finder]
            sys.meta_path = kept + [each for each in finders if each not in kept]
            sys.path = path
            for name in [name for name in sys.modules if self.owns(name)]:
                self._modules[name] = sys.modules.pop(name)
            sys.modules.update(hidden)

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002  # the names of __import__
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> ModuleType:
        """Replace ``__import__`` in the version's own code."""
        package = str((globals or {}).get("__package__") or "")
        if name == "importlib" and not level:
            return self._importlib
        if not self.owns(package if level else name):
            return builtins.__import__(name, globals, locals, fromlist, level)
        full = resolve_name("." * level + name, package) if level else name
        known = self._modules.get(full)
        # The usual case needs no lock: a function that imports a known module again.
        if known is not None and all(hasattr(known, wanted) for wanted in fromlist or ()):
            if fromlist:
                return known
            if not level:
                return self._modules[full.partition(".")[0]]
        with self.active():
            return builtins.__import__(name, globals, locals, fromlist, level)

    @cached_property
    def _importlib(self) -> ModuleType:
        """A copy of importlib whose ``import_module`` finds the version's modules."""

        def import_module(name: str, package: str | None = None) -> ModuleType:
            full = resolve_name(name, package)
            if not self.owns(full):
                return importlib.import_module(full)
            self._import(full)
            return self._modules.get(full) or sys.modules[full]

        mirrored = ModuleType("importlib", importlib.__doc__)
        vars(mirrored).update(vars(importlib), import_module=import_module)
        return mirrored


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of one directory before the other finders."""

    def __init__(
        self, directory: Path, names: frozenset[str], own_builtins: Mapping[str, object]
    ) -> None:
        self._directory = str(directory)
        self._names = names
        self._builtins = own_builtins

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module below the directory; None leaves it to the other finders."""
        if fullname.partition(".")[0] not in self._names:
            return None
        for directory in path if path is not None else [self._directory]:
            finder = FileFinder(
                directory,
                (ExtensionFileLoader, list(EXTENSION_SUFFIXES)),
                (cast(Any, self._loader), list(SOURCE_SUFFIXES)),
                (SourcelessFileLoader, list(BYTECODE_SUFFIXES)),
            )
            spec = finder.find_spec(fullname, target)
            if spec is not None:
                return spec
        return None

    def _loader(self, fullname: str, path: str) -> _Loader:
        return _Loader(fullname, path, self._builtins)


class _Loader(SourceFileLoader):
    """Runs a module with the version's builtins, and writes no bytecode."""

    def __init__(self, fullname: str, path: str, own_builtins: Mapping[str, object]) -> None:
        super().__init__(fullname, path)
        self._builtins = own_builtins

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return a module whose functions use the version's ``__import__``."""
        module = ModuleType(spec.name)
        vars(module)["__builtins__"] = self._builtins
        return module

    def set_data(self, path: str, data: object, *, _mode: int = 0o666) -> None:
        """Do not write bytecode to the version's directory, which may be shared and verified."""


@contextmanager
def _functions_by_value(own_builtins: Mapping[str, object]) -> Iterator[None]:
    """Let functions that cloudpickle rebuilds from a notebook use the version's import too."""
    try:
        module = importlib.import_module("cloudpickle.cloudpickle")
    except ModuleNotFoundError:
        yield
        return
    # It passes its own module's '__builtins__' to every function that it makes.
    before = vars(module)["__builtins__"]
    vars(module)["__builtins__"] = own_builtins
    try:
        yield
    finally:
        vars(module)["__builtins__"] = before


@contextmanager
def unseen(names: Collection[str]) -> Iterator[None]:
    """Let code in the block, in this thread, import no modules of these names but a version's."""
    hidden = {
        name: sys.modules.pop(name) for name in [*sys.modules] if name.partition(".")[0] in names
    }
    try:
        with without(names):
            yield
    finally:
        sys.modules.update(hidden)


def _top_level_names(directory: Path) -> Iterator[str]:
    """Yield the names of the modules and packages in a directory."""
    suffixes = (*EXTENSION_SUFFIXES, *SOURCE_SUFFIXES, *BYTECODE_SUFFIXES)
    for path in directory.iterdir():
        if path.is_dir():
            stem = path.name
        else:
            found = next((suffix for suffix in suffixes if path.name.endswith(suffix)), None)
            stem = path.name.removesuffix(found) if found else ""
        if stem.isidentifier() and stem != "__pycache__":
            yield stem
