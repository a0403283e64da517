"""Opening pickle and joblib files; every error says how to fix the file.

Opening a pickle runs code, so it is inspected first: classes that exist only in a notebook are
refused before anything runs, and errors can name the cause.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Collection, Mapping
from contextlib import ExitStack, suppress
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path

from bundleserver.documents.forms import quoted
from bundleserver.errors import LoadError
from bundleserver.frameworks.checked_files import CheckedPath
from bundleserver.frameworks.imports.lean import IMPORTING
from bundleserver.frameworks.interface import first_line, named_line, passes_through
from bundleserver.frameworks.own_code import why_lacking
from bundleserver.frameworks.pickles.bounded import EndsEarly
from bundleserver.frameworks.pickles.by_value import rebuilds, separate_classes
from bundleserver.frameworks.pickles.gate.listed import (
    DENIED,
    open_listed,
    why_refused,
)
from bundleserver.frameworks.pickles.gate.listing import REAL_MODULES
from bundleserver.frameworks.pickles.gate.refusal import Refused
from bundleserver.frameworks.pickles.held import (
    Held,
    held_in,
    top_class,
    top_package,
    with_article,
)
from bundleserver.frameworks.pickles.made import ClassName, Made, class_of
from bundleserver.frameworks.pickles.own_names import with_own_names
from bundleserver.frameworks.pickles.scan import Contents, inspect_pickle
from bundleserver.frameworks.saved_with import note
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy

__all__ = [
    "PICKLE_SUFFIXES",
    "ClassName",
    "Held",
    "held_in",
    "load",
    "missing_module",
    "notebook_names",
    "save_line",
    "top_class",
    "top_package",
    "version_skew",
    "warn_of_skew",
    "with_article",
]

logger = logging.getLogger(__name__)

PICKLE_SUFFIXES = frozenset({".pkl", ".pickle", ".joblib", ".sav"})
"""The suffixes of files that pickle, cloudpickle or joblib wrote; a compressed one follows them."""

_NOTEBOOK = frozenset({"__main__", "__mp_main__"})
_PLAIN_DATA = frozenset({"builtins", "collections", "datetime", "numpy"})


def load(path: Path, trust: CodeTrust) -> object:
    """Open a pickle or joblib file; what that may run, ``trust`` says.

    Raises:
        LoadError: the file cannot be opened; names the file, the cause and what to do.
    """
    if trust.pickles is PicklePolicy.DENY:
        raise LoadError(f"'{path}' {DENIED}")
    contents = inspect_pickle(path)
    with ExitStack() as opening:
        if trust.own is not None:
            opening.enter_context(trust.own.modules.active())
        if any(rebuilds(name.module) for name in contents.named):
            opening.enter_context(separate_classes())
        return _load(path, contents, trust)


def _load(path: Path, contents: Contents, trust: CodeTrust) -> object:
    if contents.failure is not None:
        _refuse_other_formats(path, contents)
        _refuse_too_short(path, contents.failure)
    _refuse_notebook_classes(path, contents)
    is_listed = trust.pickles is PicklePolicy.LISTED
    if is_listed:
        trust = with_own_names(path, contents.named, trust)
    else:
        _import_modules(contents)
    try:
        import joblib

        # scikit-learn warns for every estimator; one line per file is logged instead. The filter
        # stays: catch_warnings in several threads loses the filters of others.
        warnings.filterwarnings("ignore", message="Trying to unpickle estimator")
        if is_listed:
            model: object = open_listed(path, trust)
        elif isinstance(path, CheckedPath):
            with path.open_checked() as file:
                model = joblib.load(file)
        else:
            model = joblib.load(path)
    except BaseException as error:  # the file's own code runs here
        if passes_through(error):
            raise
        if isinstance(error, Refused):
            raise LoadError(f"'{path}' {why_refused(error, path)}") from error
        raise LoadError(f"'{path}' {_what_failed(error, path, contents)}") from error
    warn_of_skew(path, contents.sklearn_versions)
    return model


def warn_of_skew(path: Path, sklearn_versions: Collection[str]) -> None:
    """Log that a file was saved with another scikit-learn, if it was, and note the version."""
    note("scikit-learn", sklearn_versions)
    if skew := _skew_of(sklearn_versions):
        logger.warning("%s%s: predictions may differ", f"{path}", skew)


def _import_modules(contents: Contents) -> None:
    """Import the modules that a pickle names before it does, one load at a time."""
    with IMPORTING:
        for module in sorted({name.module for name in contents.named} - {*sys.modules}):
            with suppress(Exception):  # unpickling will say what is wrong
                if module in REAL_MODULES and find_spec(module) is None:
                    # What an older library called so is found under its name of today.
                    sys.modules[module] = import_module(REAL_MODULES[module])
                else:
                    import_module(module)


def save_line(parts: Mapping[str, str]) -> str:
    """Return the line of Python that saves a bundle of these components (name to expression)."""
    listed = ", ".join(f'"{name}": {expression}' for name, expression in parts.items())
    return f'BundleStore().save("<name>", {{{listed}}})'


def notebook_names(path: Path) -> tuple[str, ...]:
    """List the names in a pickle that exist only in the notebook or script that wrote it.

    Raises:
        LoadError: the file cannot be read.
    """
    return _notebook_names(inspect_pickle(path))


def version_skew(path: Path) -> str:
    """Say that a file's version of scikit-learn is not the installed one, for a message's end."""
    return _version_skew(inspect_pickle(path)) if path.suffix.lower() in PICKLE_SUFFIXES else ""


def _notebook_names(contents: Contents) -> tuple[str, ...]:
    return tuple(sorted(str(name) for name in contents.named if name.module in _NOTEBOOK))


def _refuse_notebook_classes(path: Path, contents: Contents) -> None:
    names = _notebook_names(contents)
    if not names:
        return
    top = class_of(contents.top)
    if top is not None and top.module in _NOTEBOOK:
        remedy = f"save its parts instead, e.g. {save_line(_parts_of(contents.top))}"
    else:
        remedy = (
            "save the model with BundleStore.save, which writes its code too (pip install "
            "'bundleserver[notebook]'), or move it to a module: code=['features.py'] saves that"
        )
    raise LoadError(
        f"'{path}' uses {quoted(names)}, defined in the notebook or script that wrote the file, "
        f"which cannot be imported here; {remedy}"
    )


def _parts_of(top: object) -> dict[str, str]:
    """Find the models in an object's attributes, with an expression for each."""
    state = top.state if isinstance(top, Made) else None
    attributes = state if isinstance(state, dict) else {}
    parts = [str(name) for name, value in attributes.items() if _is_model(value)]
    return {name: f"pipeline.{name}" for name in parts or ("scaler", "model")}


def _is_model(value: object) -> bool:
    made_by = class_of(value) if isinstance(value, Made) else None
    return made_by is not None and made_by.module.split(".")[0] not in _PLAIN_DATA


_OTHER_FORMATS: Mapping[bytes, str] = {
    b"PK\x03\x04": "a zip archive (torch, numpy .npz and Keras write those)",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a numpy .npy file",
    b"PAR1": "a Parquet file",
    b"version https://git-lfs": "a Git LFS pointer in place of the file; run 'git lfs pull'",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; save it without compression",
    b"<": "an HTML or XML page, probably an error page saved in place of the file",
    b"{": "JSON",
    b"[": "JSON",
}


def _refuse_other_formats(path: Path, contents: Contents) -> None:
    """Reject a file that is not a pickle, as far as its first bytes tell."""
    head = contents.head
    if not head:
        raise LoadError(f"'{path}' is empty; copy it again, or save the model again")
    start = head.lstrip()
    kinds = [kind for magic, kind in _OTHER_FORMATS.items() if start.startswith(magic)]
    if not kinds and all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head):
        kinds = ["text"]
    if kinds:
        what = f"is not a pickle or joblib file; it is probably {kinds[0]}"
        raise LoadError(f"'{path}' {what}") from contents.failure


def _refuse_too_short(path: Path, failure: Exception) -> None:
    """Reject a file that announces more than it has, since opening it takes memory for that."""
    if isinstance(failure, EndsEarly):
        raise LoadError(
            f"'{path}' is truncated or damaged ({failure}); copy it again, or save the model again"
        ) from failure


def _what_failed(error: BaseException, path: Path, contents: Contents) -> str:
    """Say what is wrong with a file that could not be unpickled, and what to do."""
    reason = first_line(error)
    for cause in (error, contents.failure):
        if isinstance(cause, ModuleNotFoundError) and cause.name:
            return missing_module(cause.name, path)
    if isinstance(error, MemoryError):
        return "needs more memory than is available; raise the container's memory limit"
    if contents.failure is not None:
        problem = named_line(error)
        return f"is truncated or damaged ({problem}); copy it again, or save the model again"
    if isinstance(error, AttributeError) and "attribute" in reason:
        return (
            f"was written with other versions of its libraries ({reason}); install those, or save "
            f"the model again with the ones installed here{_version_skew(contents)}"
        )
    return f"cannot be opened: {named_line(error)}{_version_skew(contents)}"


def missing_module(module: str, path: Path) -> str:
    """Say what to do about a missing module: not installed, or removed from its package."""
    package = module.split(".")[0]
    if module.startswith("sklearn.externals"):
        return (
            f"needs '{module}', which scikit-learn removed in version 0.23; open it with the "
            "scikit-learn that wrote it and save it again with joblib.dump"
        )
    if find_spec(package) is None:
        return why_lacking(package, path.parent)
    installed = " and ".join(
        f"{name} {metadata.version(name)}"
        for name in metadata.packages_distributions().get(package, [])
    )
    return (
        f"needs the module '{module}', which {installed or package} does not have; install the "
        "version that wrote the file, or save the model again with this one"
    )


def _version_skew(contents: Contents) -> str:
    """Say that the file's version of scikit-learn differs from ours; empty when it does not."""
    return _skew_of(contents.sklearn_versions)


def _skew_of(sklearn_versions: Collection[str]) -> str:
    installed = getattr(sys.modules.get("sklearn"), "__version__", None)
    if not sklearn_versions or installed is None or {*sklearn_versions} == {installed}:
        return ""
    saved = ", ".join(sorted(sklearn_versions))
    return f"; it was saved with scikit-learn {saved}, but {installed} is installed"
