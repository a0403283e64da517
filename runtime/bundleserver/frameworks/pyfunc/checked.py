"""Models of MLflow's own flavours, opened by us where not every pickle is trusted.

The model's file is opened by the operator's lists; what MLflow puts around it, its signature and
its method, is MLflow's own class without its loader.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import FunctionType
from typing import Any, cast

import mlflow.pyfunc
from mlflow.models import Model
from packaging.version import Version

from bundleserver.documents.forms import quoted
from bundleserver.errors import LoadError
from bundleserver.frameworks import pickles
from bundleserver.frameworks.interface import named_line, reading
from bundleserver.frameworks.isolated_code import IsolatedCode
from bundleserver.frameworks.pickles.gate.listed import refuse_unlisted
from bundleserver.frameworks.pickles.made import ClassName
from bundleserver.frameworks.pickles.scan import inspect_pickle
from bundleserver.frameworks.pyfunc.trust import Declared, check_shadows
from bundleserver.frameworks.regular_files import open_regular
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy

_MOST_BYTES = 1 << 30
_MOST_SCHEMA_BYTES = 256 << 20
_OLDEST_SKOPS = Version("0.13")
"""Older ones run what their check has not seen (CVE-2025-54412, CVE-2025-54413)."""
_SKOPS_NODE = re.compile(
    r"(Dict|DefaultDict|List|Set|Tuple|Bytes|Bytearray|Slice|Function|Type|ConstructorFromReduce"
    r"|Object|Json|Cached|NdArray|MaskedArray|RandomState|RandomGenerator|DType|SparseMatrix|Tree"
    r"|Loss|_DictWithDeprecatedKeys)Node"
)
"""What skops may make; left out are methods, partial functions and operators, which call."""


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
    said = declared.flavours.get("sklearn", {})
    pyfunc = declared.pyfunc
    name = pyfunc.get("data") or pyfunc.get("model_path") or said.get("pickled_model")
    path = _file(declared, name)
    if said.get("serialization_format") == "skops":
        return _wrapped("mlflow.sklearn", "_SklearnModelWrapper", _open_skops(path, trust))
    model = _open_pickle(path, trust, code)
    return _wrapped("mlflow.sklearn", "_SklearnModelWrapper", model)


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
    if code is None:
        return pickles.load(path, trust)
    named = inspect_pickle(path).named
    # First, so that no code of the model runs for a file that is refused anyway.
    refuse_unlisted(path, [name for name in named if not code.owns(name.module)], trust)
    with code.active() if code else nullcontext():
        own = frozenset(_defined_in(code, named, path))
        return pickles.load(path, replace(trust, allowed=trust.allowed | own))


def _defined_in(code: IsolatedCode, named: frozenset[ClassName], path: Path) -> Iterator[str]:
    """Yield the names of a pickle that the model's own code defines, not what it imported.

    Raises:
        LoadError: one is not defined there.
    """
    for name in sorted(named):
        if not code.owns(name.module):
            continue
        try:
            found: Any = import_module(name.module)
            for part in name.qualname.split("."):
                found = vars(found)[part]
        except Exception as error:  # the model's own code runs here
            raise LoadError(
                f"'{path}' uses '{name}', which the model's code does not have: {named_line(error)}"
            ) from error
        is_own = isinstance(found, (type, FunctionType)) and code.owns(found.__module__)
        if not is_own or found.__qualname__ != name.qualname:
            raise LoadError(
                f"'{path}' uses '{name}', which the model's code does not define; "
                "--pickle_policy=listed opens only classes and functions that it defines itself"
            )
        yield str(name)


def _open_skops(path: Path, trust: CodeTrust) -> object:
    """Open a skops file by skops' own list and the operator's, never by that of the model."""
    if Version(version("skops")) < _OLDEST_SKOPS:
        raise LoadError(
            f"'{path}' is a skops file, and skops {version('skops')} does not check all that it "
            f"runs; install skops {_OLDEST_SKOPS} or later"
        )
    import skops.io  # type: ignore[import-untyped]  # it has no types

    data = _content(path, _MOST_BYTES)
    try:
        _check_nodes(path, data)
        unknown = set(skops.io.get_untrusted_types(data=data)) - trust.allowed
        if not unknown:
            return skops.io.loads(data, trusted=sorted(trust.allowed))
    except LoadError:
        raise
    except Exception as error:  # skops may raise anything for a damaged file
        raise LoadError(f"'{path}' cannot be opened by skops: {named_line(error)}") from error
    raise LoadError(
        f"'{path}' uses {quoted(sorted(unknown), most=20)}, which skops does not trust by itself; "
        "add those that you trust to the file of --pickle_allow (what the model lists as trusted "
        "does not count)"
    )


def _check_nodes(path: Path, data: bytes) -> None:
    """Refuse what skops would make by rules of its older versions, or by calling something."""
    from skops.io._protocol import PROTOCOL  # type: ignore[import-untyped]  # as above

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        entry = archive.getinfo("schema.json")
        if len(names) != len(set(names)) or entry.file_size > _MOST_SCHEMA_BYTES:
            raise LoadError(f"'{path}' has entries twice, or a schema that is too large")
        schema = json.loads(archive.read(entry))
    if not isinstance(schema, dict) or schema.get("protocol") != PROTOCOL:
        raise LoadError(f"'{path}' was written by another skops; save it again with this one")
    odd = sorted({one for one in _loaders_in(schema) if not _SKOPS_NODE.fullmatch(one)})
    if odd:
        raise LoadError(
            f"'{path}' has {quoted(odd, most=6)}, which calls functions when it is opened or used; "
            "save the model without methods and partial functions"
        )


def _loaders_in(schema: object) -> Iterator[str]:
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "__loader__" in value:
                yield str(value["__loader__"])[:100]
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
