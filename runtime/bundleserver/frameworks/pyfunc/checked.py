"""Models of MLflow's own flavours, opened by us where not every pickle is trusted.

The model's file is opened by the operator's lists; what MLflow puts around it, its signature and
its method, is MLflow's own class without its loader.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import mlflow.pyfunc
from mlflow.models import Model

from bundleserver.errors import LoadError
from bundleserver.frameworks import pickles
from bundleserver.frameworks.interface import named_line, reading
from bundleserver.frameworks.isolated_code import IsolatedCode
from bundleserver.frameworks.own_code import OwnCode
from bundleserver.frameworks.pyfunc.trust import Declared, check_shadows
from bundleserver.frameworks.regular_files import open_regular
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy

_MOST_BYTES = 1 << 30


def open_checked(declared: Declared, trust: CodeTrust, code: IsolatedCode | None) -> Any:
    """Open a model by the operator's lists.

    Raises:
        LoadError: its file has what they do not name.
    """
    if code is not None:
        if trust.pickles is PicklePolicy.DENY:
            raise LoadError(
                f"'{declared.path}' has code of its own, and --pickle_policy=deny opens only "
                "models without code"
            )
        check_shadows(code, declared.path)
    implementation = _LOADERS[declared.loader](declared, trust, code)
    method = str(declared.pyfunc.get("predict_fn", "predict"))
    meta = Model.from_dict(dict(declared.document))
    model = mlflow.pyfunc.PyFuncModel(meta, implementation, predict_fn=method)
    try:
        model.input_example = meta.load_input_example(path=str(declared.path.parent))
    except Exception:  # noqa: BLE001  # as MLflow: an example that cannot be read is none
        model.input_example = None
    return model


def _sklearn(declared: Declared, trust: CodeTrust, code: IsolatedCode | None) -> object:
    model = _estimator(declared, "sklearn", trust, code)
    return _wrapped("mlflow.sklearn", "_SklearnModelWrapper", model)


def _lightgbm(declared: Declared, trust: CodeTrust, code: IsolatedCode | None) -> object:
    model = _estimator(declared, "lightgbm", trust, code)
    return _wrapped("mlflow.lightgbm", "_LGBModelWrapper", model)


def _estimator(
    declared: Declared, flavour: str, trust: CodeTrust, code: IsolatedCode | None
) -> object:
    said = declared.flavours.get(flavour, {})
    pyfunc = declared.pyfunc
    name = pyfunc.get("data") or pyfunc.get("model_path") or said.get("pickled_model")
    path = _file(declared, name)
    if said.get("serialization_format") == "skops":
        from bundleserver.frameworks.skops.opening import open_skops

        return open_skops(path, trust)
    return _open_pickle(path, trust, code)


def _statsmodels(declared: Declared, trust: CodeTrust, code: IsolatedCode | None) -> object:
    path = _file(declared, declared.pyfunc.get("data"))
    model = _open_pickle(path, trust, code)
    return _wrapped("mlflow.statsmodels", "_StatsmodelsModelWrapper", model)


def _prophet(declared: Declared, trust: CodeTrust, code: IsolatedCode | None) -> object:
    from prophet.serialize import model_from_dict

    from bundleserver.frameworks.prophet import document

    path = _file(declared, declared.pyfunc.get("data"))
    data = _content(path, document.MOST_BYTES)
    try:
        model = model_from_dict(cast(Any, document.parse(data.decode())))
        document.check_model(model)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise LoadError(f"'{path}' is not a valid Prophet model: {named_line(error)}") from error
    return _wrapped("mlflow.prophet", "_ProphetModelWrapper", model)


_LOADERS: Mapping[str, Callable[[Declared, CodeTrust, IsolatedCode | None], object]] = {
    "mlflow.sklearn": _sklearn,
    "mlflow.statsmodels": _statsmodels,
    "mlflow.prophet": _prophet,
    "mlflow.lightgbm": _lightgbm,
}


def _wrapped(module: str, name: str, model: object) -> object:
    """Return a model in MLflow's class that calls it."""
    wrapper: Callable[[object], object] = getattr(import_module(module), name)
    return wrapper(model)


def _file(declared: Declared, name: object) -> Path:
    if not isinstance(name, str) or not name:
        raise LoadError(f"'{declared.path}' names no file of the model")
    return declared.path.parent / name


def _content(path: Path, most_bytes: int) -> bytes:
    with reading(path), open_regular(path) as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise LoadError(f"'{path}' has more than {most_bytes} bytes")
    return data


def _open_pickle(path: Path, trust: CodeTrust, code: IsolatedCode | None) -> object:
    own = None if code is None else OwnCode(code, path.parent, path.parent)
    return pickles.load(path, replace(trust, own=own))
