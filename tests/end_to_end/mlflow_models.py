"""MLflow models as ``save_model`` writes them, and what MLflow itself answers."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import mlflow.pyfunc
import mlflow.sklearn
import mlflow.statsmodels
import numpy as np
import pandas as pd
import statsmodels.api as sm
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

TABLE = pd.DataFrame(np.random.default_rng(20).normal(size=(40, 2)), columns=["a", "b"])
TARGET = TABLE["a"] * 3.0 - TABLE["b"] * 0.7 + 0.1
ROWS = TABLE.head(5)

_OF_CODE = """
import mlflow.pyfunc
import tide_tables

class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return tide_tables.height(model_input["a"], model_input["b"])
"""


def regression(factor: float = 1.0) -> object:
    """Fit a pipeline to a multiple of the target."""
    return make_pipeline(StandardScaler(), LinearRegression()).fit(TABLE, TARGET * factor)


def save_sklearn(path: Path, form: str, factor: float = 1.0, **settings: object) -> Path:
    """Save a pipeline; ``skops`` is what MLflow 3 writes unless told otherwise."""
    model = regression(factor)
    settings.setdefault("signature", infer_signature(TABLE, model.predict(TABLE)))
    mlflow.sklearn.save_model(
        model, str(path), serialization_format=form, pip_requirements=[], **settings
    )
    return path


def save_statsmodels(path: Path) -> Path:
    """Save a regression of statsmodels."""
    result = sm.OLS(TARGET, TABLE).fit()
    mlflow.statsmodels.save_model(
        result, str(path), pip_requirements=[], signature=infer_signature(TABLE, TARGET)
    )
    return path


def save_with_code(path: Path, modules: Path, factor: float) -> Path:
    """Save a model whose code is a module beside it, which is not importable here afterwards."""
    modules.mkdir()
    file = modules / "tide_tables.py"
    file.write_text(f"def height(a, b):\n    return {factor} * a + b\n")
    space: dict[str, type] = {}
    sys.path.insert(0, str(modules))
    try:
        exec(_OF_CODE, space)  # noqa: S102  # a class without a module is what notebooks have
        space["Model"].__module__ = "__main__"
        mlflow.pyfunc.save_model(
            str(path),
            python_model=space["Model"](),
            code_paths=[str(file)],
            pip_requirements=[],
            signature=infer_signature(TABLE, TARGET.to_numpy()),
        )
    finally:
        sys.path.remove(str(modules))
        sys.modules.pop("tide_tables", None)
        file.unlink()
    return path


def answered_by_mlflow(path: Path) -> list[float]:
    """Return what MLflow answers in this process."""
    modules, paths = {*sys.modules}, [*sys.path]
    try:
        answer = mlflow.pyfunc.load_model(str(path)).predict(ROWS)
    finally:
        sys.path[:] = paths
        for name in {*sys.modules} - modules:
            if name == "tide_tables":
                del sys.modules[name]
    return np.asarray(answer).ravel().tolist()


def save_all(root: Path) -> Mapping[str, Path]:
    """Save one model of each kind into a volume."""
    return {
        "skops": save_sklearn(root / "skops", "skops"),
        "cloudpickle": save_sklearn(root / "cloudpickle", "cloudpickle"),
        "coded": save_with_code(root / "coded", root.parent / "modules", 2.5),
        "statsmodels": save_statsmodels(root / "statsmodels"),
    }
