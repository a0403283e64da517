"""The catboost framework: models in CatBoost's own files or in pickles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import catboost

from bundleserver.documents.forms import quoted
from bundleserver.errors import LoadError, StoreError
from bundleserver.frameworks import LoadContext, cbm, pickles
from bundleserver.frameworks.catboost import CLASSES, SUFFIX, is_own_file
from bundleserver.frameworks.catboost.predictor import CatBoostPredictor
from bundleserver.frameworks.catboost.trial import try_first
from bundleserver.frameworks.cbm.loss import class_of_file, loss_of_file
from bundleserver.frameworks.interface import check_options, first_line, reading
from bundleserver.frameworks.pickles import with_article
from bundleserver.frameworks.regular_files import open_regular
from bundleserver.frameworks.tables.logged_columns import LoggedTable, with_logged_columns
from bundleserver.frameworks.trust import PicklePolicy

_OPTIONS = ("class", "columns")


def load(path: Path, context: LoadContext) -> CatBoostPredictor | LoggedTable:
    """Open a file of CatBoost's own format, or a pickle of one of its models.

    The option ``class`` names the class of the library with whose methods a file is answered, where
    its loss function does not tell. ``columns`` has the datatype of every column by name, as in an
    MLflow signature.

    Raises:
        LoadError: names the file, what is wrong with it and what to do.
    """
    where = f"'{path}'"
    check_options(context.options, _OPTIONS, where)
    with reading(path):
        is_own = path.suffix.lower() == SUFFIX or is_own_file(path)
    predictor = _from_file(path, context) if is_own else _from_pickle(path, context)
    return with_logged_columns(predictor, context.options, where)


def save(model: Any, directory: Path, stem: str) -> tuple[Path, dict[str, object]]:
    """Write a fitted model as ``directory/stem.cbm``; the option ``class`` says what it was.

    Raises:
        StoreError: it is not fitted, or not a model of CatBoost.
    """
    name = type(model).__name__
    if name not in CLASSES:
        raise StoreError(f"component '{stem}' is {with_article(name)}; expected a CatBoost model")
    if not model.is_fitted():
        raise StoreError(f"component '{stem}' is a {name} that is not fitted; fit it before saving")
    path = directory / f"{stem}{SUFFIX}"
    try:
        model.save_model(str(path), format="cbm")
        told = class_of_file(cbm.read_model(path.read_bytes()))
    except catboost.CatBoostError as error:
        path.unlink(missing_ok=True)
        raise StoreError(f"component '{stem}' cannot be written: {first_line(error)}") from error
    return path, {} if told == name else {"class": name}


def _from_file(path: Path, context: LoadContext) -> CatBoostPredictor:
    with reading(path), open_regular(path) as file:
        data = file.read()
    said = _checked(data, path)
    if unchecked := cbm.unchecked_parts(said):
        if context.trust.pickles is not PicklePolicy.ANY:
            raise LoadError(
                f"'{path}' has {' and '.join(unchecked)}, which CatBoost reads without a check and "
                f"--pickle_policy={context.trust.pickles.value} does not open; if you trust who "
                "wrote it, serve with --pickle_policy=any"
            )
        try_first(data, said, path)
    return CatBoostPredictor(_opened(data, said, _class(context, said, path), path), said, path)


def _from_pickle(path: Path, context: LoadContext) -> CatBoostPredictor:
    if "class" in context.options:
        raise LoadError(f"'{path}' is a pickle, which has its class; remove options.class")
    model: Any = pickles.load(path, context.trust)
    if type(model).__name__ not in CLASSES or not isinstance(model, catboost.CatBoost):
        raise LoadError(f"'{path}' has a {type(model).__name__}; expected a CatBoost model")
    if not model.is_fitted():
        raise LoadError(f"'{path}' has a {type(model).__name__} that is not fitted; fit it first")
    said = _checked(model.__getstate__()["__model"], path)
    return CatBoostPredictor(model, said, path)


def _checked(data: bytes, path: Path) -> cbm.Model:
    """Read and check what a file says of its model."""
    try:
        said = cbm.read_model(data)
        cbm.check_model(said)
    except cbm.Damaged as error:
        raise LoadError(
            f"'{path}' is not a valid CatBoost model: {error}; save the model again with "
            "save_model(path, format='cbm')"
        ) from error
    if any(feature.kind == "embedding" for feature in said.features):
        raise LoadError(
            f"'{path}' takes embeddings, a list of numbers in one column, which a table of tensors "
            "does not have; train it with a column for each of those numbers"
        )
    return said


def _class(context: LoadContext, said: cbm.Model, path: Path) -> str:
    name = context.options.get("class", class_of_file(said))
    if name not in CLASSES:
        raise LoadError(f"'{path}': options.class is {name!r}; expected one of {quoted(CLASSES)}")
    return str(name)


def _opened(data: bytes, said: cbm.Model, name: str, path: Path) -> Any:
    """Let the library read a checked file."""
    # A regressor's answers follow from its loss function, which is no parameter of what was read
    # from bytes.
    given = {"loss_function": loss_of_file(said)} if name == "CatBoostRegressor" else {}
    model = getattr(catboost, name)(**given)
    try:
        return model.load_model(blob=data)
    except catboost.CatBoostError as error:
        raise LoadError(
            f"'{path}' is refused by CatBoost {catboost.__version__}: {first_line(error)}; save "
            "the model again, with no later version than this"
        ) from error
