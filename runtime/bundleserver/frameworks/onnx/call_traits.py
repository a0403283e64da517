"""Which graphs are batchable, or predictable and so run inline, by their operators and by a test.

Operators that treat each row by itself are listed; what multiplies matrices is not, since the order
of its sums depends on the number of rows. Each graph is tested as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bundleserver.frameworks.onnx.samples import samples_of
from bundleserver.frameworks.onnx.session import call_threads
from bundleserver.frameworks.onnx.structure import Structure
from bundleserver.frameworks.onnx.values import ModelInput, ModelOutput
from bundleserver.tensors import Array, NamedTensor
from bundleserver.tensors.call_traits import UNKNOWN, CallTraits

_ROW_BY_ROW = frozenset({
    "Abs", "Add", "ArrayFeatureExtractor", "Binarizer", "Cast", "Clip", "Concat", "Constant", "Div",
    "Equal", "Exp", "FeatureVectorizer", "Flatten", "Greater", "Identity", "Imputer", "IsNaN",
    "LabelEncoder", "Less", "Log", "Mul", "Neg", "Not", "OneHotEncoder", "Pow", "Relu", "Reshape",
    "Scaler", "Sigmoid", "Sqrt", "Sub", "TreeEnsemble", "TreeEnsembleClassifier",
    "TreeEnsembleRegressor", "Where", "ZipMap",
})  # fmt: skip

_STEADY = _ROW_BY_ROW | frozenset({
    "ArgMax", "ArgMin", "AveragePool", "BatchNormalization", "Conv", "Dropout", "Elu", "Erf",
    "FusedMatMul", "GRU", "Gather", "Gelu", "Gemm", "GlobalAveragePool", "HardSigmoid",
    "HardSwish", "LSTM", "LayerNormalization", "LeakyRelu", "LinearClassifier", "LinearRegressor",
    "LogSoftmax", "MatMul", "Max", "MaxPool", "Min", "Normalizer", "RNN", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceSum", "SVMClassifier", "SVMRegressor", "Shape", "Slice", "Softmax",
    "Softplus", "Split", "Squeeze", "Tanh", "Transpose", "Unsqueeze",
})  # fmt: skip
"""Operators whose time depends on the sizes of their inputs, and not on values."""

_PARTS = (1, 2, 5, 24)
"""The sizes of the parts that the rows of the test are split into."""


def traits_of(
    structure: Structure,
    inputs: Sequence[ModelInput],
    outputs: Sequence[ModelOutput],
    ask: Callable[[Sequence[NamedTensor]], list[Array]],
) -> CallTraits:
    """Return what calls of a graph are like; ``ask`` runs it."""
    used = structure.used
    has_widths = all(
        each.shape is not None and each.shape[:1] == (-1,) and -1 not in each.shape[1:]
        for each in inputs
    )
    if structure.functions or not inputs or not has_widths:
        return UNKNOWN
    numeric = all(each.datatype not in ("BYTES", "BOOL") for each in inputs)
    return CallTraits(
        predictable=numeric and used <= _STEADY and call_threads() == 1,
        batchable=used <= _ROW_BY_ROW
        and all(output.kind != "tensors" for output in outputs)
        and _same_in_parts(samples_of(structure, inputs, sum(_PARTS)), ask),
    )


def _same_in_parts(
    samples: Sequence[Sequence[NamedTensor]],
    ask: Callable[[Sequence[NamedTensor]], list[Array]],
) -> bool:
    """Run rows together and in parts, and compare the results' bits."""
    ends = np.cumsum(_PARTS)
    for sample in samples:
        try:
            whole = ask(sample)
            parts = [
                ask([tensor._replace(values=tensor.values[end - size : end]) for tensor in sample])
                for size, end in zip(_PARTS, ends, strict=True)
            ]
        except Exception:  # noqa: BLE001, S112 - the next sample may do
            continue
        return all(
            len(array) == ends[-1] and _same(array, [part[place] for part in parts])
            for place, array in enumerate(whole)
        )
    return False


def _same(whole: Array, parts: Sequence[Array]) -> bool:
    if any(part.dtype != whole.dtype or part.ndim != whole.ndim for part in parts):
        return False
    joined = np.concatenate(parts)
    if whole.dtype.kind == "O":
        return bool(joined.tolist() == whole.tolist())
    return joined.shape == whole.shape and joined.tobytes() == whole.tobytes()
