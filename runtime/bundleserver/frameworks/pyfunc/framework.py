"""The pyfunc framework: any model that ``mlflow.pyfunc`` loads, by its ``MLmodel`` file.

The model's signature declares its inputs and outputs. Code that was logged with it
(``code_paths``) is isolated. Parameters of the signature are parameters of the request.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

import mlflow.pyfunc
from mlflow.exceptions import MlflowException

from bundleserver.documents.bounded_yaml import parse_yaml
from bundleserver.errors import FrameworkError, InvalidInput, LoadError, StoreError
from bundleserver.frameworks import LoadContext, frameworks
from bundleserver.frameworks.interface import check_options, first_line, named_line, reading
from bundleserver.frameworks.isolated_code import IsolatedCode
from bundleserver.frameworks.own_code import why_lacking
from bundleserver.frameworks.pickles.by_value import separate_classes
from bundleserver.frameworks.pyfunc.samples import tensors_of_example
from bundleserver.frameworks.pyfunc.trust import (
    METHODS,
    Declared,
    check_code,
    check_loader,
    declared_by,
)
from bundleserver.frameworks.pyfunc.values import (
    answers,
    as_answered,
    fit_output,
    model_input,
    request_parameters,
    specs_of,
    told_by,
)
from bundleserver.frameworks.regular_files import open_regular
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy
from bundleserver.tensors import Array, NamedTensor
from bundleserver.tensors.signature import Signature

LOG = logging.getLogger(__name__)

_MOST_BYTES = 4 << 20
_MOST_FILES = 100_000

_OF_ESTIMATORS = ("mlflow.sklearn", "mlflow.lightgbm")
"""The loaders of estimators, whose classes tell what they answer."""

_CALLERS_FAULT = frozenset({"INVALID_PARAMETER_VALUE", "BAD_REQUEST"})


def load(path: Path, context: LoadContext) -> PyfuncPredictor:
    """Open a model by its ``MLmodel`` file; by MLflow itself where every pickle is trusted.

    Raises:
        FrameworkError: a package of the model is not installed; names it.
        LoadError: names the file, what is wrong with it and what to do.
    """
    check_options(context.options, (), f"'{path}'")
    trust = context.trust
    declared = _check_files(path)
    check_code(declared, trust)
    check_loader(declared, trust)
    with ExitStack() as opened:
        directory = _readable(path.parent, opened)
        code = _code_of(declared)
        if trust.pickles is not PicklePolicy.ANY:
            model = _checked(declared, trust, code)
            return PyfuncPredictor(model, declared, code, opened.pop_all())
        try:
            with code.active() if code else nullcontext(), separate_classes():
                # No warnings: requirements are compared before anything is opened.
                model = mlflow.pyfunc.load_model(directory, suppress_warnings=True)
        except ModuleNotFoundError as error:
            raise FrameworkError(_missing(path, error)) from error
        except (Exception, SystemExit) as error:  # the model's own code runs here
            problem = f"cannot be opened by mlflow.pyfunc: {named_line(error)}"
            raise LoadError(f"'{path}' {problem}") from error
        return PyfuncPredictor(model, declared, code, opened.pop_all())


def save(model: object, directory: Path, stem: str) -> tuple[Path, dict[str, object]]:
    """Refuse: MLflow saves and registers its own models.

    Raises:
        StoreError: always.
    """
    raise StoreError(
        f"component '{stem}' must be saved by MLflow: mlflow.pyfunc.log_model(…); serve it with "
        "--model_uri models:/NAME"
    )


class PyfuncPredictor:
    """A loaded pyfunc with one method, ``predict``; as safe for threads as the model itself."""

    def __init__(
        self, model: Any, declared: Declared, code: IsolatedCode | None, owned: ExitStack
    ) -> None:
        self._model: Any = model
        method = str(declared.pyfunc.get("predict_fn", "predict"))
        self._code = code
        self._owned = owned
        self._is_sklearn = declared.loader == "mlflow.sklearn"
        signature = model.metadata.signature
        schema = signature.inputs if signature else None
        self._schema = schema
        self.parameters = request_parameters(signature.params if signature else None)
        self._outputs = specs_of(signature.outputs if signature else None, "output")
        is_known = declared.loader in _OF_ESTIMATORS and method in METHODS
        told = told_by(model, method) if is_known else ()
        self.methods: Mapping[str, Signature] = MappingProxyType(
            {
                "predict": Signature(
                    specs_of(schema, "input"),
                    as_answered(self._outputs) or told,
                    # MLflow drops columns that a signature lacks.
                    ignores_others=schema is not None and not schema.is_tensor_spec(),
                )
            }
        )

    def call(
        self, method: str, inputs: Sequence[NamedTensor], parameters: Mapping[str, object]
    ) -> Sequence[Array] | Mapping[str, Array]:
        """Call the model with a DataFrame if its signature has columns, else arrays.

        Raises:
            InvalidInput: the input is not valid for the signature, or scikit-learn rejects it.
        """
        data = model_input(inputs, self._schema)
        params = {name: parameters[name] for name in self.parameters if name in parameters}

        def predict(data: object) -> object:
            return self._model.predict(data, params=params or None)

        try:
            result = self._code.call(predict, data, deepcopy) if self._code else predict(data)
        except MlflowException as error:
            if error.error_code not in _CALLERS_FAULT:
                raise
            raise InvalidInput(f"the model rejects the input: {_reason(error)}") from error
        except (TypeError, ValueError) as error:
            if not self._is_sklearn or not _blames_the_input(error):
                raise
            raise InvalidInput(f"the model rejects the input: {first_line(error)}") from error
        values = answers(result, self._outputs)
        if isinstance(values, dict):
            return values
        if not self._outputs:
            return values
        return [fit_output(v, spec) for v, spec in zip(values, self._outputs, strict=False)]

    def samples(self, method: str, rows: int) -> Sequence[Sequence[NamedTensor]]:
        """Return the input example that was logged with the model, if it can be used.

        Nothing else is sent to a model of which nothing is known but that it runs code.
        """
        example = self._model.input_example
        if example is None:
            return ()
        try:
            return (tensors_of_example(example, self.methods[method].inputs, rows),)
        except Exception as error:  # noqa: BLE001  # an example that is not usable is none
            LOG.debug("the input example is ignored: %r", error)
            return ()

    def close(self) -> None:
        """Release the model and its modules."""
        self._model, self._code = None, None
        self._owned.close()


def _readable(directory: Path, owned: ExitStack) -> str:
    """Return a path of a directory that MLflow, which decodes ``%20`` in paths, finds."""
    if unquote(str(directory)) == str(directory):
        return str(directory)
    link = Path(owned.enter_context(TemporaryDirectory(prefix="bundleserver-"))) / "model"
    link.symlink_to(directory.absolute(), target_is_directory=True)
    # MLflow follows no link out of the directory above the one that it opens.
    return f"{link}/."


def _reason(error: MlflowException) -> str:
    """Return why MLflow refuses an input, without the whole input and the whole schema."""
    cause = error.__context__
    is_enforced = str(error).startswith("Failed to enforce schema of data")
    return first_line(cause if is_enforced and cause is not None else error)


def _blames_the_input(error: Exception) -> bool:
    from bundleserver.frameworks.sklearn.framework import blames_the_input

    return blames_the_input(error.__traceback__)


def _checked(declared: Declared, trust: CodeTrust, code: IsolatedCode | None) -> Any:
    from bundleserver.frameworks.pyfunc.checked import open_checked

    try:
        return open_checked(declared, trust, code)
    except ModuleNotFoundError as error:
        raise FrameworkError(_missing(declared.path, error)) from error
    except MlflowException as error:
        raise LoadError(f"'{declared.path}' cannot be read: {first_line(error)}") from error


def _check_files(path: Path) -> Declared:
    """Return what a model declares; refuse what MLflow would read without a limit.

    Raises:
        LoadError: names the file, and what is wrong with it.
    """
    with reading(path), open_regular(path) as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise LoadError(f"'{path}' has more than the {_MOST_BYTES} bytes of an MLmodel")
    try:
        document = parse_yaml(data.decode())
    except ValueError as error:
        raise LoadError(f"'{path}' cannot be read: {error}") from error
    for count, other in enumerate(path.parent.rglob("*")):
        if count == _MOST_FILES:
            raise LoadError(f"'{path.parent}' has more than {_MOST_FILES} files")
        if other.exists() and not other.is_file() and not other.is_dir():
            raise LoadError(f"'{other}' is no regular file, directory or link to one")
    declared = declared_by(path, document)
    try:
        mlflow.models.Model.from_dict(dict(declared.document))
    except Exception as error:  # whatever MLflow's own validation raises
        raise LoadError(f"'{path}' cannot be read: {first_line(error)}") from error
    return declared


def _code_of(declared: Declared) -> IsolatedCode | None:
    """Return the code that was logged with a model, if any."""
    path, name = declared.path, declared.code
    if name is None:
        return None
    try:
        place = (path.parent / str(name)).resolve()
        is_beside = place.is_relative_to(path.parent.resolve()) and place.is_dir()
    except (OSError, ValueError):  # it is too long, or has a NUL
        is_beside = False
    if not is_beside:
        raise LoadError(f"'{path}' refers to the code '{name}', which is not a directory beside it")
    return IsolatedCode(place)


def _missing(path: Path, error: ModuleNotFoundError) -> str:
    package = (error.name or "").partition(".")[0] or "a package"
    extras = {row.library: row.extra for row in frameworks().values() if row.extra}
    if package not in extras:
        return f"'{path}' {why_lacking(package, path.parent)}"
    return (
        f"'{path}' needs the package '{package}', which is not installed; install it with: pip "
        f"install 'bundleserver[{extras[package]}]'"
    )
