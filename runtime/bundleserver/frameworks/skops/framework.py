"""The skops framework: a fitted estimator or pipeline in a skops file, served as from a pickle."""

from __future__ import annotations

import logging
from pathlib import Path

import skops.io

from bundleserver.documents.forms import quoted
from bundleserver.errors import StoreError
from bundleserver.frameworks import LoadContext
from bundleserver.frameworks.interface import first_line
from bundleserver.frameworks.sklearn.estimators import why_not_served
from bundleserver.frameworks.sklearn.framework import SklearnPredictor, served
from bundleserver.frameworks.skops import SUFFIX
from bundleserver.frameworks.skops.opening import NOTEBOOK, open_skops, untrusted_in
from bundleserver.frameworks.tables.logged_columns import LoggedTable

LOG = logging.getLogger(__name__)


def load(path: Path, context: LoadContext) -> SklearnPredictor | LoggedTable:
    """Open a skops file of one fitted estimator, with the options of the framework ``sklearn``.

    Raises:
        LoadError: names the file, what is wrong with it and what to do.
    """
    return served(open_skops(path, context.trust), path, context)


def save(model: object, directory: Path, stem: str) -> tuple[Path, dict[str, object]]:
    """Write a fitted estimator as ``directory/stem.skops``, without options.

    Types for which a server needs a list of its operator are logged.

    Raises:
        StoreError: it is no fitted estimator, has what skops does not save, or uses what is
            defined in a notebook.
    """
    if problem := why_not_served(model):
        raise StoreError(f"component '{stem}' is {problem}")
    path = directory / f"{stem}{SUFFIX}"
    try:
        skops.io.dump(model, path)
    except OSError as error:
        raise StoreError(f"component '{stem}' cannot be written to '{path}': {error}") from error
    except Exception as error:  # skops may raise anything for what it does not know
        path.unlink(missing_ok=True)
        raise StoreError(
            f"component '{stem}' cannot be saved by skops: {first_line(error)}; save it without "
            "frameworks={…: 'skops'}, as a pickle"
        ) from error
    unknown = untrusted_in(path)
    if notebook := [name for name in unknown if name.startswith(NOTEBOOK)]:
        path.unlink()
        raise StoreError(
            f"component '{stem}' uses {', '.join(notebook)}, defined in a notebook; move it to a "
            "module that is installed in the server's image too, and import it from there"
        )
    if unknown:
        LOG.warning(
            "component '%s' has %s, which neither skops nor the built-in list trusts; a server "
            "opens it with --pickle_policy=any, or with these names in the file of --pickle_allow",
            stem,
            quoted(unknown, most=20),
        )
    return path, {}
