"""The datatypes of what ONNX's operators return, of those that have one rule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bundleserver.frameworks.onnx.divisions.graphs import (
    FLOAT,
    INT64,
    MOST_INTEGERS,
    Node,
    Value,
    integer_dtype,
)

_INT32, _STRING, _BOOL = 6, 8, 9

_AS_FIRST = frozenset({
    "Abs", "Acos", "Acosh", "Add", "Asin", "Asinh", "Atan", "Atanh", "AveragePool",
    "BatchNormalization", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor",
    "Ceil", "Celu", "CenterCropPad", "Clip", "Compress", "Concat", "Conv", "ConvTranspose", "Cos",
    "Cosh", "CumSum", "DepthToSpace", "Det", "Div", "Dropout", "Einsum", "Elu", "Erf", "Exp",
    "Expand", "Flatten", "Floor", "GRU", "Gather", "GatherElements", "GatherND", "Gelu", "Gemm",
    "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "GridSample", "GroupNormalization",
    "HardSigmoid", "HardSwish", "Hardmax", "Identity", "InstanceNormalization", "LRN", "LSTM",
    "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax", "LpNormalization", "LpPool", "MatMul",
    "Max", "MaxPool", "Mean", "MeanVarianceNormalization", "Min", "Mish", "Mod", "Mul", "Neg",
    "PRelu", "Pad", "Pow", "RMSNormalization", "RNN", "Range", "Reciprocal", "ReduceL1",
    "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Resize", "ReverseSequence",
    "RoiAlign", "Round", "Scatter", "ScatterElements", "ScatterND", "Selu", "Shrink", "Sigmoid",
    "Sign", "Sin", "Sinh", "Slice", "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split",
    "Sqrt", "Squeeze", "Sub", "Sum", "Tan", "Tanh", "ThresholdedRelu", "Tile", "TopK", "Transpose",
    "Trilu", "Unique", "Unsqueeze", "Upsample",
})  # fmt: skip
"""Operators of ONNX whose first output has the datatype of the first input."""

_ML_AS_FIRST = frozenset({"ArrayFeatureExtractor", "Binarizer", "Imputer", "TreeEnsemble"})
_MICROSOFT_AS_FIRST = frozenset({"BiasGelu", "FastGelu", "FusedMatMul", "Gelu"})

_EVERY_OUTPUT = frozenset({"GRU", "LSTM", "RNN", "Split"})
"""Those whose other outputs have it too."""

_AS_ANOTHER = {"CastLike": 1, "DequantizeLinear": 1, "OneHot": 2, "Where": 1}

_FIXED = {
    **dict.fromkeys(
        ("And", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual",
         "Not", "Or", "RegexFullMatch", "Xor"), _BOOL,
    ),
    **dict.fromkeys(("ArgMax", "ArgMin", "NonMaxSuppression", "NonZero", "Shape", "Size"), INT64),
    **dict.fromkeys(("ConvInteger", "MatMulInteger"), _INT32),
    "TfIdfVectorizer": FLOAT,
}  # fmt: skip

_ML_FLOATS = frozenset({
    "FeatureVectorizer", "LinearRegressor", "Normalizer", "OneHotEncoder", "SVMRegressor", "Scaler",
    "TreeEnsembleRegressor",
})  # fmt: skip

_OTHERS = {
    "Dropout": _BOOL,
    "LinearClassifier": FLOAT,
    "MaxPool": INT64,
    "SVMClassifier": FLOAT,
    "TopK": INT64,
    "TreeEnsembleClassifier": FLOAT,
    "Unique": INT64,
}
"""The datatypes of all outputs but the first."""

_BY_LIST = {
    "classlabels_int64s": INT64, "classlabels_ints": INT64, "classlabels_strings": _STRING,
    "values_floats": FLOAT, "values_int64s": INT64, "values_strings": _STRING,
}  # fmt: skip
"""Of classifiers and of label encoders, what an attribute says of the first output."""

_OF_NUMBER = {
    "RandomNormal": ("dtype", FLOAT),
    "RandomUniform": ("dtype", FLOAT),
    "Cast": ("to", 0),
}

_KEEPS = frozenset({"Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Tile", "Transpose",
                    "Unsqueeze"})  # fmt: skip
"""Operators that return the first input's numbers in another shape."""


def outputs_of(node: Node, inputs: Sequence[Value]) -> list[Value]:
    """Return what is known of a node's outputs, in its order; functions and graphs have none."""
    first = _first(node, inputs)
    is_every = node.operator in _EVERY_OUTPUT and node.domain == ""
    other = Value(first.datatype if is_every else _OTHERS.get(node.operator, 0))
    return [first if place == 0 else other for place in range(len(node.outputs))]


def _first(node: Node, inputs: Sequence[Value]) -> Value:
    if node.domain == "":
        return _constant(node, inputs) or Value(_datatype(node, inputs))
    if node.domain == "ai.onnx.ml":
        return Value(_datatype_of_ml(node, inputs))
    return Value(_at(inputs, 0).datatype if node.operator in _MICROSOFT_AS_FIRST else 0)


def _datatype(node: Node, inputs: Sequence[Value]) -> int:
    name = node.operator
    if name in _OF_NUMBER:
        attribute, default = _OF_NUMBER[name]
        # A function may take the attribute of its caller.
        absent = 0 if attribute in node.attributes else default
        return node.numbers.get(attribute, absent)
    if name in _FIXED:
        return _FIXED[name]
    if name in _AS_ANOTHER:
        return _at(inputs, _AS_ANOTHER[name]).datatype
    return _at(inputs, 0).datatype if name in _AS_FIRST else 0


def _datatype_of_ml(node: Node, inputs: Sequence[Value]) -> int:
    if node.operator in _ML_FLOATS:
        return FLOAT
    if node.operator in _ML_AS_FIRST:
        return _at(inputs, 0).datatype
    return next((kind for name, kind in _BY_LIST.items() if name in node.attributes), 0)


def _constant(node: Node, inputs: Sequence[Value]) -> Value | None:
    """Return the constant that a node makes, or None."""
    name = node.operator
    if name == "Constant":
        known = next(iter(node.tensors.values()), None)
        is_float = node.attributes & {"value_float", "value_floats"}
        return known or (Value(FLOAT) if is_float else Value())
    if name == "ConstantOfShape":
        absent = Value() if "value" in node.attributes else Value(FLOAT)
        return node.tensors.get("value", absent)
    if name in _KEEPS and inputs:
        return inputs[0]
    if name == "Concat" and inputs and all(each.integers is not None for each in inputs):
        joined = frozenset(n for each in inputs for n in each.integers or ())
        return Value(inputs[0].datatype, joined if len(joined) <= MOST_INTEGERS else None)
    dtype = integer_dtype(node.numbers.get("to", 0)) if name == "Cast" else None
    if dtype is not None and inputs and inputs[0].integers is not None:
        source = integer_dtype(inputs[0].datatype)
        cast = np.array(sorted(inputs[0].integers), source).astype(dtype)
        return Value(node.numbers["to"], frozenset(cast.tolist()))
    return None


def _at(inputs: Sequence[Value], place: int) -> Value:
    return inputs[place] if place < len(inputs) else Value()
