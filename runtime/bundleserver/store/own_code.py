"""Code that a notebook saves with a model: files and packages are copied into ``code/``."""

from __future__ import annotations

import ast
import logging
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib import metadata
from pathlib import Path
from typing import Any

from bundleserver.bundle.integrity import file_sha256
from bundleserver.bundle.own_code.copying import MOST_CODE_BYTES
from bundleserver.bundle.own_code.finding import is_no_code
from bundleserver.bundle.own_code.names import is_taken
from bundleserver.errors import StoreError
from bundleserver.frameworks.isolated_code import IsolatedCode, unseen
from bundleserver.frameworks.regular_files import kind_of
from bundleserver.manifest import CODE, MOST_CODE_FILES, MOST_CODE_LEVELS
from bundleserver.store.copying import copy_file
from bundleserver.store.packages import versions_of

LOG = logging.getLogger(__name__)

Code = Sequence[str | Path] | str | Path
"""What ``save`` is given: files and directories of modules."""


def copy_code(code: Code, directory: Path) -> list[dict[str, object]]:
    """Copy files and packages into a bundle's ``code/``; return the manifest's entries.

    Compiled and hidden files are left behind.

    Raises:
        StoreError: one does not exist, is a link or no file, or they are too many or too large.
        OSError: one cannot be read or written.
    """
    found: dict[str, tuple[Path, int]] = {}
    for given in _given(code):
        for name, path, size in _files(Path(given).expanduser().resolve(), given):
            if name in found:
                first = found[name][0]
                raise StoreError(
                    f"code has '{path}' twice; expected each file once"
                    if path == first
                    else f"code has '{first}' and '{path}', of one name; rename one"
                )
            found[name] = path, size
            if len(found) > MOST_CODE_FILES:
                raise StoreError(f"code has more than {MOST_CODE_FILES} files")
    if sum(size for _, size in found.values()) > MOST_CODE_BYTES:
        largest = max(found.values(), key=lambda each: each[1])
        raise StoreError(
            f"code has more than {MOST_CODE_BYTES} bytes, '{largest[0]}' alone {largest[1]}; leave "
            "out what is not code"
        )
    entries: list[dict[str, object]] = []
    for name, (path, size) in sorted(found.items()):
        place = directory / CODE / name
        place.parent.mkdir(parents=True, exist_ok=True)
        copy_file(path, place, size)
        entries.append({"path": f"{CODE}/{name}", "sha256": file_sha256(place), "size": size})
    return entries


@contextmanager
def as_on_a_server(directory: Path) -> Iterator[None]:
    """Check a bundle in the block without the modules of this process that its code has too.

    A server has the copies in ``code/`` only, where a notebook's own modules would answer for them.
    """
    code = directory / CODE
    with unseen(IsolatedCode(code).names) if code.is_dir() else nullcontext():
        yield


def packages_of(directory: Path, entries: Iterable[Mapping[str, object]]) -> dict[str, str]:
    """Return the installed packages, with their versions, that the copied modules import."""
    sources = [directory / str(entry["path"]) for entry in entries]
    return versions_of(
        {name for path in sources if path.suffix == ".py" for name in _imports(path)}
    )


def tell_of_left_out(component: str, modules: Iterable[str], directory: Path) -> None:
    """Warn of modules that a component names, and that neither ship with it nor are installed."""
    code = directory / CODE
    shipped = {path.stem for path in code.iterdir()} if code.is_dir() else set()
    named = {module.partition(".")[0] for module in modules} - shipped
    for name in sorted(named):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is None or is_taken(name) or name in metadata.packages_distributions():
            continue
        place = file if Path(file).stem != "__init__" else f"{Path(file).parent}/"
        LOG.warning(
            "component '%s' uses the module '%s', which is not an installed package, so that "
            "servers lack it; save it too: code=[%r]",
            component,
            name,
            place,
        )


def _given(code: Code) -> list[str | Path]:
    """Return files and directories; refuse what is neither, such as a module."""
    everything: Any = code  # whatever a notebook gives
    is_one = isinstance(code, (str, Path)) or not isinstance(everything, Iterable)
    paths: list[str | Path] = []
    for given in [everything] if is_one else everything:
        if not isinstance(given, (str, Path)):
            file = getattr(given, "__file__", None)
            hint = f", which is '{file}'" if file else ""
            raise StoreError(
                f"code has a {type(given).__name__}{hint}; expected the paths of files and "
                "directories, as in code=['features.py', 'mypackage/']"
            )
        paths.append(given)
    return paths


def _files(top: Path, given: str | Path) -> Iterator[tuple[str, Path, int]]:
    """Yield the files below a file or directory: name in ``code/``, path and size."""
    try:
        facts = top.stat()
    except OSError as error:
        raise StoreError(
            f"code has '{given}', which cannot be read: {error.strerror or error}; expected a file "
            "or a directory of modules"
        ) from error
    if not top.name:
        raise StoreError(f"code has '{given}', the top of all files; expected those of the model")
    waiting = [(top, top.name, facts)]
    count = 0
    while waiting:
        path, name, facts = waiting.pop()
        count += 1
        if count > 2 * MOST_CODE_FILES:
            raise StoreError(f"'{top}' has more than {MOST_CODE_FILES} files")
        if stat.S_ISDIR(facts.st_mode):
            waiting.extend(_entries(path, name))
            continue
        if not stat.S_ISREG(facts.st_mode):
            kind = "a link" if stat.S_ISLNK(facts.st_mode) else kind_of(facts)
            raise StoreError(f"'{path}' is {kind}; code has only files and directories")
        _check_name(path, name)
        yield name, path, facts.st_size


def _entries(directory: Path, prefix: str) -> Iterator[tuple[Path, str, os.stat_result]]:
    if prefix.count("/") >= MOST_CODE_LEVELS - 1:
        raise StoreError(f"'{directory}' lies in more than {MOST_CODE_LEVELS} directories of code")
    with os.scandir(directory) as entries:
        for entry in entries:
            if not is_no_code(entry.name):
                facts = entry.stat(follow_symlinks=False)
                yield Path(entry.path), f"{prefix}/{entry.name}", facts


def _check_name(path: Path, name: str) -> None:
    try:
        is_text = "\\" not in name and bool(name.encode())
    except UnicodeEncodeError:
        is_text = False
    if not is_text:
        raise StoreError(
            f"{str(path)!r} has a name that is not text, or has a backslash; rename it"
        )


def _imports(path: Path) -> Iterator[str]:
    """Yield the top-level names that a module imports; none where it is no Python."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # opening the bundle says what is wrong with it, if anything imports it
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
