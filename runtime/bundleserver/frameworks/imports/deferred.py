"""Modules that are imported when they are first used, though a library asks for them earlier.

scikit-learn imports ``scipy.stats`` for a few functions that hardly any model calls; it is a third
of what the import of scikit-learn costs.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import FrameType, ModuleType
from typing import Any


def defer(module: str, library: str) -> None:
    """Import a module at its first use, if it is not imported yet.

    What a library's modules take from it by ``from module import name`` while they are imported is
    a stand-in until then. Any other use imports the module, by whomever and in whatever thread:
    an attribute of it, a module inside it.

    Args:
        module: its full name, such as ``scipy.stats``.
        library: the top-level package whose modules get stand-ins, such as ``sklearn``.
    """
    if module not in sys.modules:
        sys.meta_path.insert(0, _Finder(module, library))


class _StandIn:
    """Stands for a function or another object of a module that is not imported yet."""

    def __init__(self, module: _Deferred, name: str) -> None:
        self._of = module, name

    def __call__(self, *arguments: object, **named: object) -> object:
        return self._real()(*arguments, **named)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._real(), name)

    def _real(self) -> Any:
        module, name = self._of
        return getattr(module, name)


class _Deferred(ModuleType):
    """A module whose code has not run yet."""

    def __getattr__(self, name: str) -> object:
        """Find what importing the module would have defined."""
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        asking = _asking(sys._getframe(1))
        loader = _loader_of(self)
        if loader is not None and loader.gives_stand_ins(asking):
            stand_in = _StandIn(self, name)
            loader.given.append((asking.f_globals, name, stand_in))
            return stand_in
        _complete(self)
        return ModuleType.__getattribute__(self, name)

    def __dir__(self) -> list[str]:
        _complete(self)
        return sorted(self.__dict__)


class _Loader(Loader):
    """Makes the module, and runs its code when it is needed."""

    def __init__(self, loader: Loader, library: str) -> None:
        self._loader = loader
        self._library = library
        self._lock = threading.RLock()
        self._is_running = False
        self.given: list[tuple[dict[str, object], str, _StandIn]] = []

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Make a module without running its code."""
        return _Deferred(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leave it at that."""

    def gives_stand_ins(self, asking: FrameType) -> bool:
        """Ask whether it is a module of the library that imports a name."""
        of = str(asking.f_globals.get("__name__", "")).partition(".")[0]
        return of == self._library and asking.f_code.co_name == "<module>"

    def complete(self, module: _Deferred) -> None:
        """Run the module's code, once, and put what it defines in the place of stand-ins."""
        with self._lock:
            if self._is_running or not isinstance(module, _Deferred):
                return
            self._is_running = True
            try:
                self._loader.exec_module(module)
            finally:
                self._is_running = False
            module.__spec__.loader = module.__loader__ = self._loader  # type: ignore[union-attr]
            module.__class__ = ModuleType  # type: ignore[assignment]  # it was one all along
            for names, name, stand_in in self.given:
                if names.get(name) is stand_in:
                    names[name] = getattr(module, name)
            self.given.clear()


class _Finder(MetaPathFinder):
    """Finds the module, and completes it before a module inside it is imported."""

    def __init__(self, module: str, library: str) -> None:
        self._module = module
        self._inside = module + "."
        self._library = library

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module that is deferred; None leaves others to the next finders."""
        if fullname.startswith(self._inside):
            module = sys.modules.get(self._module)
            if isinstance(module, _Deferred):
                _complete(module)
        if fullname != self._module:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._library)
        return spec


def _loader_of(module: ModuleType) -> _Loader | None:
    spec = module.__spec__
    return spec.loader if spec is not None and isinstance(spec.loader, _Loader) else None


def _complete(module: _Deferred) -> None:
    loader = _loader_of(module)
    if loader is not None:
        loader.complete(module)


def _asking(frame: FrameType) -> FrameType:
    """Return the frame that asks for a name, behind those of the import system."""
    while frame.f_back is not None and frame.f_globals.get("__name__") == "importlib._bootstrap":
        frame = frame.f_back
    return frame
