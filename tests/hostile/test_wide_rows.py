"""A width is a number in a file: what is made up, tried and measured at load has its own bounds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from bundleserver.bundle.opening import open_bundle
from bundleserver.bundle.placement import MANY_ROWS, measure
from bundleserver.tensors import TensorSpec
from bundleserver.tensors.call_traits import CallTraits
from bundleserver.tensors.signature import Signature

ROWS = np.random.default_rng(3).normal(size=(30, 3))

OPENED = r"""
import re, sys
from pathlib import Path
from bundleserver.bundle.opening import open_bundle
from bundleserver.errors import ProbeError
try:
    open_bundle(Path(sys.argv[1])).close()
    print("opened")
except ProbeError:
    print("refused")
# Not ru_maxrss, which begins with that of the process that has started this one.
print(int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def _opened(directory: Path) -> tuple[str, int]:
    """Open a directory in a process of its own; return what came of it, and the MiB at its peak."""
    ran = subprocess.run(
        [sys.executable, "-c", OPENED, str(directory)], capture_output=True, text=True, timeout=120
    )
    assert 0 == ran.returncode, ran.stderr
    outcome, peak = ran.stdout.split()
    return outcome, int(peak)


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        # One call of this width can be made up, and the model's own code refuses it.
        (900_000, "refused"),
        (40_000_000, "opened"),
        (2**40, "opened"),
    ],
)
@pytest.mark.parametrize(
    "model",
    [
        StandardScaler().fit(ROWS),
        MinMaxScaler().fit(ROWS),
        RandomForestRegressor(3).fit(ROWS, ROWS[:, 0]),
        GradientBoostingRegressor(n_estimators=3).fit(ROWS, ROWS[:, 0]),
    ],
    ids=lambda model: type(model).__name__,
)
def test_a_width_that_a_file_says_costs_no_memory(tmp_path, model, width, expected):
    """A few bytes that say that rows are very wide take no gigabytes when they are opened."""
    model.n_features_in_ = width
    joblib.dump(model, tmp_path / "model.joblib")

    outcome, peak = _opened(tmp_path)
    assert expected == outcome
    assert peak < 600


def test_a_wide_model_is_opened_within_a_few_times_its_size(tmp_path):
    """The rows that measure a model of a million columns are few."""
    model = LogisticRegression()
    width = 1 << 20
    model.coef_, model.intercept_ = np.linspace(-1, 1, width)[np.newaxis], np.zeros(1)
    model.classes_, model.n_features_in_ = np.array([0, 1]), width
    joblib.dump(model, tmp_path / "model.joblib")

    outcome, peak = _opened(tmp_path)
    assert "opened" == outcome
    assert peak < 600
    bundle = open_bundle(tmp_path)
    assert bundle.probe.answered
    bundle.close()


@pytest.mark.parametrize(
    ("width", "rows"), [(3, [1, MANY_ROWS]), (65_536, [1, 16]), (2_000_000, [])]
)
def test_wider_rows_are_measured_with_fewer_of_them(width, rows):
    """Calls that are measured have a bound on their values, whatever the width."""
    asked: set[int] = set()

    def predict(inputs, _parameters):
        asked.add(len(inputs["x"].values))

    signature = Signature((TensorSpec("x", "FP64", (-1, width)),), (TensorSpec("y"),))
    measure(predict, signature, CallTraits(True, True))

    assert rows == sorted(asked)
