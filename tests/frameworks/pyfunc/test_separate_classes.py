"""Versions of one class of a notebook, which MLflow saves by value."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from bundleserver.frameworks import LoadContext, framework_named
from bundleserver.tensors import NamedTensor

NOTEBOOK = """
import sys
import mlflow

class Shift(mlflow.pyfunc.PythonModel):
    by = 1.0
    def predict(self, context, model_input, params=None):
        return model_input + type(self).by

model = Shift()
mlflow.pyfunc.save_model(sys.argv[1] + "/1", python_model=model, pip_requirements=[])
Shift.by = 2.0
mlflow.pyfunc.save_model(sys.argv[1] + "/2", python_model=model, pip_requirements=[])
"""


def test_two_versions_of_a_notebooks_class_do_not_change_each_other(tmp_path):
    """The second does not give its attributes to the first, whose class has the same identifier."""
    ended = subprocess.run(
        [sys.executable, "-c", NOTEBOOK, str(tmp_path)], capture_output=True, timeout=120
    )
    assert 0 == ended.returncode, ended.stderr
    pyfunc = framework_named("pyfunc")
    rows = [NamedTensor("input-0", np.array([[1.0], [2.0]]))]

    opened = [pyfunc.load(tmp_path / name / "MLmodel", LoadContext()) for name in ("1", "2")]

    answers = [np.ravel(next(iter(model.call("predict", rows, {})))).tolist() for model in opened]
    assert [[2.0, 3.0], [3.0, 4.0]] == answers
