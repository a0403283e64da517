"""What a pickle or joblib file holds, told without importing or running anything it names.

The stream is followed with every class and function replaced by its name and every object by a
record of how it would be made.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple, cast

import numpy as np

from bundleserver.errors import LoadError


class ClassName(NamedTuple):
    """A class or function as a pickle names it."""

    module: str
    qualname: str

    def __str__(self) -> str:
        return f"{self.module}.{self.qualname}"


def top_class(path: Path) -> ClassName | None:
    """Name the class of the object that a pickle or joblib file holds, without running anything.

    A list or dict at the top is ``builtins.list`` and so on. ``None``: the file is no pickle, or is
    damaged before its class is named.

    Raises:
        LoadError: the file cannot be read.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise LoadError(f"'{path}' cannot be read: {error.strerror or error}") from error
    return _top_class(path, (status.st_ino, status.st_mtime_ns, status.st_size))


def top_package(path: Path) -> str:
    """Name the top-level package of a pickle's :func:`top_class`; empty where that is None."""
    held = top_class(path)
    return held.module.partition(".")[0] if held is not None else ""


@lru_cache(maxsize=16)
def _top_class(path: Path, which: tuple[int, ...]) -> ClassName | None:
    """Read each file once, however many frameworks ask; ``which`` says that it is the same."""
    return class_of(inspect_pickle(path).top)


@dataclass(frozen=True)
class Contents:
    """What reading a pickle without running it found; ``failure`` says why it stopped early.

    ``head`` is how the file begins, to tell what else it may be.
    """

    head: bytes
    top: object
    named: frozenset[ClassName]
    sklearn_versions: frozenset[str]
    failure: Exception | None


@dataclass(eq=False)
class Made:
    """An object that a pickle would make: by which class or function, from what."""

    maker: object
    args: tuple[object, ...] = ()
    state: object = None

    def extend(self, items: Iterable[object]) -> None:
        """Ignore what a pickle appends to it (pickle prefers this to ``append``)."""

    def append(self, item: object) -> None:
        """Ignore what a pickle appends to it."""

    def __setitem__(self, key: object, value: object) -> None:
        pass


# joblib subclasses the same class, the Python twin of pickle.Unpickler: both see the same stream.
class _InertUnpickler(pickle._Unpickler):
    """Follow a pickle's instructions without importing, calling or setting anything real."""

    def __init__(self, stream: BinaryIO, named: set[ClassName], versions: set[str]) -> None:
        super().__init__(stream, encoding="latin-1")
        self.stack: list[object] = []
        self.metastack: list[list[object]] = []
        self._stream = stream
        self._named = named
        self._versions = versions

    def find_class(self, module: str, name: str) -> object:
        # Protocols 0 to 2 spell these two modules as Python 2 did.
        renamed = {"copy_reg": "copyreg", "__builtin__": "builtins"}.get(module, module)
        found = ClassName(renamed, name)
        self._named.add(found)
        return found

    def persistent_load(self, pid: object) -> object:
        return Made(None)

    def get_extension(self, code: int) -> None:
        self.stack.append(Made(None))

    def _instantiate(self, maker: object, args: Iterable[object]) -> None:
        self.stack.append(Made(maker, tuple(args)))

    def _newobj(self) -> None:
        args = self.stack.pop()
        self._instantiate(self.stack.pop(), cast("tuple[object, ...]", args))

    def _newobj_ex(self) -> None:
        self.stack.pop()
        self._newobj()

    def _build(self) -> None:
        state = self.stack.pop()
        made = self.stack[-1]
        state = state[0] if type(state) is tuple and len(state) == 2 else state
        if not isinstance(made, Made):
            return
        made.state = state
        if isinstance(state, dict) and isinstance(state.get("_sklearn_version"), str):
            self._versions.add(state["_sklearn_version"])
        made_class = class_of(made)
        if made_class is not None and made_class.qualname == "NumpyArrayWrapper":
            self.stack[-1] = self._skip_array(cast("dict[str, object]", state))

    def _skip_array(self, wrapper: dict[str, object]) -> object:
        """Step over the bytes of an array, which joblib writes into the middle of the pickle."""
        dtype = cast("Made", wrapper["dtype"])
        if _holds_objects(dtype):
            return _InertUnpickler(self._stream, self._named, self._versions).load()
        if wrapper.get("numpy_array_alignment_bytes") is not None:
            self._stream.seek(self._stream.read(1)[0], io.SEEK_CUR)
        shape = cast("tuple[int, ...]", wrapper["shape"])
        itemsize = np.dtype(cast(str, dtype.args[0])).itemsize
        self._stream.seek(itemsize * math.prod(shape), io.SEEK_CUR)
        return Made(ClassName("numpy", "ndarray"))

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **pickle._Unpickler.dispatch,
        pickle.REDUCE[0]: _newobj,
        pickle.NEWOBJ[0]: _newobj,
        pickle.NEWOBJ_EX[0]: _newobj_ex,
        pickle.BUILD[0]: _build,
    }


def _holds_objects(dtype: Made) -> bool:
    """Ask whether a pickled dtype holds Python objects: numpy's rule, the lowest of its flags."""
    flags = dtype.state[7] if isinstance(dtype.state, tuple) and len(dtype.state) > 7 else 0
    return bool(cast(int, flags) & 1)


_NOTHING = object()


def inspect_pickle(path: Path) -> Contents:
    """Read a pickle as far as possible without running it.

    Raises:
        LoadError: the file cannot be read.
    """
    try:
        with path.open("rb") as raw:
            return _inspect(raw)
    except OSError as error:
        raise LoadError(f"'{path}' cannot be read: {error.strerror or error}") from error


def _inspect(raw: io.BufferedReader) -> Contents:
    head = raw.peek(256)[:256]
    named: set[ClassName] = set()
    versions: set[str] = set()
    top: object = _NOTHING
    failure: Exception | None = None
    reader: _InertUnpickler | None = None
    try:
        reader = _InertUnpickler(_decompressed(raw, head), named, versions)
        top = reader.load()
    except Exception as error:  # noqa: BLE001 - any bytes may come; load() words the failure
        failure = error
        top = _first_object(reader)
    return Contents(head, top, frozenset(named), frozenset(versions), failure)


def _decompressed(raw: io.BufferedReader, magic: bytes) -> BinaryIO:
    """Look through the compression that joblib may have written with, as a stream."""
    if magic.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=raw))
    if magic.startswith(b"BZ"):
        return cast(BinaryIO, bz2.BZ2File(raw))
    if magic.startswith((b"\xfd7zXZ", b"\x5d\x00")):
        return cast(BinaryIO, lzma.LZMAFile(raw))
    if magic.startswith(b"\x04\x22\x4d\x18"):
        return cast(BinaryIO, import_module("lz4.frame").LZ4FrameFile(raw))
    if magic.startswith(b"\x78"):
        zlib_file = import_module("joblib.compressor").BinaryZlibFile(raw)
        return io.BufferedReader(zlib_file)
    return raw


def _first_object(reader: _InertUnpickler | None) -> object:
    """Take what a damaged pickle began with for what it holds."""
    stacks = [*reader.metastack, reader.stack] if reader else []
    first = next((stack[0] for stack in stacks if stack), None)
    return first if isinstance(first, Made) else _NOTHING


_REBUILDERS: Mapping[str, ClassName | None] = {
    "copyreg._reconstructor": None,
    "copyreg.__newobj__": None,
    "copyreg.__newobj_ex__": None,
    "numpy.core.multiarray._reconstruct": None,
    "numpy._core.multiarray._reconstruct": None,
    "numpy.core.numeric._frombuffer": ClassName("numpy", "ndarray"),
    "numpy._core.numeric._frombuffer": ClassName("numpy", "ndarray"),
}
"""Functions that make objects of another class: the named one, or that of their first argument."""


def class_of(value: object) -> ClassName | None:
    """Name the class of a value found in a pickle; a class or function there names itself."""
    if value is _NOTHING:
        return None
    if isinstance(value, ClassName):
        return value
    if not isinstance(value, Made):
        return ClassName("builtins", type(value).__name__)
    maker = str(value.maker)
    if maker in _REBUILDERS and value.args:
        return _REBUILDERS[maker] or class_of(value.args[0])
    return None if value.maker is None else class_of(value.maker)
