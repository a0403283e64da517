"""What an ``MLmodel`` says of its loader, and what of that the operator trusts.

MLflow imports whatever module the file names and calls it, lets skops trust what the file lists,
and puts the model's code on the process's path. So the file is asked first.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from bundleserver.documents.forms import quoted
from bundleserver.errors import LoadError
from bundleserver.frameworks.isolated_code import IsolatedCode
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy

LOADERS = ("mlflow.sklearn", "mlflow.statsmodels", "mlflow.prophet", "mlflow.lightgbm")
"""The loaders whose file we open ourselves, by the operator's lists."""

_OF_NUMBERS = ("mlflow.catboost", "mlflow.lightgbm", "mlflow.onnx", "mlflow.xgboost")
"""The loaders of files that we open without MLflow, if all columns are of numbers."""

_BOOSTER = "lightgbm.basic.Booster"

METHODS = ("predict", "predict_proba", "predict_log_proba", "predict_joint_log_proba")
"""The methods that a model of those may answer with."""

_PATHS = frozenset({"data", "model_path", "pickled_model", "python_model"})
"""The keys under which flavours that we or MLflow's pyfunc open name files of the directory."""


@dataclass(frozen=True)
class Declared:
    """What an ``MLmodel`` declares.

    Attributes:
        path: the file.
        document: all that it says.
        flavours: its flavours' sections.
        pyfunc: the section that mlflow.pyfunc reads.
    """

    path: Path
    document: Mapping[str, object]
    flavours: Mapping[str, Mapping[str, object]]
    pyfunc: Mapping[str, object]

    @property
    def loader(self) -> str:
        """The module that MLflow would import and call."""
        return str(self.pyfunc.get("loader_module"))

    @property
    def code(self) -> object:
        """The directory of code that was logged with it; None if there is none."""
        return next((said["code"] for said in self.flavours.values() if said.get("code")), None)


def declared_by(path: Path, document: object) -> Declared:
    """Return what the document in an ``MLmodel`` declares.

    Raises:
        LoadError: it is not MLflow's, or names a file that lies elsewhere.
    """
    flavours = document.get("flavors") if isinstance(document, Mapping) else None
    if not isinstance(document, Mapping) or not isinstance(flavours, Mapping):
        raise LoadError(f"'{path}' cannot be read: it has no 'flavors'")
    sections = {str(n): said for n, said in flavours.items() if isinstance(said, Mapping)}
    if "python_function" not in sections:
        raise LoadError(f"'{path}' has no flavour 'python_function', which mlflow.pyfunc opens")
    for key, name in _paths_in(document, sections):
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name:
            raise LoadError(
                f"'{path}' refers to '{name[:200]}' under '{key}', which is not in its directory"
            )
    return Declared(path, document, sections, sections["python_function"])


def check_code(declared: Declared, trust: CodeTrust) -> None:
    """Refuse a model with code of its own where the operator lets none of bundles run.

    Raises:
        LoadError: names the code.
    """
    if trust.bundle_code:
        return
    found = ""
    if declared.code is not None:
        found = f"the code '{str(declared.code)[:200]}'"
    elif any(said.get("model_code_path") for said in declared.flavours.values()):
        found = "a model that is code, under 'model_code_path'"
    elif not declared.loader.startswith("mlflow."):
        found = f"the loader '{declared.loader[:200]}', which is not MLflow's"
    if found:
        raise LoadError(
            f"'{declared.path}' has {found}, and --bundle_code=deny lets no code of a model run; "
            "log the model without code of its own, or serve it with --bundle_code=allow"
        )


def check_loader(declared: Declared, trust: CodeTrust) -> None:
    """Refuse what only MLflow opens where the operator does not trust every pickle.

    Raises:
        LoadError: names the loader, or the method.
    """
    policy = trust.pickles
    if policy is PicklePolicy.ANY:
        return
    kind = declared.flavours.get("lightgbm", {}).get("model_class", _BOOSTER)
    if declared.loader in _OF_NUMBERS and (declared.loader not in LOADERS or kind == _BOOSTER):
        raise LoadError(
            f"'{declared.path}' has the loader '{declared.loader}', and a signature or a method "
            f"that only MLflow enforces, which --pickle_policy={policy.value} does not trust to "
            "open it; log it with columns of the types double, long or integer and the method "
            "'predict', or serve it with --pickle_policy=any"
        )
    if declared.loader not in LOADERS:
        raise LoadError(
            f"'{declared.path}' has the loader '{declared.loader[:200]}', which opens its files "
            f"outside of the list of --pickle_policy={policy.value}; only {quoted(LOADERS)} are "
            "opened by the list, and models that were pickled by value, as MLflow's own pyfunc "
            "classes are, need --pickle_policy=any"
        )
    method = declared.pyfunc.get("predict_fn", "predict")
    if method not in METHODS:
        raise LoadError(
            f"'{declared.path}' answers with the method {str(method)[:100]!r}; expected one of "
            f"{quoted(METHODS)}"
        )


def check_shadows(code: IsolatedCode, path: Path) -> None:
    """Refuse code of a model whose modules would stand for installed ones, which lists name.

    Raises:
        LoadError: names the modules.
    """
    taken = [name for name in sorted(code.names) if _is_installed(name)]
    if taken:
        raise LoadError(
            f"'{path}' has code with the modules {quoted(taken)}, which have the names of "
            "installed ones, and --pickle_policy=listed trusts those by name; rename them"
        )


def _is_installed(name: str) -> bool:
    if name in sys.stdlib_module_names or name in sys.modules:
        return True
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return True
    # A directory anywhere on the path is a package without a file; nobody installed that.
    return spec is not None and spec.origin is not None


def _paths_in(
    document: Mapping[str, object], flavours: Mapping[str, Mapping[str, object]]
) -> Iterator[tuple[str, str]]:
    """Yield what is a path below the directory, with its key."""
    sections = [
        flavours[name] for name in ("python_function", "sklearn", "lightgbm") if name in flavours
    ]
    for said in sections:
        yield from ((key, str(said[key])) for key in _PATHS & said.keys() if said[key])
    artifacts = flavours["python_function"].get("artifacts")
    for entry in artifacts.values() if isinstance(artifacts, Mapping) else ():
        if isinstance(entry, Mapping) and entry.get("path"):
            yield "artifacts", str(entry["path"])
    example = document.get("saved_input_example_info")
    if isinstance(example, Mapping):
        for key in ("artifact_path", "serving_input_path"):
            if example.get(key):
                yield key, str(example[key])
