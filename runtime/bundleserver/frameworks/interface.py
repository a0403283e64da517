"""What a framework is: its declaration, its module, and the predictors that it opens."""

from __future__ import annotations

import importlib
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from bundleserver.documents.forms import nearest
from bundleserver.errors import BundleServerError, FrameworkError, LoadError, StoreError
from bundleserver.frameworks.file_facts import FileFacts, FileRole, Opens
from bundleserver.frameworks.flavour import Flavour
from bundleserver.frameworks.giving_up import Abandoned
from bundleserver.frameworks.imports.lean import IMPORTING, without
from bundleserver.frameworks.trust import CodeTrust
from bundleserver.tensors import Array, NamedTensor
from bundleserver.tensors.call_traits import CallTraits
from bundleserver.tensors.meaning import Meaning
from bundleserver.tensors.signature import Signature


class Predictor(Protocol):
    """One opened component: named methods over arrays.

    Called from worker threads, several at a time. A predictor that can do more has the methods of
    :class:`TellsCallTraits`, :class:`CachesAnswers`, :class:`HasMetadata` or :class:`MakesSamples`
    too.
    """

    @property
    def methods(self) -> Mapping[str, Signature]:
        """The methods, each with its inputs and outputs; the first is the default."""

    def call(
        self, method: str, inputs: Sequence[NamedTensor], parameters: Mapping[str, object]
    ) -> Sequence[Array] | Mapping[str, Array]:
        """Run one method on the inputs, given by position; return its outputs by position or name.

        Raises:
            InvalidInput: the model rejects a value, which the caller can fix.
            Exception: anything else is the model's own failure and is passed on as it is.
        """

    def close(self) -> None:
        """Release the component's resources; no call follows."""


@runtime_checkable
class TellsCallTraits(Protocol):
    """A predictor that knows what its calls are like."""

    def call_traits(self, method: str) -> CallTraits:
        """Return the call traits of one method."""


@runtime_checkable
class CachesAnswers(Protocol):
    """A predictor that caches answers."""

    def is_cached(
        self, method: str, inputs: Sequence[NamedTensor], parameters: Mapping[str, object]
    ) -> bool:
        """Ask whether ``call`` would be a cache hit.

        Raises:
            InvalidInput: as ``call`` does.
        """


@runtime_checkable
class HasMetadata(Protocol):
    """A predictor that has facts for the version's metadata."""

    @property
    def metadata(self) -> Mapping[str, object]:
        """The facts, ready for JSON."""


@runtime_checkable
class HasMeaning(Protocol):
    """A predictor whose options say how values are to be read."""

    @property
    def meaning(self) -> Meaning:
        """How they are to be read."""


@runtime_checkable
class HasParameters(Protocol):
    """A predictor whose calls have parameters."""

    @property
    def parameters(self) -> Sequence[str]:
        """Their names."""


@runtime_checkable
class MakesSamples(Protocol):
    """A predictor that knows which values its model takes; the probe before READY asks it."""

    def samples(self, method: str, rows: int) -> Sequence[Sequence[NamedTensor]]:
        """Return inputs for calls of so many different rows, the most plausible call first.

        Each has the inputs of one call, by position (a forecaster's by name, for one step), as the
        fitted object knows them: widths, columns, categories, a vocabulary. Empty: nothing is
        known, and the signature decides.
        """


@dataclass(frozen=True)
class LoadContext:
    """The options of a component, the device for its tensors, and what its file may do."""

    options: Mapping[str, object] = field(default_factory=dict)
    device: str = "cpu"
    trust: CodeTrust = field(default_factory=CodeTrust)


class FrameworkModule(Protocol):
    """The two functions of a framework's module."""

    def load(self, path: Path, context: LoadContext) -> Predictor:
        """Open one file; a LoadError names it, what is wrong with it and what to do."""

    def save(self, model: object, directory: Path, stem: str) -> tuple[Path, dict[str, object]]:
        """Write a fitted object; a StoreError names the component, what is wrong, what to do."""


@dataclass(frozen=True)
class Framework:
    """One framework, declared in a module that is cheap to import.

    Attributes:
        name: what a manifest's ``framework`` says.
        module: the module with the functions of :class:`FrameworkModule`, imported when a bundle
            needs it.
        library: the package that must be importable, if any.
        extra: the extra of bundleserver that installs the library; empty when none does.
        distributions: the distributions whose versions a bundle records.
        suffixes: the suffixes of its files, in lower case.
        sniff: returns the role of a file with such a suffix, without unpickling anything; None
            when the file is not this framework's.
        facts: returns what else can be told of such a file without opening it; None: only its name
            tells its role.
        recognises: asks whether the framework saves an object; imports nothing.
        flavour: the MLflow flavour whose files it opens.
        needs_examples: its models run code of their own, which may do anything, so that they are
            called with recorded inputs only before they are ready.
        left_out: optional dependencies of the library that are not imported with it.
        opens: what it opens: a file with a listed digest is opened from a copy that ends with
            ``load``.
        in_turns: its library reads one file at a time, so none is read from where it may hang.
    """

    name: str
    module: str
    library: str | None = None
    extra: str = ""
    distributions: tuple[str, ...] = ()
    suffixes: frozenset[str] = frozenset()
    sniff: Callable[[Path], FileRole | None] = lambda path: "model"
    facts: Callable[[Path], FileFacts | None] = lambda path: None
    recognises: Callable[[object], bool] = lambda model: False
    flavour: Flavour | None = None
    needs_examples: bool = False
    left_out: tuple[str, ...] = ()
    opens: Opens = Opens.NAME
    in_turns: bool = False

    def load(self, path: Path, context: LoadContext) -> Predictor:
        """Open one file.

        Raises:
            FrameworkError: the library is not installed.
            LoadError: names the file, what is wrong with it and what to do.
        """
        module = self.imported()
        try:
            return module.load(path, context)
        except BundleServerError:
            raise
        except BaseException as error:  # the model's own code may raise anything, SystemExit too
            if passes_through(error):
                raise
            raise LoadError(f"'{path}' cannot be opened: {named_line(error)}") from error

    def save(self, model: object, directory: Path, stem: str) -> tuple[Path, dict[str, object]]:
        """Write a fitted object as ``directory/stem.<suffix>``; return the file and options.

        Raises:
            FrameworkError: the library is not installed.
            StoreError: the object cannot be written.
            OSError: the file cannot be written.
        """
        module = self.imported()
        try:
            return module.save(model, directory, stem)
        except (BundleServerError, OSError):
            raise
        except BaseException as error:  # the object's own code runs while it is pickled
            if passes_through(error):
                raise
            raise StoreError(
                f"component '{stem}' ({type(model).__module__}.{type(model).__qualname__}) cannot "
                f"be written: {named_line(error)}"
            ) from error

    def imported(self) -> FrameworkModule:
        """Import the framework's module, and check that its library is installed.

        Raises:
            FrameworkError: the library is not installed.
        """
        if self.library is not None and find_spec(self.library) is None:
            raise self._not_installed(self.library)
        try:
            with IMPORTING, without(self.left_out):
                return cast(FrameworkModule, importlib.import_module(self.module))
        except ModuleNotFoundError as error:
            raise self._not_installed(error.name) from error

    def _not_installed(self, package: str | None) -> FrameworkError:
        remedy = f"install it with: pip install 'bundleserver[{self.extra}]'"
        return FrameworkError(
            f"framework '{self.name}' needs the package '{package}', which is not installed; "
            + (remedy if self.extra else "install it")
        )


def has_class_of(model: object, package: str) -> bool:
    """Ask whether an object's class, or a base of it, is defined in a top-level package."""
    return any(base.__module__.partition(".")[0] == package for base in type(model).__mro__)


def passes_through(error: BaseException) -> bool:
    """Ask whether an error is no model's own: Ctrl-C in the main thread, or that nobody waits."""
    is_main = threading.current_thread() is threading.main_thread()
    return isinstance(error, Abandoned) or (isinstance(error, KeyboardInterrupt) and is_main)


_PLACE_IN_SOURCE = re.compile(r"^\[\d\d:\d\d:\d\d\] \S+:\d+: ")


def first_line(error: BaseException) -> str:
    """Return an error's first line, at most 300 characters, without its full stop.

    TorchScript puts its traceback first and the reason last; XGBoost's time and place in its source
    are left out.
    """
    lines = (str(error).strip() or type(error).__name__).splitlines()
    line = lines[-1 if is_of_torchscript(error) else 0]
    return _PLACE_IN_SOURCE.sub("", line)[:300].rstrip(" .:")


def is_of_torchscript(error: BaseException) -> bool:
    """Ask whether an error is one of the interpreter of TorchScript, with its own traceback."""
    return str(error).startswith("The following operation failed in the TorchScript interpreter")


def named_line(error: BaseException) -> str:
    """Return an error's class and its first line."""
    return f"{type(error).__name__}: {first_line(error)}" if str(error) else type(error).__name__


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an OSError in the block into a LoadError that names the file."""
    try:
        yield
    except OSError as error:
        raise LoadError(f"'{path}' cannot be read: {error.strerror or error}") from error


def check_options(options: Iterable[str], known: Iterable[str], where: str) -> None:
    """Reject unknown options of a component.

    Raises:
        LoadError: names the option and the nearest known one, else all.
    """
    names = tuple(known)
    for name in options:
        if name not in names:
            raise LoadError(f"{where}: options.{name} is not a known option{nearest(name, names)}")
