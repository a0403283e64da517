"""What the ``MLmodel`` of an MLflow model says, and whether the files that it names are there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path, PurePosixPath

from bundleserver.bundle.metadata_files import read_metadata
from bundleserver.documents.bounded_yaml import parse_yaml
from bundleserver.errors import BundleError
from bundleserver.frameworks import frameworks
from bundleserver.manifest.paths import is_short_path

MLMODEL = "MLmodel"
"""The file that MLflow writes into a model's directory."""

ARTIFACT_PATH = "model"
"""The directory of a run's artifacts to which models are logged by convention."""

PYTHON_FUNCTION = "python_function"
"""The flavour that MLflow itself opens."""

PATHS = frozenset({"pickled_model", "data", "model_data"})
"""Where flavours name their file or directory."""

_PATHS_OF_PYFUNC = ("data", "model_path", "python_model", "code")
_MOST_NAMED = 1_000
_MOST_LOOKED_AT = 500


def is_mlflow_model(directory: Path) -> bool:
    """Ask whether a directory has an ``MLmodel``, whatever is in it."""
    path = directory / MLMODEL
    return os.path.lexists(path) and not path.is_dir()


def said_of_models_below(directory: Path) -> str:
    """Say, for the end of a message, that a directory of a directory is an MLflow model.

    An empty string if none is.
    """
    found = [path for path in _directories_of(directory) if is_mlflow_model(path)]
    if not found:
        return ""
    return (
        f"; '{min(found)}' is an MLflow model: name that directory instead, or move its files up "
        f"to '{directory}'"
    )


def _directories_of(directory: Path) -> list[Path]:
    try:
        with os.scandir(directory) as entries:
            some = list(islice(entries, _MOST_LOOKED_AT))
            return [Path(e.path) for e in some if e.name[0] not in "._" and e.is_dir()]
    except OSError:
        return []


def read_mlmodel(path: Path) -> Mapping[str, object]:
    """Return the document in an ``MLmodel``.

    Raises:
        BundleError: it cannot be read, or is not MLflow's.
    """
    try:
        document = parse_yaml(read_metadata(path).decode())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BundleError(f"'{path}' cannot be read: {reason}") from error
    if not isinstance(document, dict) or not isinstance(document.get("flavors"), dict):
        raise BundleError(f"'{path}' has no 'flavors'; expected a file written by MLflow")
    return document


def flavours_of(mlmodel: Mapping[str, object]) -> dict[str, Mapping[str, object]]:
    """Return the flavours of a document, each with its section."""
    flavours = mlmodel.get("flavors")
    entries = flavours.items() if isinstance(flavours, dict) else ()
    return {str(name): entry for name, entry in entries if isinstance(entry, dict)}


def missing_files(directory: Path) -> tuple[str, ...]:
    """Return the files and directories that an ``MLmodel`` names and that are not there.

    Empty, too, if it cannot be read: whoever opens the model says why.
    """
    return tuple(name for name in named_files(directory) if _is_gone(directory / name))


def _is_gone(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return True
    except OSError:
        return False  # whoever opens it says why it cannot be read
    return False


def problem_with_files(directory: Path) -> str | None:
    """Say which files of an MLflow model are missing; None if all are there."""
    missing = missing_files(directory)
    return are_missing(directory / MLMODEL, missing) if missing else None


def named_files(directory: Path) -> tuple[str, ...]:
    """Return the files and directories that an ``MLmodel`` names, by their paths in its directory.

    Those that lie elsewhere are left out: the model is refused for them when it is opened.
    """
    return _named_by(directory) or ()


def has_flavours(directory: Path) -> bool:
    """Ask whether a directory has an ``MLmodel`` that says something of a model."""
    return _named_by(directory) is not None


def _named_by(directory: Path) -> tuple[str, ...] | None:
    path = directory / MLMODEL
    try:
        facts = path.stat()
    except OSError:
        return None
    return _named_in(path, facts.st_size, facts.st_mtime_ns, facts.st_ino)


@lru_cache(maxsize=256)
def _named_in(path: Path, size: int, changed_ns: int, inode: int) -> tuple[str, ...] | None:
    """Read the names once for each state of the file, as a server asks at every poll."""
    try:
        document = read_mlmodel(path)
    except BundleError:
        return None
    names = [name for name in dict.fromkeys(_names(document)) if is_inside(name)]
    return tuple(names[:_MOST_NAMED]) if flavours_of(document) else None


def _names(mlmodel: Mapping[str, object]) -> Iterator[str]:
    flavours = flavours_of(mlmodel)
    pyfunc = flavours.get(PYTHON_FUNCTION)
    if pyfunc is None:
        rows = [row.flavour for row in frameworks().values() if row.flavour is not None]
        ours = {name for flavour in rows for name in flavour.names}
        sections = [said for name, said in flavours.items() if name in ours]
        for said in sections:
            yield from _texts(said, sorted(PATHS))
        return
    yield from _texts(pyfunc, _PATHS_OF_PYFUNC)
    artifacts = pyfunc.get("artifacts")
    for entry in artifacts.values() if isinstance(artifacts, dict) else ():
        if isinstance(entry, dict):
            yield from _texts(entry, ("path",))


def _texts(said: Mapping[str, object], keys: Iterable[str]) -> Iterator[str]:
    yield from (value for key in keys if isinstance(value := said.get(key), str) and value)


def is_inside(path: str) -> bool:
    """Ask whether a path stays in the directory that it is relative to."""
    pure = PurePosixPath(path)
    escapes = not path or pure.is_absolute() or ".." in pure.parts or "\\" in path
    return not (escapes or "\0" in path) and is_short_path(path)


def are_missing(path: Path, names: Sequence[str]) -> str:
    """Say that files which an ``MLmodel`` names are missing."""
    shown = ", ".join(f"'{name}'" for name in names[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    are = "which are" if len(names) > 1 else "which is"
    return f"'{path}' refers to {shown}{more}, {are} missing; put all files of the model there"
