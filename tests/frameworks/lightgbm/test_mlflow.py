"""Boosters that MLflow saved: opened from their own file where that answers as MLflow does."""

from __future__ import annotations

import lightgbm as lgb
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature

from bundleserver.bundle.opening import open_bundle
from bundleserver.bundle.trust import Trust
from bundleserver.errors import LoadError
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy
from bundleserver.sources.registry.flavours import manifest_of
from bundleserver.tensors import NamedTensor
from tests.frameworks.lightgbm.trained import KINDS, TABLE, TARGET, X, train


def trusting(policy):
    """Trust pickles by a policy."""
    return Trust(CodeTrust(PicklePolicy(policy)))


LISTED = trusting("listed")
NAMED = pd.DataFrame(np.nan_to_num(X), columns=["net_amount", "b", "c_d", "e"])


def saved(path, model, rows=None, kind="skops"):
    """Save a model in MLflow's format, with a signature if there are rows."""
    signature = None if rows is None else infer_signature(rows, model.predict(rows))
    mlflow.lightgbm.save_model(
        model, str(path), signature=signature, pip_requirements=[], serialization_format=kind
    )
    return path


def answer(path, inputs, **how):
    """Open a saved model as from a registry, and ask it."""
    manifest = manifest_of(path, "m")
    bundle = open_bundle(path, manifest, **how)
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


def test_other_columns_are_left_to_mlflow(tmp_path):
    """Columns that are no numbers, with a sentence where MLflow's loader is not trusted."""
    table = TABLE[["net amount", "count"]].assign(flag=TABLE["is_new"].astype(bool))
    booster, _ = train(TARGET, table, objective="regression")
    path = saved(tmp_path / "b", booster, table)

    assert "pyfunc" == manifest_of(path, "m").components["model"].framework
    with pytest.raises(LoadError, match="a signature or a method that only MLflow enforces"):
        open_bundle(path, trust=LISTED)


@pytest.mark.parametrize(
    ("kind", "policy", "framework"),
    [
        ("skops", "any", "skops"),
        ("skops", "listed", "skops"),
        ("skops", "deny", "skops"),
        ("cloudpickle", "listed", "sklearn"),
    ],
)
@pytest.mark.parametrize("rows", [NAMED, X])
def test_an_estimator_opens_from_its_own_file(tmp_path, kind, policy, framework, rows):
    """By the operator's lists, with the labels that MLflow answers."""
    estimator = lgb.LGBMClassifier(n_estimators=2, verbose=-1).fit(rows, TARGET > 0)
    path = saved(tmp_path / "m", estimator, rows if rows is not X else None, kind)
    inputs = [NamedTensor("x", X)] if rows is X else columns_of(rows)

    opened_by, values = answer(path, inputs, trust=trusting(policy))

    assert framework == opened_by
    wanted = mlflow.pyfunc.load_model(str(path)).predict(rows)
    assert (wanted.dtype, wanted.tobytes()) == (values.dtype, values.tobytes())


@pytest.mark.parametrize(
    ("names", "dtype"), [(["a", "b"], np.float32), (["net amount", "b"], np.float64)]
)
def test_an_estimator_with_other_columns_opens_by_the_lists_too(tmp_path, names, dtype):
    """Of 32 bits, or with names that LightGBM changes: MLflow's class without its loader."""
    table = pd.DataFrame(np.nan_to_num(X[:, :2]), columns=names).astype(dtype)
    estimator = lgb.LGBMRegressor(n_estimators=2, verbose=-1).fit(table, TARGET)
    path = saved(tmp_path / "m", estimator, table)

    framework, values = answer(path, columns_of(table), trust=LISTED)

    assert "pyfunc" == framework
    assert estimator.predict(table).tobytes() == values.tobytes()
