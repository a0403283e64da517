"""The models in a directory, in every supported layout of ``--model_dir``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from bundleserver.bundle.inferring.mlmodel_files import ARTIFACT_PATH, MLMODEL
from bundleserver.bundle.links import File
from bundleserver.documents.printable import few, printable
from bundleserver.manifest import MANIFEST_NAME
from bundleserver.sources.contents import is_model_file
from bundleserver.sources.files import Folder, files_below, list_folder
from bundleserver.sources.ordering import OrderedVersions
from bundleserver.sources.own_files import readable_manifest
from bundleserver.sources.uploads import is_partial, is_probably_a_model
from bundleserver.versions import is_version_label


class Unreadable(str):
    """Why a model's directory cannot be read now."""

    __slots__ = ()


class Awaited(str):
    """What an empty directory waits for, which may become a model."""

    __slots__ = ()


Root = Folder | str
"""A model's directory, or what it waits for: ``Unreadable`` if it cannot be read now."""


ListFolder = Callable[[Path], Folder]
"""Lists a directory as ``list_folder`` does."""


Below = Callable[[Path], list[File]]
"""Finds files as ``files_below`` does."""


def find_models(
    top: Folder,
    model_name: str | None,
    listed: ListFolder = list_folder,
    below: Below = files_below,
) -> Iterator[tuple[str, Root]]:
    """Yield every model's name and directory.

    Args:
        top: the entries of ``--model_dir``.
        model_name: the one model to serve; None for all models.
        listed: lists the directories in it.
        below: finds the files in them that nothing opens.
    """
    is_versioned = not top.has_manifest and _is_versioned(top, model_name, listed)
    is_model = top.has_manifest or is_versioned or top.has_model_files
    if model_name is not None:
        yield model_name, top if is_model else _child_of_that_name(top, model_name, listed, below)
    elif is_model:
        manifest = readable_manifest(top)
        yield (manifest and manifest.name) or _name_of(top), top
    else:
        found = list(_all_models(top, listed))
        if not all(isinstance(root, Awaited) for _, root in found):
            yield from found
        elif top.has_foreign_files:
            yield _name_of(top), top


def logged_model(folder: Folder, listed: ListFolder = list_folder) -> Folder | None:
    """Return the MLflow model in a copy of a run's artifacts: its one model, in ``model/``.

    None if the directory is a model itself, or has other models.
    """
    if _is_a_model(folder) or ARTIFACT_PATH not in folder.directories:
        return None
    found = dict(_children(folder, folder.directories, listed))
    logged = found.pop(ARTIFACT_PATH, None)
    if not isinstance(logged, Folder) or MLMODEL not in logged.files:
        return None
    others = (isinstance(child, str) or _is_a_model(child) for child in found.values())
    return None if any(others) else logged


def _name_of(top: Folder) -> str:
    return top.path.resolve().name or "model"


def _all_models(top: Folder, listed: ListFolder) -> Iterator[tuple[str, Root]]:
    return _models(top, sorted({*top.directories, *top.labels}), listed)


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


def _has_only_others(top: Folder, below: Below) -> bool:
    """Ask whether a directory has files in its directories, and none that anything opens."""
    try:
        return bool(below(top.path))
    except OSError:
        return False


def _child_of_that_name(top: Folder, name: str, listed: ListFolder, below: Below) -> Root:
    names = [name] if name in (*top.directories, *top.labels) else []
    for _, child in _children(top, names, listed):
        return child if isinstance(child, str) else logged_model(child, listed) or child
    if logged := logged_model(top, listed):
        return logged
    others = [n for n, child in _all_models(top, listed) if not isinstance(child, Awaited)]
    if top.has_foreign_files and not others:
        return top  # so that its files are named
    if not top.labels and _has_only_others(top, below):
        return top  # likewise: those in its directories
    waits = (
        f"waiting for '{MANIFEST_NAME}', versions such as 'v1' or model files in '{top.path}', "
        f"or a directory '{name}' with one of them"
    )
    return f"{waits}; {_what_else(top, others)}" if others else waits


def _what_else(top: Folder, others: list[str]) -> str:
    shown = ", ".join(few((f"'{printable(name)}'" for name in others), _MOST_NAMED))
    one = top.path / printable(others[0])
    return (
        f"it holds directories of models: {shown}; to serve one of them, let storageUri or "
        f"--model_dir name it, such as '{one}'; to serve all under their own names, leave out "
        "--model_name"
    )


_MOST_NAMED = 5


def _models(top: Folder, names: Iterable[str], listed: ListFolder) -> Iterator[tuple[str, Root]]:
    """Yield the subdirectories that are models, or that cannot be read."""
    for name, child in _children(top, names, listed):
        if isinstance(child, str) or _is_a_model(child):
            yield name, child
        elif logged := logged_model(child, listed):
            yield name, logged
        elif not child.directories and all(map(is_partial, child.files)):
            yield name, Awaited(f"waiting for model files in '{child.path}'")


def _is_a_model(child: Folder) -> bool:
    is_one = child.has_manifest or child.has_model_files or bool(child.labels)
    return is_one or any(map(is_probably_a_model, child.files))


def _children(top: Folder, names: Iterable[str], listed: ListFolder) -> Iterator[tuple[str, Root]]:
    for name in names:
        try:
            yield name, listed(top.path / name)
        except FileNotFoundError:
            continue
        except OSError as error:
            why = f"'{top.path / name}' cannot be read: {error.strerror or error}"
            yield name, Unreadable(why)


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


def odd_names(root: Folder, versions: OrderedVersions) -> Iterator[str]:
    """Yield what is wrong with the names of a model's versions, a sentence each."""
    for group in versions.alike:
        names = " and ".join(f"'{version}'" for version in group)
        yield (
            f"versions {names} in '{root.path}' have the same order; '{group[-1]}' counts as the "
            "newest; rename one"
        )
    for name in root.files:
        if is_version_label(name) and not is_model_file(name):
            path = root.path / name
            yield f"'{path}' is named like a version but is a file; a version must be a directory"
