"""The xgboost framework: opening and writing boosters."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import xgboost
from xgboost.core import XGBoostError

from bundleserver.errors import LoadError, StoreError
from bundleserver.frameworks import LoadContext, pickles
from bundleserver.frameworks.boosting.soundness import NotSound
from bundleserver.frameworks.fast.boosted import MOST_BYTES
from bundleserver.frameworks.fast.option import read_option
from bundleserver.frameworks.file_names import suffix_of
from bundleserver.frameworks.interface import first_line, reading
from bundleserver.frameworks.pickles import PICKLE_SUFFIXES
from bundleserver.frameworks.regular_files import open_regular
from bundleserver.frameworks.tables.logged_columns import LoggedTable, with_logged_columns
from bundleserver.frameworks.xgboost.checked.model import check_model, read_document
from bundleserver.frameworks.xgboost.checked.recorded import Recorded
from bundleserver.frameworks.xgboost.installed import installed_version
from bundleserver.frameworks.xgboost.predictor import BoosterPredictor

LOG = logging.getLogger(__name__)


def load(path: Path, context: LoadContext) -> BoosterPredictor | LoggedTable:
    """Open a file in a format of XGBoost's own, or a pickle of a booster.

    The option ``columns`` has the datatype of every column by name, as in an MLflow signature;
    ``accelerate`` is ``"auto"`` (treelite answers few rows if its bits are equal) or ``"off"``.

    Raises:
        LoadError: names the file, what is wrong with it and what to do.
    """
    accelerate = read_option(context.options, f"'{path}'")
    if suffix_of(path.name) in PICKLE_SUFFIXES:
        booster = pickles.load(path, context.trust)
        if not isinstance(booster, xgboost.Booster):
            raise LoadError(f"'{path}' has a {type(booster).__name__}; expected a Booster")
        with _named(f"'{path}'"):
            content = bytes(booster.save_raw("ubj"))
            recorded = _checked(content)
    else:
        with reading(path), open_regular(path) as file:
            content = file.read()
        with _named(f"'{path}'"):
            recorded = _checked(content)
            booster = xgboost.Booster(model_file=_as_xgboost_knows_it(content))
    with _named(f"'{path}'"):
        accelerate = accelerate and len(content) <= MOST_BYTES
        predictor = BoosterPredictor(booster, recorded, accelerate=accelerate)
    for place in [place for place, values in recorded.categories.items() if not values]:
        column = recorded.names[place] if recorded.names else str(place)
        LOG.warning(
            "%s: XGBoost recorded the categories of column '%s' incompletely, since they have "
            "letters beyond ASCII; it takes their places in training, as before XGBoost 3.1",
            f"{path}",
            column,
        )
    return with_logged_columns(predictor, context.options, f"'{path}'")


def save(model: object, directory: Path, stem: str) -> tuple[Path, dict[str, object]]:
    """Write a booster as ``directory/stem.ubj``, without options.

    Raises:
        StoreError: it is no trained booster, or is one that would not open again.
    """
    if not isinstance(model, xgboost.Booster):
        kind = type(model)
        raise StoreError(
            f"component '{stem}' is a {kind.__module__}.{kind.__qualname__}; the framework "
            "'xgboost' saves a Booster, 'sklearn' XGBoost's estimators"
        )
    try:
        content = bytes(model.save_raw("ubj"))
        _checked(content)
    except (NotSound, XGBoostError) as error:
        raise StoreError(f"component '{stem}' cannot be saved: {first_line(error)}") from error
    path = directory / f"{stem}.ubj"
    path.write_bytes(content)
    return path, {}


def _checked(content: bytes) -> Recorded:
    return check_model(read_document(content), installed_version())


def _as_xgboost_knows_it(content: bytes) -> bytearray:
    """Return JSON without white space after its first brace, which XGBoost would not recognise."""
    if content.startswith(b"{L"):
        return bytearray(content)
    return bytearray(b"{" + content.lstrip()[1:].lstrip())


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Turn what is wrong with a model into a LoadError that names its file."""
    try:
        yield
    except (NotSound, XGBoostError) as error:
        raise LoadError(f"{where} cannot be opened: {first_line(error)}") from error
