"""The lightgbm framework: boosters in text files and pickles."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from lightgbm import Booster

from bundleserver.errors import LoadError, StoreError
from bundleserver.frameworks import LoadContext, pickles
from bundleserver.frameworks.fast.boosted import MOST_BYTES
from bundleserver.frameworks.fast.option import read_option
from bundleserver.frameworks.file_names import suffix_of
from bundleserver.frameworks.interface import first_line, reading
from bundleserver.frameworks.lightgbm.predictor import BoosterPredictor
from bundleserver.frameworks.lightgbm_text.model import ModelText, read_model
from bundleserver.frameworks.lightgbm_text.numbers import Malformed
from bundleserver.frameworks.pickles import PICKLE_SUFFIXES
from bundleserver.frameworks.regular_files import open_regular
from bundleserver.frameworks.tables.logged_columns import LoggedTable, with_logged_columns

LOG = logging.getLogger(__name__)


def load(path: Path, context: LoadContext) -> BoosterPredictor | LoggedTable:
    """Open a text file, or a pickle of a booster.

    The option ``columns`` has the datatype of every column by name, as in an MLflow signature;
    ``accelerate`` is ``"auto"`` (treelite answers few rows if its bits are equal) or ``"off"``.

    Raises:
        LoadError: names the file, what is wrong with it and what to do.
    """
    accelerate = read_option(context.options, f"'{path}'")
    is_pickle = suffix_of(path.name) in PICKLE_SUFFIXES
    booster, model = _unpickled(path, context) if is_pickle else _read(path)
    accelerate = accelerate and len(model.text) <= MOST_BYTES
    predictor = BoosterPredictor(booster, model, accelerate=accelerate)
    return with_logged_columns(predictor, context.options, f"'{path}'")


def _read(path: Path) -> tuple[Booster, ModelText]:
    with reading(path), open_regular(path) as file:
        data = file.read()
    if not data:
        raise LoadError(f"'{path}' is empty; copy it again, or save the model again")
    checked = _checked(data, path)
    return Booster(model_str=checked.text), checked


def _unpickled(path: Path, context: LoadContext) -> tuple[Booster, ModelText]:
    booster: Any = pickles.load(path, context.trust)
    if not isinstance(booster, Booster):
        kind = type(booster)
        raise LoadError(
            f"'{path}' has a {kind.__module__}.{kind.__qualname__}; expected a lightgbm.Booster"
        )
    return booster, _checked(booster.model_to_string(-1).encode(), path)


def _checked(data: bytes, path: Path) -> ModelText:
    try:
        return read_model(data)
    except Malformed as error:
        raise LoadError(
            f"'{path}' is not a valid LightGBM model: it {error}; copy it again, or save the model "
            "again"
        ) from error


def save(model: object, directory: Path, stem: str) -> tuple[Path, dict[str, object]]:
    """Write a booster as ``directory/stem.txt``, with its best iterations if it stopped early.

    Raises:
        StoreError: it cannot be written.
    """
    if not isinstance(model, Booster):
        kind = type(model)
        raise StoreError(
            f"component '{stem}' is a {kind.__module__}.{kind.__qualname__}; expected a "
            "lightgbm.Booster, such as the 'booster_' of an estimator"
        )
    path = directory / f"{stem}.txt"
    text = model.model_to_string()
    try:
        checked = read_model(text.encode())
    except Malformed as error:
        raise StoreError(
            f"component '{stem}' cannot be served: its text {first_line(error)}"
        ) from error
    if checked.has_codes:
        LOG.warning(
            "component '%s': the text of LightGBM does not tell which columns its categories are "
            "of; columns of categories take their numbers, from 0, in the order of their values",
            stem,
        )
    path.write_bytes(text.encode())
    return path, {}
