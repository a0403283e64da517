"""ONNX models for tests: graphs made by hand, and fitted models as converters write them."""

from __future__ import annotations

import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

ROWS, KINDS = load_iris(return_X_y=True)
ROWS = ROWS.astype(np.float32)

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING

value = helper.make_tensor_value_info
node = helper.make_node
OPSETS = {"": 21, "ai.onnx.ml": 3, "com.microsoft": 1}


def model(nodes, inputs, outputs, initializers=(), opsets=None, functions=(), **more):
    """Make a model of one graph."""
    graph = helper.make_graph(nodes, "graph", inputs, outputs, list(initializers))
    imports = [helper.make_opsetid(name, number) for name, number in (opsets or OPSETS).items()]
    return helper.make_model(
        graph, opset_imports=imports, functions=list(functions), **{"ir_version": 10, **more}
    )


def identity(datatype=FLOAT, shape=("n", 2), name="x"):
    """Make a model that returns its input as ``y``."""
    return model(
        [node("Identity", [name], ["y"])],
        [value(name, datatype, shape)],
        [value("y", datatype, shape)],
    )


def forest(**options):
    """Convert a forest of classes 0, 1, 2."""
    fitted = RandomForestClassifier(7, max_depth=4, random_state=0).fit(ROWS, KINDS)
    return to_onnx(fitted, ROWS[:1], options={id(fitted): options} if options else None)


def named_forest():
    """Convert a forest whose classes are strings that are not in their order of first use."""
    names = np.array(["setosa", "Versicolor", "a b"])[KINDS]
    return to_onnx(
        RandomForestClassifier(5, max_depth=3, random_state=0).fit(ROWS, names), ROWS[:1]
    )


def regressor():
    """Convert a forest of numbers."""
    return to_onnx(RandomForestRegressor(5, max_depth=3, random_state=0).fit(ROWS, KINDS), ROWS[:1])


def scaler():
    """Convert a fitted scaler."""
    return to_onnx(StandardScaler().fit(ROWS), ROWS[:1])


def mixed_pipeline():
    """Convert a pipeline with a column of text and two of numbers, each an input of its own."""
    import pandas as pd
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

    frame = pd.DataFrame(
        {"town": ["Rome", "Oslo", "Bonn"] * 4, "age": np.arange(12.0), "count": np.arange(12) % 5}
    )
    columns = ColumnTransformer(
        [("town", OneHotEncoder(), ["town"]), ("age", StandardScaler(), ["age", "count"])]
    )
    fitted = Pipeline([("columns", columns), ("model", LogisticRegression())])
    fitted.fit(frame, np.arange(12) % 2)
    types = [
        ("town", StringTensorType([None, 1])),
        ("age", FloatTensorType([None, 1])),
        ("count", Int64TensorType([None, 1])),
    ]
    return to_onnx(fitted, initial_types=types, options={"zipmap": False})


def scaled_logistic():
    """Convert a pipeline that multiplies matrices."""
    return to_onnx(make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, KINDS), ROWS[:1])


def asked(model_or_bytes, feeds, **options):
    """Return the outputs of onnxruntime itself, by name."""
    data = getattr(model_or_bytes, "SerializeToString", lambda: model_or_bytes)()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, settings, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def same(expected, actual):
    """Ask whether two arrays have the same datatype, shape and bits."""
    if expected.dtype.kind == "O":
        return expected.shape == actual.shape and expected.tolist() == actual.tolist()
    return (
        expected.dtype == actual.dtype
        and expected.shape == actual.shape
        and expected.tobytes() == actual.tobytes()
    )
