"""Which files are a bundle's own code."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.machinery import BYTECODE_SUFFIXES
from pathlib import Path

from bundleserver.bundle.links import cause
from bundleserver.errors import LoadError
from bundleserver.manifest import (
    CODE,
    MOST_CODE_FILES,
    MOST_CODE_LEVELS,
    PYTHON,
    CodeFile,
    Manifest,
)

_COMPILED = tuple(BYTECODE_SUFFIXES)


def files_of(directory: Path, manifest: Manifest) -> tuple[CodeFile, ...]:
    """Return the files of a bundle's own code: those that its manifest lists.

    A written manifest that lists none, and has a component that is such code, has all of ``code/``.

    Raises:
        LoadError: that cannot be read, or has links or too much.
    """
    if manifest.code or manifest.inferred:
        return manifest.code
    if not any(component.framework == PYTHON for component in manifest.components.values()):
        return ()
    top = directory / CODE
    try:
        return (
            tuple(CodeFile(path) for path in sorted(_walk(top, f"{CODE}/"))) if top.is_dir() else ()
        )
    except OSError as error:
        raise LoadError(f"'{top}' cannot be read: {cause(error)}") from error


def is_no_code(name: str) -> bool:
    """Ask whether a name in ``code/`` is no part of it: compiled files, and hidden ones."""
    return name.startswith(".") or name == "__pycache__" or name.endswith(_COMPILED)


def _walk(top: Path, prefix: str) -> Iterator[str]:
    waiting, count = [(top, prefix)], 0
    while waiting:
        folder, prefix = waiting.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_no_code(entry.name):
                    continue
                count += 1
                if count > MOST_CODE_FILES:
                    raise LoadError(f"'{top}' has more than {MOST_CODE_FILES} files")
                if entry.is_dir():
                    if entry.is_symlink() or prefix.count("/") >= MOST_CODE_LEVELS:
                        raise LoadError(
                            f"'{entry.path}' is a link to a directory, or below more than "
                            f"{MOST_CODE_LEVELS}; put the files themselves into '{CODE}'"
                        )
                    waiting.append((Path(entry.path), f"{prefix}{entry.name}/"))
                else:
                    yield prefix + entry.name
