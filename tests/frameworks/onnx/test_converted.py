"""Boosters that onnxmltools converts, and graphs whose inputs have no rows in common."""

from __future__ import annotations

from contextlib import closing

import lightgbm
import numpy as np
import pytest
import xgboost
from onnx import numpy_helper
from onnxmltools import convert_lightgbm, convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType

from bundleserver.bundle.opening import open_bundle
from tests.frameworks.onnx.graphs import FLOAT, KINDS, ROWS, asked, model, node, same, value

TYPES = [("X", FloatTensorType([None, 4]))]


def of_lightgbm():
    """Convert a classifier of LightGBM."""
    fitted = lightgbm.LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1).fit(ROWS, KINDS)
    return convert_lightgbm(fitted, initial_types=TYPES, target_opset=15)


def of_xgboost():
    """Convert a classifier of XGBoost."""
    fitted = xgboost.XGBClassifier(n_estimators=5, n_jobs=1).fit(ROWS, KINDS)
    return convert_xgboost(fitted, initial_types=TYPES, target_opset=15)


@pytest.mark.parametrize("make", [of_lightgbm, of_xgboost], ids=["lightgbm", "xgboost"])
def test_converted_boosters_answer_as_onnxruntime(tmp_path, make):
    """Labels and probabilities have onnxruntime's bits, maps or not."""
    made = make()
    (tmp_path / "model.onnx").write_bytes(made.SerializeToString())
    with closing(open_bundle(tmp_path)) as bundle:
        answer = bundle.predict(bundle.signature.validate_rows(ROWS.tolist(), "it"), {})

    for name, values in asked(made, {"X": ROWS}).items():
        if isinstance(values, list):
            values = np.array([[row[k] for k in (0, 1, 2)] for row in values], np.float32)
        assert same(values, answer[name])


def test_inputs_without_rows_in_common_take_tensors_of_any_length(tmp_path):
    """The first axes have different names, so that their lengths may differ."""
    made = model(
        [node("MatMul", ["a", "b"], ["y"])],
        [value("a", FLOAT, ["n", "k"]), value("b", FLOAT, ["k", "m"])],
        [value("y", FLOAT, ["n", "m"])],
    )
    (tmp_path / "model.onnx").write_bytes(made.SerializeToString())
    a, b = np.float32([[1, 2, 3]]), np.float32([[1], [2], [3]])
    with closing(open_bundle(tmp_path)) as bundle:
        bundle.warm_up()
        signature = bundle.signature
        rows = signature.validate_rows([{"a": a.tolist(), "b": b.tolist()}], "it")
        answer = bundle.predict(rows, {})

    assert not signature.rowwise
    assert bundle.probe.answered
    assert [[14.0]] == answer["y"].tolist()


def test_sizes_that_nothing_tells_are_not_held_against_a_model(tmp_path):
    """A graph that takes rows of seven alone, and does not say so, is ready without an answer."""
    seven = numpy_helper.from_array(np.ones((7, 2), np.float32), "w")
    made = model(
        [node("MatMul", ["x", "w"], ["y"])],
        [value("x", FLOAT, ["n", "k"])],
        [value("y", FLOAT, ["n", 2])],
        [seven],
    )
    (tmp_path / "model.onnx").write_bytes(made.SerializeToString())
    with closing(open_bundle(tmp_path)) as bundle:
        bundle.warm_up()
        answer = bundle.predict(bundle.signature.validate_rows([[1.0] * 7], "it"), {})

    assert not bundle.probe.answered
    assert [[7.0, 7.0]] == answer["y"].tolist()
