"""The files of a bundle against its manifest: nothing is opened by a framework before it agrees."""

from __future__ import annotations

import errno
import hashlib
import json
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from bundleserver.bundle.links import Links, cause
from bundleserver.errors import IntegrityError, Problem
from bundleserver.frameworks.giving_up import go_on
from bundleserver.frameworks.regular_files import open_regular
from bundleserver.manifest import (
    BUNDLE,
    MANIFEST_NAME,
    PYTHON,
    CodeFile,
    Component,
    Manifest,
)

_CHUNK_BYTES = 1 << 20


def verify_files(directory: Path, manifest: Manifest, links: Links | None = None) -> None:
    """Check that every file a manifest lists is there, inside the bundle, and the one listed.

    Sizes and digests are compared where the manifest has them. A ``bundle`` component is a
    directory: ``sha256`` and ``size`` are those of its ``manifest.json``, whose own entries are
    those of a bundle to verify, so that one digest covers it all. Nothing is unpickled.

    Args:
        directory: the bundle's; with ``links`` it lies below their ``base``.
        manifest: what its files should be.
        links: which links are trusted; when None, those that stay inside ``directory``.

    Raises:
        IntegrityError: lists every difference.
    """
    if links is None:
        links = trusted_links(directory)
        directory = links.base
    problems = [
        Problem(component.path, difference)
        for component in (*manifest.components.values(), *map(_as_component, manifest.code))
        if component.path is not None
        for difference in _differences(directory / component.path, component, links)
    ]
    if problems:
        raise IntegrityError(f"{directory} differs from its manifest", problems)


def trusted_links(directory: Path, *, lead_anywhere: bool = False) -> Links:
    """Say which links of a version's directory, or of the one that it links to, are trusted.

    Raises:
        IntegrityError: it leads to nothing.
    """
    try:
        return Links(directory.resolve(strict=True), lead_anywhere)
    except (OSError, RuntimeError) as error:
        raise IntegrityError(str(directory), [Problem("", _reason(directory, error))]) from error


def file_sha256(path: Path, beat: Callable[[], object] = lambda: None) -> str:
    """Return a file's SHA-256 digest in lower-case hexadecimal; calls ``beat`` for each piece."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            go_on()
            digest.update(chunk)
            beat()
    return digest.hexdigest()


def check_named(directory: Path, links: Links, names: Iterable[str]) -> None:
    """Check files that are named and may lie in hidden directories, as a walk checks links.

    Raises:
        IntegrityError: something leads out.
    """
    problems = []
    for name in names:
        try:
            found = links.problem(links.base / name)
        except (OSError, RuntimeError) as error:
            found = f"cannot be read: {cause(error)}"
        except ValueError:
            found = "is not the name of a file"
        if found:
            problems.append(Problem(name, found))
    if problems:
        raise IntegrityError(str(directory), problems)


def bundle_digest(manifest: Manifest) -> str:
    """Return the SHA-256 digest of what a manifest says, however its file is laid out.

    Two manifests that say the same have the same digest; the order of components counts, since it
    is the order of a chain without steps. With a ``sha256`` on every component it stands for the
    bundle's files too.
    """
    document = json.loads(manifest.to_json())
    # What a registry says of a bundle changes with its tags and is no part of it.
    document.get("metadata", {}).pop("registry", None)
    document["components"] = list(document.get("components", {}).items())
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _as_component(file: CodeFile) -> Component:
    return Component(file.path, PYTHON, file.path, file.sha256, file.size)


def _differences(path: Path, component: Component, links: Links) -> Iterator[str]:
    """Find what is wrong with one component's file; one thing hides what would follow from it."""
    try:
        file = path.resolve(strict=True)
        if outside := links.problem(path):
            yield outside
        elif component.framework == BUNDLE:
            yield from _nested_differences(path, component, links)
        else:
            yield from _file_differences(file, component)
    except (OSError, RuntimeError) as error:
        yield _reason(path, error)


def _nested_differences(directory: Path, component: Component, links: Links) -> Iterator[str]:
    listed = directory / MANIFEST_NAME
    if not directory.is_dir():
        yield f"is not a directory; a component with framework '{BUNDLE}' must be one"
    elif listed.is_file() and (outside := links.problem(listed)):
        yield f"its {MANIFEST_NAME} {outside}"
    elif component.sha256 is not None or component.size is not None:
        if not listed.is_file():
            yield f"has no {MANIFEST_NAME}, whose digest is listed"
            return
        for difference in _file_differences(listed, component):
            yield f"its {MANIFEST_NAME} {difference}"


def _file_differences(file: Path, component: Component) -> Iterator[str]:
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):
        kind = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
        yield f"is {kind}; a component with framework '{component.framework}' is a file"
    elif component.size not in (None, status.st_size):
        yield f"has {status.st_size} bytes, listed are {component.size}"
    elif component.sha256 is None:
        # Nothing to compare; that it can be read is known now and not only when it is loaded.
        open_regular(file).close()
    elif (digest := file_sha256(file)) != component.sha256:
        yield f"has sha256 {digest[:12]}…, listed is {component.sha256[:12]}…"


def _reason(path: Path, error: OSError | RuntimeError) -> str:
    """Say why a path leads to nothing that can be read."""
    # Python before 3.13 raises RuntimeError for a link that leads to itself.
    if isinstance(error, RuntimeError) or error.errno == errno.ELOOP:
        return "is a link that leads back to itself"
    if isinstance(error, FileNotFoundError):
        return "is a link to what is missing" if _is_link(path) else "is missing"
    return f"cannot be read: {(error.strerror or str(error)).lower()}"


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except OSError:  # its name is too long
        return False
