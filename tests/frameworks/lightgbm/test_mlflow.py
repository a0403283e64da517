"""Boosters that MLflow saved: opened from their own file where that answers as MLflow does."""

from __future__ import annotations

import lightgbm as lgb
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature

from bundleserver.bundle.opening import open_bundle
from bundleserver.sources.registry.flavours import manifest_of
from bundleserver.tensors import NamedTensor
from tests.frameworks.lightgbm.trained import KINDS, TABLE, TARGET, X, train


def saved(path, model, rows=None):
    """Save a model in MLflow's format, with a signature if there are rows."""
    signature = None if rows is None else infer_signature(rows, model.predict(rows))
    mlflow.lightgbm.save_model(model, str(path), signature=signature, pip_requirements=[])
    return path


def answer(path, inputs):
    """Open a saved model as from a registry, and ask it."""
    manifest = manifest_of(path, "m")
    bundle = open_bundle(path, manifest)
    bound = bundle.signature.validate_tensors(inputs, "the test")
    [values] = bundle.predict(bound, {}).values()
    bundle.close()
    return manifest.components["model"].framework, values


def columns_of(table):
    """Make a request with a tensor for each column."""
    return [NamedTensor(name, values.to_numpy(), (name,)) for name, values in table.items()]


@pytest.mark.parametrize("names", [["a", "b", "c", "d"], ["net amount", "b", "c d", "e"]])
def test_columns_of_numbers_are_enforced_here(names, tmp_path):
    """Names with spaces too, as MLflow's signature has them; answers equal MLflow's."""
    table = pd.DataFrame(np.nan_to_num(X), columns=names)
    booster, _ = train(TARGET, table, objective="regression")
    path = saved(tmp_path / "m", booster, table)

    framework, values = answer(path, columns_of(table[names[::-1]]))

    assert "lightgbm" == framework
    assert mlflow.pyfunc.load_model(str(path)).predict(table).tobytes() == values.tobytes()


def test_a_model_without_a_signature_opens_from_its_own_file(tmp_path):
    """Nothing is enforced, as by MLflow."""
    booster = KINDS["multiclass"]().booster

    framework, values = answer(saved(tmp_path / "m", booster), [NamedTensor("x", X)])

    assert "lightgbm" == framework
    assert booster.predict(X).tobytes() == values.tobytes()


def test_other_columns_and_estimators_are_left_to_mlflow(tmp_path):
    """Columns that are no numbers, and pickles of estimators."""
    table = TABLE[["net amount", "count"]].assign(flag=TABLE["is_new"].astype(bool))
    booster, _ = train(TARGET, table, objective="regression")
    estimator = lgb.LGBMRegressor(n_estimators=2, verbose=-1).fit(X, TARGET)

    of_booster = manifest_of(saved(tmp_path / "b", booster, table), "m")
    of_estimator = manifest_of(saved(tmp_path / "e", estimator), "m")

    assert "pyfunc" == of_booster.components["model"].framework
    assert "pyfunc" == of_estimator.components["model"].framework
