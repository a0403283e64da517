"""What was verified is what is opened: listed files are opened from copies that nobody can change.

Between the digest of a file and its opening another process may replace it, or write into it. A
file whose digest is listed is therefore copied while its digest is computed, and the copy is what
the framework gets. It has no name that another process could write to, and ends with the opening.

Where a framework reads through our own function, a large file needs no copy: what it reads is
compared with digests of pieces (``checked_files``). Else a large copy is in the temporary directory
if there is room, or in memory if there is room for it beside the model.

A library that reads files one at a time gets copies of all: one on a volume that hangs would
otherwise hold up every other.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PosixPath
from typing import IO, BinaryIO

from bundleserver.bundle.integrity import file_sha256
from bundleserver.bundle.sealed import private_files
from bundleserver.errors import BundleServerError, IntegrityError, LoadError, Problem
from bundleserver.frameworks import Framework, LoadContext, Predictor, framework_named
from bundleserver.frameworks.checked_files import CheckedContent, CheckedPath
from bundleserver.frameworks.file_facts import Opens
from bundleserver.frameworks.giving_up import go_on
from bundleserver.frameworks.interface import reading
from bundleserver.frameworks.regular_files import open_regular
from bundleserver.frameworks.trust import CodeTrust
from bundleserver.manifest import Component

_CHUNK_BYTES = 1 << 20


class SealedPath(PosixPath):
    """The path of a copy; in an f-string it is the path of the file that was copied.

    So ``open(path)`` and ``str(path)`` lead to the copy, and messages name the user's file.
    """

    shown: Path | None = None

    def __format__(self, spec: str) -> str:
        """Return the path for a message."""
        return format(str(self) if self.shown is None else str(self.shown), spec)


def open_component(
    directory: Path, component: Component, device: str, trust: CodeTrust
) -> Predictor:
    """Open the file of a component; from a copy if its digest is listed, or others wait for it.

    Raises:
        IntegrityError: the file is not the one listed any more.
        FrameworkError: the framework is unknown, or its library is not installed.
        LoadError: the file cannot be opened.
    """
    path, digest = directory / (component.path or ""), component.sha256
    framework = framework_named(component.framework)
    context = LoadContext(component.options, device, trust)
    if digest is None and not framework.in_turns:
        return framework.load(path, context)
    if framework.opens is Opens.DIRECTORY:
        return _opened_and_unchanged(directory, component, framework.load(path, context))
    # Else an import that takes seconds, or fails, would come while the copy is there.
    framework.imported()
    if digest is not None and framework.opens is Opens.READER and _is_large(path):
        return _opened_in_pieces(directory, component, framework, context)
    with _copy_of(path, by_name=framework.opens is Opens.NAME) as (copy, copied):
        if digest not in (None, copied):
            raise _replaced(directory, component)
        try:
            return framework.load(copy, context)
        except BundleServerError as error:
            # What a library says of the file that it was given.
            error.args = tuple(
                arg.replace(str(copy), str(path)) if isinstance(arg, str) else arg
                for arg in error.args
            )
            raise


def _is_large(path: Path) -> bool:
    with reading(path):
        return path.stat().st_size > private_files.MOST_IN_MEMORY_BYTES


def _opened_in_pieces(
    directory: Path, component: Component, framework: Framework, context: LoadContext
) -> Predictor:
    """Open a file whose pieces are compared while they are read."""
    path = directory / (component.path or "")
    with reading(path), open_regular(path) as source:
        content = CheckedContent(source.fileno())
        if content.sha256 != component.sha256:
            raise _replaced(directory, component)
        try:
            predictor = framework.load(CheckedPath.of(content, path), context)
        except BundleServerError as error:
            if content.is_changed:
                raise _replaced(directory, component) from error
            raise
        if content.is_changed:
            predictor.close()
            raise _replaced(directory, component)
        return predictor


def _opened_and_unchanged(directory: Path, component: Component, predictor: Predictor) -> Predictor:
    """Refuse what was opened if its file is not the one listed any more.

    Of a directory only one file has a digest, and the library opens the others beside it.
    """
    path = directory / (component.path or "")
    try:
        with reading(path):
            is_listed = file_sha256(path) == component.sha256
    except BaseException:
        predictor.close()
        raise
    if not is_listed:
        predictor.close()
        raise _replaced(directory, component)
    return predictor


def _replaced(directory: Path, component: Component) -> IntegrityError:
    problem = "was replaced after its digest had been verified, and is not the file listed"
    return IntegrityError(
        f"{directory} differs from its manifest", [Problem(component.path or "", problem)]
    )


@contextmanager
def _copy_of(path: Path, *, by_name: bool) -> Iterator[tuple[SealedPath, str]]:
    """Lend the path of a copy while the block lasts, and its digest.

    With ``by_name`` the copy has the file's name, and the other files of its directory are linked
    beside it.
    """
    with ExitStack() as kept:
        copy, digest = _sealed_copy(path, kept)
        place = private_files.place_of(copy)
        sealed = SealedPath(_named(path, place, kept) if by_name else place)
        sealed.shown = path
        yield sealed, digest


def _sealed_copy(path: Path, kept: ExitStack) -> tuple[IO[bytes], str]:
    """Return an open copy that nobody can change, and its digest."""
    with reading(path), open_regular(path) as source:
        size = os.fstat(source.fileno()).st_size
        with _writing(path, size):
            copy = kept.enter_context(private_files.anonymous_file(size))
        try:
            digest = _copy(path, source, copy, size)
        except LoadError as error:
            # Others may have filled the directory in between.
            if not private_files.is_full(error.__cause__):
                raise
            copy.close()  # the half copy takes room that others need
            with _writing(path, size):
                copy = kept.enter_context(private_files.file_in_memory(size))
            source.seek(0)
            digest = _copy(path, source, copy, size)
    with _writing(path, size):
        private_files.seal(copy)
    return copy, digest


def _copy(path: Path, source: BinaryIO, copy: IO[bytes], size: int) -> str:
    """Copy a file and return its digest.

    Raises:
        LoadError: it has another size by now, or there is no room for it.
    """
    digest, copied = hashlib.sha256(), 0
    while copied <= size and (chunk := source.read(_CHUNK_BYTES)):
        go_on()
        digest.update(chunk)
        copied += len(chunk)
        with _writing(path, size):
            left = memoryview(chunk)
            while left:
                left = left[copy.write(left) :]
    if copied != size:
        raise LoadError(
            f"'{path}' had {size} bytes and changed while it was copied; publish it once it is "
            "complete"
        )
    return digest.hexdigest()


@contextmanager
def _writing(path: Path, size: int) -> Iterator[None]:
    """Turn an OSError in the block into a LoadError that says what to do."""
    try:
        yield
    except OSError as error:
        raise LoadError(
            f"'{path}' ({size} bytes) cannot be copied before it is opened: "
            f"{error.strerror or error}; make room in the temporary directory, set TMPDIR to "
            "another one, or raise the container's memory limit"
        ) from error


def _named(path: Path, place: str, kept: ExitStack) -> str:
    """Return a path with the file's name that leads to its copy, in a private directory."""
    with _writing(path, path.stat().st_size):
        private = Path(kept.enter_context(tempfile.TemporaryDirectory(prefix="bundleserver-")))
        for other in path.parent.absolute().iterdir():
            if other.name != path.name:
                (private / other.name).symlink_to(other)
        (private / path.name).symlink_to(place)
    return str(private / path.name)
