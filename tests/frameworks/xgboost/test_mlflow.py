"""MLflow's models of XGBoost open from their own files, and answer as MLflow does."""

from __future__ import annotations

from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import xgboost
from mlflow.models import infer_signature

from bundleserver.frameworks import LoadContext, framework_named
from bundleserver.sources.registry.flavours import manifest_of
from bundleserver.tensors import NamedTensor
from tests.frameworks.xgboost.trained import CLASSES, NUMBERS, X, train

TABLE = pd.DataFrame(np.nan_to_num(X), columns=["a", "b c", "d", "e"])


def booster(table: Any) -> Any:
    """Train a booster with the names of columns."""
    return train(NUMBERS, rows=table)


def classifier(table: Any) -> Any:
    """Fit an estimator, which MLflow asks for labels."""
    return xgboost.XGBClassifier(n_estimators=3).fit(table, CLASSES)


@pytest.mark.parametrize("make", [booster, classifier])
@pytest.mark.parametrize("kind", ["xgb", "ubj", "json"])
def test_a_logged_model_answers_as_mlflow_does(tmp_path, make, kind):
    """Boosters and estimators, in each of MLflow's formats, with the columns of the signature."""
    path = str(tmp_path / "model")
    signature = infer_signature(TABLE, NUMBERS)
    mlflow.xgboost.save_model(
        make(TABLE), path, signature=signature, model_format=kind, pip_requirements=[]
    )
    (component,) = manifest_of(tmp_path / "model", "m").components.values()
    predictor = framework_named(component.framework).load(
        tmp_path / "model" / component.path, LoadContext(component.options)
    )
    order = [2, 0, 3, 1]
    columns = [NamedTensor(TABLE.columns[i], TABLE.to_numpy()[:, i]) for i in order]
    (answer,) = predictor.call("predict", columns, {})

    assert "xgboost" == component.framework
    assert tuple(TABLE.columns) == predictor.methods["predict"].inputs[0].columns
    wanted = mlflow.pyfunc.load_model(path).predict(TABLE)
    assert (wanted.dtype, wanted.tobytes()) == (answer.dtype, answer.tobytes())


def test_other_columns_are_left_to_mlflow(tmp_path):
    """What MLflow alone enforces, such as columns of 32-bit numbers, it opens."""
    path = tmp_path / "model"
    table = TABLE.astype(np.float32)
    mlflow.xgboost.save_model(
        booster(table), str(path), signature=infer_signature(table, NUMBERS), pip_requirements=[]
    )

    assert "pyfunc" == manifest_of(path, "m").components["model"].framework
