"""The python framework: a class in a bundle's own code, with ``load`` and ``predict``.

The class is what a server of one's own has elsewhere, without an image of one's own::

    class Scorer:
        def load(self, directory: Path) -> None: ...
        def predict(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]: ...

``load`` may be left out, or be a class method that returns the object.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path, PurePosixPath
from types import MappingProxyType, ModuleType
from typing import Any

from bundleserver.documents.forms import nearest
from bundleserver.errors import BundleServerError, LoadError, StoreError
from bundleserver.frameworks.interface import (
    LoadContext,
    check_options,
    named_line,
    passes_through,
)
from bundleserver.frameworks.own_code import OwnCode, why_lacking
from bundleserver.frameworks.python.results import checked
from bundleserver.manifest import CODE
from bundleserver.tensors import Array, NamedTensor
from bundleserver.tensors.signature import Signature

_Predict = Callable[[dict[str, Array]], object]

_EXPECTED = "a class with load(directory) and predict(inputs)"


def load(path: Path, context: LoadContext) -> PythonPredictor:
    """Import a file of the bundle's own code, and make an object of one of its classes.

    The option ``class`` names the class.

    Raises:
        LoadError: names the file, what is wrong with it and what to do.
    """
    check_options(context.options, ("class",), f"'{path}'")
    name = context.options.get("class")
    if not isinstance(name, str) or not name.isidentifier():
        raise LoadError(f"'{path}': options.class is {name!r}; expected the name of {_EXPECTED}")
    own = context.trust.own
    module_name = None if own is None else _module_name(path, own)
    if own is None or module_name is None:
        raise LoadError(
            f"'{path}' is not a module of the bundle's own code; expected a '.py' file in '{CODE}/'"
        )
    with own.modules.active():
        module = _imported(module_name, path, own)
    return PythonPredictor(_made(_class_of(module, name, path), own, path))


def save(model: object, directory: Path, stem: str) -> tuple[Path, dict[str, object]]:
    """Refuse: the file is copied with the rest of the code.

    Raises:
        StoreError: always.
    """
    raise StoreError(
        f"component '{stem}' is an object; expected what a manifest has: "
        f"{{'framework': 'python', 'path': '{CODE}/model.py', 'options': {{'class': 'Scorer'}}}}, "
        "with code=['model.py']"
    )


class PythonPredictor:
    """An object of the bundle's own class; as safe for threads as that is."""

    def __init__(self, predict: _Predict) -> None:
        self._predict: _Predict = predict
        # Any tensors: what it takes and returns says the manifest.
        self.methods: Mapping[str, Signature] = MappingProxyType({"predict": Signature()})

    def call(
        self, method: str, inputs: Sequence[NamedTensor], parameters: Mapping[str, object]
    ) -> Mapping[str, Array]:
        """Call ``predict`` with an array for each name; parameters are ignored.

        Raises:
            Exception: the class raised it, or what it returned is no array of n rows for each name.
        """
        arrays = {tensor.name: tensor.values for tensor in inputs}
        return checked(self._predict(arrays), len(inputs[0].values))

    def close(self) -> None:
        """Release the object."""
        del self._predict


def _module_name(path: Path, own: OwnCode) -> str | None:
    """Return the dotted name of a file below ``code/``; None if it is no module there."""
    top = own.shown / CODE
    if path.suffix != ".py" or not path.is_relative_to(top):
        return None
    parts = PurePosixPath(path.relative_to(top).as_posix()).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(parts) if parts and all(map(str.isidentifier, parts)) else None


def _imported(name: str, path: Path, own: OwnCode) -> ModuleType:
    try:
        return import_module(name)
    except BaseException as error:  # the bundle's own code runs here, and may exit
        if passes_through(error) or isinstance(error, BundleServerError):
            raise
        raise LoadError(f"'{path}' cannot be imported: {_why(error, own)}") from error


def _why(error: BaseException, own: OwnCode) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"it {why_lacking(error.name, own.shown)}"
    return named_line(error)


def _class_of(module: ModuleType, name: str, path: Path) -> Any:
    found = vars(module).get(name)
    if not isinstance(found, type):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        what = "has no class" if found is None else f"has a {type(found).__name__} in place of"
        raise LoadError(
            f"'{path}' {what} '{name}', which options.class names{nearest(name, classes)}"
        )
    return found


def _made(made_of: Any, own: OwnCode, path: Path) -> _Predict:
    """Return the ``predict`` of an object of the class, loaded."""
    what = f"'{path}': class {made_of.__name__}"
    method = getattr(made_of, "predict", None)
    if not callable(method) or inspect.iscoroutinefunction(method):
        is_lacking = (
            "has no method 'predict'"
            if method is None
            else "has a 'predict' that is not a plain method"
        )
        raise LoadError(f"{what} {is_lacking}; expected {_EXPECTED}")
    makes = isinstance(inspect.getattr_static(made_of, "load", None), (classmethod, staticmethod))

    def make() -> Any:
        made = made_of.load(own.directory) if makes else made_of()
        if not makes and callable(getattr(made, "load", None)):
            made.load(own.directory)
        return made

    try:
        # Large files may take long, and other versions need not wait for that.
        made = own.modules.call_once(make)
    except BaseException as error:  # the bundle's own code runs here, and may exit
        if passes_through(error) or isinstance(error, BundleServerError):
            raise
        raise LoadError(f"{what} cannot be loaded: {_why(error, own)}") from error
    if not callable(getattr(made, "predict", None)):
        raise LoadError(f"{what}: load returned a {type(made).__name__}; expected an object of it")
    predict: _Predict = made.predict
    return predict
