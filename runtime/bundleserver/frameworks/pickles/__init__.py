"""Opening pickle and joblib files, with every failure worded for whoever has to mend it.

Opening a pickle runs what it names, so its contents are inspected first: that refuses classes that
exist only in a notebook before anything runs, and words the errors.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from bundleserver.errors import LoadError
from bundleserver.frameworks.pickles.scan import (
    ClassName,
    Contents,
    Made,
    class_of,
    inspect_pickle,
    top_class,
    top_package,
)

__all__ = [
    "PICKLE_SUFFIXES",
    "ClassName",
    "first_line",
    "load",
    "notebook_names",
    "save_line",
    "top_class",
    "top_package",
]

logger = logging.getLogger(__name__)

PICKLE_SUFFIXES = frozenset({".pkl", ".pickle", ".joblib", ".sav"})
"""How files are called that pickle, cloudpickle or joblib wrote."""

_NOTEBOOK = frozenset({"__main__", "__mp_main__"})
_PLAIN_DATA = frozenset({"builtins", "collections", "datetime", "numpy"})


def load(path: Path) -> object:
    """Open a pickle or joblib file; this runs the code that the file names.

    Raises:
        LoadError: whatever went wrong, in one sentence that names the file and what to do.
    """
    contents = inspect_pickle(path)
    if contents.failure is not None:
        _refuse_other_formats(path, contents)
    _refuse_notebook_classes(path, contents)
    try:
        import joblib

        with _version_warnings_hushed():
            model: object = joblib.load(path)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the file's own code runs here
        raise LoadError(f"'{path}' {_what_failed(error, contents)}") from error
    if skew := _version_skew(contents):
        logger.warning("%s%s: answers may differ", path, skew)
    return model


def save_line(parts: Mapping[str, str]) -> str:
    """Write the line of Python that makes a bundle of these parts: component name to expression."""
    listed = ", ".join(f'"{name}": {expression}' for name, expression in parts.items())
    return f'BundleStore().save("<name>", {{{listed}}})'


def notebook_names(path: Path) -> tuple[str, ...]:
    """Name what a pickle needs that exists only in the notebook or script that wrote it.

    Raises:
        LoadError: the file cannot be read.
    """
    return _notebook_names(inspect_pickle(path))


def _notebook_names(contents: Contents) -> tuple[str, ...]:
    return tuple(sorted(str(name) for name in contents.named if name.module in _NOTEBOOK))


def _refuse_notebook_classes(path: Path, contents: Contents) -> None:
    homeless = _notebook_names(contents)
    if not homeless:
        return
    top = class_of(contents.top)
    if top is not None and top.module in _NOTEBOOK:
        remedy = f"save its parts instead, e.g. {save_line(_parts_of(contents.top))}"
    else:
        remedy = (
            "put it in a module that is installed in the server's image, or build the model "
            "without it, and save it again"
        )
    raise LoadError(
        f"'{path}' holds {_quoted(homeless)}, which lived in the notebook or script that wrote the "
        f"file and cannot be imported anywhere else; {remedy}"
    )


def _parts_of(top: object) -> dict[str, str]:
    """Find the models that an object keeps as attributes, as an expression each."""
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
    b"<": "an HTML or XML page, perhaps an error page saved in place of the file",
    b"{": "JSON",
    b"[": "JSON",
}


def _refuse_other_formats(path: Path, contents: Contents) -> None:
    """Say what a file is that is no pickle, from how it begins; silent when it may be one."""
    head = contents.head
    if not head:
        raise LoadError(f"'{path}' is empty; copy it again, or save the model again")
    start = head.lstrip()
    kinds = [kind for magic, kind in _OTHER_FORMATS.items() if start.startswith(magic)]
    if not kinds and all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head):
        kinds = ["text"]
    if kinds:
        what = f"is no pickle or joblib file; it looks like {kinds[0]}"
        raise LoadError(f"'{path}' {what}") from contents.failure


@contextmanager
def _version_warnings_hushed() -> Iterator[None]:
    """Keep scikit-learn's warning per estimator quiet: one line per file is logged in its place."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Trying to unpickle estimator")
        yield


def _what_failed(error: BaseException, contents: Contents) -> str:
    """Word an error of unpickling: what is wrong with the file, and what to do."""
    reason = first_line(error)
    for cause in (error, contents.failure):
        if isinstance(cause, ModuleNotFoundError) and cause.name:
            return _missing_module(cause.name)
    if isinstance(error, MemoryError):
        return "needs more memory than there is; raise the container's memory limit"
    if contents.failure is not None:
        problem = f"{type(error).__name__}: {reason}"
        return f"is truncated or damaged ({problem}); copy it again, or save the model again"
    if isinstance(error, AttributeError) and "attribute" in reason:
        return (
            f"was written with other versions of its libraries ({reason}); install those, or save "
            f"the model again with the ones installed here{_version_skew(contents)}"
        )
    return f"cannot be opened: {type(error).__name__}: {reason}{_version_skew(contents)}"


def _missing_module(module: str) -> str:
    """Word the lack of a module: never installed here, or gone from the version installed here."""
    package = module.split(".")[0]
    if module.startswith("sklearn.externals"):
        return (
            f"needs '{module}', which scikit-learn dropped in version 0.23; open it with the "
            "scikit-learn that wrote it and save it again with joblib.dump"
        )
    if find_spec(package) is None:
        return (
            f"needs the module '{package}', which is not installed here; install the package that "
            f"has it in the server's image (a line 'RUN pip install {package}' in its Dockerfile), "
            "or save only the parts that need no code of your own with BundleStore.save"
        )
    installed = " and ".join(
        f"{name} {metadata.version(name)}"
        for name in metadata.packages_distributions().get(package, [])
    )
    return (
        f"needs the module '{module}', which {installed or package} does not have; install the "
        "version that wrote the file, or save the model again with this one"
    )


def _version_skew(contents: Contents) -> str:
    """Name the versions of scikit-learn that differ, the file's and ours; empty when they agree."""
    if not contents.sklearn_versions:
        return ""
    installed = getattr(sys.modules.get("sklearn"), "__version__", None)
    if installed is None or contents.sklearn_versions == {installed}:
        return ""
    saved = ", ".join(sorted(contents.sklearn_versions))
    return f"; it was saved with scikit-learn {saved}, and {installed} opens it"


def first_line(error: BaseException) -> str:
    """Take an error's first line, as long as a sentence may be, without its full stop."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300].rstrip(" .:")


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
