"""The models in a directory, in every supported layout of ``--model_dir``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from bundleserver.bundle.reading import read_manifest
from bundleserver.documents.printable import printable
from bundleserver.errors import BundleServerError
from bundleserver.manifest import MANIFEST_NAME, Manifest
from bundleserver.sources.files import Folder, list_folder

Root = Folder | str
"""A model's directory, or why it cannot be read now."""


ListFolder = Callable[[Path], Folder]
"""Lists a directory as ``list_folder`` does."""


def find_models(
    top: Folder, model_name: str | None, listed: ListFolder = list_folder
) -> Iterator[tuple[str, Root]]:
    """Yield every model's name and directory.

    Args:
        top: the entries of ``--model_dir``.
        model_name: the one model to serve; None for all models.
        listed: lists the directories in it.
    """
    is_versioned = not top.has_manifest and _is_versioned(top, model_name, listed)
    is_model = top.has_manifest or is_versioned or top.has_model_files
    if model_name is not None:
        yield model_name, top if is_model else _child_of_that_name(top, model_name, listed)
    elif is_model:
        manifest = readable_manifest(top)
        yield (manifest and manifest.name) or top.path.resolve().name or "model", top
    else:
        yield from _models(top, sorted({*top.directories, *top.labels}), listed)


def readable_manifest(root: Folder) -> Manifest | None:
    """Read a manifest for its name and version; its problems are reported when it is loaded."""
    try:
        return read_manifest(root.path) if root.has_manifest else None
    except BundleServerError:
        return None


def _is_versioned(top: Folder, model_name: str | None, listed: ListFolder) -> bool:
    """Ask whether directories named like versions are versions, and not models.

    A model may be named '3d-detector': then it has versions itself, or other models beside it.
    """
    if not top.labels:
        return False
    others = _models(top, top.directories, listed) if model_name is None else ()
    if any(isinstance(child, Folder) for _, child in others):
        return False
    return any(
        isinstance(child, str) or child.has_manifest or not child.labels
        for _, child in _children(top, top.labels, listed)
    )


def _child_of_that_name(top: Folder, name: str, listed: ListFolder) -> Root:
    names = [name] if name in (*top.directories, *top.labels) else []
    for _, child in _children(top, names, listed):
        return child
    return (
        f"waiting for '{MANIFEST_NAME}', versions such as 'v1' or model files in '{top.path}', "
        f"or a directory '{name}' with one of them"
    )


def _models(top: Folder, names: Iterable[str], listed: ListFolder) -> Iterator[tuple[str, Root]]:
    """Yield the subdirectories that are models, or that cannot be read."""
    for name, child in _children(top, names, listed):
        if isinstance(child, str) or child.has_manifest or child.has_model_files or child.labels:
            yield name, child


def _children(top: Folder, names: Iterable[str], listed: ListFolder) -> Iterator[tuple[str, Root]]:
    for name in names:
        try:
            yield name, listed(top.path / name)
        except FileNotFoundError:
            continue
        except OSError as error:
            yield name, f"'{top.path / name}' cannot be read: {error.strerror or error}"


def shown_names(names: Iterable[str]) -> dict[str, str]:
    """Return how each name is shown: printable, and never as another one is."""
    shown = {name: name for name in names}
    taken = {name for name in shown if printable(name) == name}
    for name in sorted(shown.keys() - taken):
        # A backslash in one name is what stands for a control character in another.
        text, count = printable(name), 1
        while (unique := text if count == 1 else f"{text} ({count})") in taken:
            count += 1
        taken.add(unique)
        shown[name] = unique
    return shown
