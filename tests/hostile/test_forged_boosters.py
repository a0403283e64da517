"""Forged boosters of XGBoost: no process that asks them dies."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from typing import Any

import pytest
import xgboost

from bundleserver.errors import LoadError
from bundleserver.frameworks import LoadContext, framework_named
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy
from tests.frameworks.xgboost.trained import BOOSTERS, CLASSES, NUMBERS, X, categories, train

FORGED = 400
"""How many are asked; ``python -m tests.hostile.forged_boosters SEED COUNT`` takes more."""


def test_no_forged_booster_ends_a_process() -> None:
    """What passes the checks is answered or refused, and kills nobody."""
    command = [sys.executable, "-m", "tests.hostile.forged_boosters", "22", str(FORGED)]
    # Threads of OpenMP would not live on in the children.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)

    assert f"{FORGED} passed\n" == done.stdout, done.stderr


def trusted(policy: PicklePolicy) -> LoadContext:
    """Trust files so far."""
    return LoadContext(trust=CodeTrust(pickles=policy))


@pytest.mark.parametrize("name", ["softprob", "dart", "linear", "categories"])
@pytest.mark.parametrize("policy", [PicklePolicy.LISTED, PicklePolicy.ANY])
def test_a_pickled_booster_opens(tmp_path: Any, name: str, policy: PicklePolicy) -> None:
    """XGBoost's own pickles pass the rules."""
    path = tmp_path / "model.pkl"
    booster = categories() if name == "categories" else BOOSTERS[name]()
    path.write_bytes(pickle.dumps(booster))

    assert "predict" in framework_named("xgboost").load(path, trusted(policy)).methods


def test_no_pickle_opens_where_none_may(tmp_path: Any) -> None:
    """``deny`` refuses pickles, and takes XGBoost's own formats."""
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(train(NUMBERS)))
    with pytest.raises(LoadError, match="--pickle_policy=deny"):
        framework_named("xgboost").load(path, trusted(PicklePolicy.DENY))

    train(NUMBERS).save_model(tmp_path / "model.ubj")
    framework_named("xgboost").load(tmp_path / "model.ubj", trusted(PicklePolicy.DENY))


@pytest.mark.parametrize(
    ("was", "forged"),
    [
        (b"left_children[$l#L" + b"\0" * 7, None),
        (
            b"num_treesSL\0\0\0\0\0\0\0\x014",
            b"num_treesSL\0\0\0\0\0\0\0\x019",
        ),
        (b"gbtreeL", b"gbboomL"),
    ],
)
@pytest.mark.parametrize("is_estimator", [False, True])
def test_a_forged_booster_in_a_pickle_is_refused(
    tmp_path: Any, was: bytes, forged: bytes | None, is_estimator: bool
) -> None:
    """Under ``listed`` its bytes are compared, alone and in an estimator."""
    made = xgboost.XGBClassifier(n_estimators=4).fit(X, CLASSES) if is_estimator else train(NUMBERS)
    data = pickle.dumps(made)
    assert was in data
    if forged is None:
        at = data.index(was) + len(was) + 1
        data = data[:at] + b"\x7f\xff\xff\xff" + data[at + 4 :]
    else:
        data = data.replace(was, forged)
    path = tmp_path / "model.pkl"
    path.write_bytes(data)
    framework = framework_named("sklearn" if is_estimator else "xgboost")

    with pytest.raises(LoadError, match=r"refused by --pickle_policy=listed: a booster cannot be"):
        framework.load(path, trusted(PicklePolicy.LISTED))
