"""What goes into a session and comes out: arrays to tensors, sequences and maps to arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bundleserver.errors import InvalidInput
from bundleserver.frameworks.onnx.files import SERVED
from bundleserver.frameworks.onnx.structure import Structure
from bundleserver.frameworks.onnx.tensor_sizes import DATATYPES
from bundleserver.frameworks.onnx.value_types import ValueType
from bundleserver.tensors import NUMPY_DTYPES, Array, NamedTensor, TensorSpec, datatype_of
from bundleserver.tensors.narrowing import converted


@dataclass(frozen=True)
class ModelInput:
    """One input of a graph: its name, datatype and shape; -1 is any size, None any rank.

    ``is_column``: it is ``[n, 1]``, and taken as ``[n]`` too.
    """

    name: str
    datatype: str
    shape: tuple[int, ...] | None
    is_column: bool = False

    @property
    def spec(self) -> TensorSpec:
        """What a request may send."""
        return TensorSpec(self.name, self.datatype, (-1,) if self.is_column else self.shape)


@dataclass(frozen=True)
class ModelOutput:
    """One output of a graph.

    Attributes:
        name: its name.
        datatype: the datatype of its tensor, of those in a sequence, or of a map's values.
        shape: its declared shape, as the answers were seen to have it; None if that is unknown.
        kind: ``tensor``; ``tensors`` (a sequence of them); ``maps`` (one for each row).
        labels: the keys of the maps, in the order of their columns; empty if unknown.
    """

    name: str
    datatype: str | None
    shape: tuple[int, ...] | None
    kind: str = "tensor"
    labels: tuple[str | int, ...] = ()

    @property
    def spec(self) -> TensorSpec:
        """What an answer has."""
        return TensorSpec(self.name, self.datatype, self.shape)

    def array(self, value: object) -> Array:
        """Convert what a session returned.

        Maps become ``[n, labels]``, a sequence of tensors of one shape ``[entries, ...]``.

        Raises:
            ValueError: the tensors of a sequence, or the keys of maps, differ.
        """
        if self.kind == "maps" and isinstance(value, Sequence):
            return self._table(value)
        if self.kind == "tensors" and isinstance(value, Sequence):
            return self._stacked(value)
        return np.asarray(value)

    def _table(self, maps: Sequence[Mapping[str | int, object]]) -> Array:
        labels = self.labels or tuple(sorted(maps[0])) if maps else self.labels
        dtype = NUMPY_DTYPES[self.datatype or "FP32"]
        if any(len(row) != len(labels) or not all(k in row for k in labels) for row in maps):
            raise ValueError(f"output '{self.name}' has maps with different keys for its rows")
        rows = [[row[label] for label in labels] for row in maps]
        return np.array(rows, dtype=dtype).reshape(len(maps), len(labels))

    def _stacked(self, tensors: Sequence[object]) -> Array:
        arrays = [np.asarray(tensor) for tensor in tensors]
        shapes = {array.shape for array in arrays}
        if len(shapes) > 1:
            listed = ", ".join(str(list(shape)) for shape in sorted(shapes)[:5])
            raise ValueError(
                f"output '{self.name}' is a sequence of tensors of the shapes {listed}, which do "
                "not make one tensor"
            )
        return np.stack(arrays) if arrays else np.empty(0, NUMPY_DTYPES[self.datatype or "FP32"])


def inputs_of(structure: Structure) -> tuple[ModelInput, ...]:
    """Return a graph's inputs in its order."""
    several = len(structure.inputs) > 1
    made = []
    for name, value in structure.inputs.items():
        datatype, shape = datatype_in(value), _sizes(value.shape)
        # The only column of a table stays one, as scikit-learn's is; texts have no table.
        is_column = shape == (-1, 1) and (several or datatype == "BYTES")
        made.append(ModelInput(name, datatype, shape, is_column))
    return tuple(made)


def outputs_of(structure: Structure) -> tuple[ModelOutput, ...]:
    """Return a graph's outputs in its order; their shapes are what the file says."""
    labels = _labels_of_maps(structure)
    made = []
    for name, value in structure.outputs.items():
        inside = value.inside or ValueType()
        if value.kind == "sequence" and inside.kind == "map":
            datatype = datatype_in(inside.inside or ValueType())
            known = labels.get(name, ())
            shape = (-1, len(known) or -1)
            made.append(ModelOutput(name, datatype, shape, "maps", known))
        elif value.kind == "sequence":
            made.append(ModelOutput(name, datatype_in(inside), None, "tensors"))
        else:
            known_type = datatype_in(value) if value.kind else None
            made.append(ModelOutput(name, known_type, _sizes(value.shape)))
    return tuple(made)


def is_rowwise(structure: Structure) -> bool:
    """Ask whether the first axis of all inputs is the same, so that it counts the rows.

    A single input has rows whatever its shape; outputs that are known to have none are none.
    """
    values = list(structure.inputs.values())
    if len(values) > 1 and any(not value.shape for value in values):
        return False
    firsts = {value.shape[0] for value in values if value.shape}
    outputs = [value.shape for value in structure.outputs.values() if value.kind == "tensor"]
    is_fixed = any(
        shape is not None and (not shape or (isinstance(shape[0], int) and shape[0] not in firsts))
        for shape in outputs
    )
    is_scalar = any(value.shape == () for value in values)
    return len(firsts) < 2 and not is_fixed and not is_scalar


def datatype_in(value: ValueType) -> str:
    """Return the protocol's datatype of a tensor that is served."""
    return SERVED[DATATYPES[value.datatype].name]


def fed(tensor: NamedTensor, declared: ModelInput) -> Array:
    """Convert a tensor to a graph's input; numbers where none changes but by rounding.

    Raises:
        InvalidInput: its datatype, its shape or a value is not valid.
    """
    values = tensor.values
    if declared.is_column and values.ndim == 1:
        values = values[:, np.newaxis]
    _check_shape(values, tensor, declared)
    target = NUMPY_DTYPES[declared.datatype]
    if target.kind == "O":
        return _strings(values, tensor, declared)
    if values.dtype == target:
        return np.ascontiguousarray(values).reshape(values.shape)
    if values.dtype.kind not in "biuf" or "b" in (values.dtype.kind, target.kind):
        raise InvalidInput(
            f"input '{tensor.name}' has datatype {datatype_of(values)}; the model expects "
            f"{declared.datatype}"
        )
    return converted(values, target, f"input '{tensor.name}'", declared.datatype)


def _check_shape(values: Array, tensor: NamedTensor, declared: ModelInput) -> None:
    wanted = declared.shape
    if wanted is None or (
        values.ndim == len(wanted)
        and all(w in (-1, c) for c, w in zip(values.shape, wanted, strict=True))
    ):
        return
    hint = ""
    if wanted[1:] == values.shape[1:] and wanted[:1] != values.shape[:1]:
        hint = ", the only number of rows that it was exported for"
    raise InvalidInput(
        f"input '{tensor.name}' has shape {list(tensor.values.shape)}; the model expects "
        f"{list(wanted)}{hint}"
    )


def _strings(values: Array, tensor: NamedTensor, declared: ModelInput) -> Array:
    if values.dtype.kind == "U":
        return values.astype(object)
    # onnxruntime would make strings of anything: of None, and of bytes with their prefix.
    if values.dtype.kind != "O" or not all(isinstance(value, str) for value in values.flat):
        raise InvalidInput(
            f"input '{tensor.name}' has values that are not strings of UTF-8; the model expects "
            f"{declared.datatype}"
        )
    return np.ascontiguousarray(values).reshape(values.shape)


def _sizes(shape: Sequence[object] | None) -> tuple[int, ...] | None:
    if shape is None:
        return None
    return tuple(size if isinstance(size, int) else -1 for size in shape)


def _labels_of_maps(structure: Structure) -> dict[str, tuple[str | int, ...]]:
    """Return the keys of the maps that ZipMap makes, by the name of its output."""
    return {
        node.outputs[0]: node.labels
        for node in structure.nodes
        if node.operator == "ZipMap" and node.domain == "ai.onnx.ml" and node.outputs
    }
