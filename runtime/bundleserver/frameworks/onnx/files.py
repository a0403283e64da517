"""Reading ONNX files: the bytes, their structure, and what is refused before they are opened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bundleserver.errors import LoadError
from bundleserver.frameworks.interface import reading
from bundleserver.frameworks.onnx.divisions.check import DIVISIONS, problem_with_divisions
from bundleserver.frameworks.onnx.structure import Structure, read_structure
from bundleserver.frameworks.onnx.tensor_sizes import DATATYPES
from bundleserver.frameworks.onnx.value_types import ValueType
from bundleserver.frameworks.onnx.wire import Malformed
from bundleserver.frameworks.regular_files import open_regular

MOST_BYTES = (1 << 31) - 1
"""The most bytes of a protobuf message."""

_DOMAINS = frozenset({"", "ai.onnx.ml", "com.microsoft"})
"""Whose operators onnxruntime has; "" is ONNX itself."""

_OF_OTHER_FILES = frozenset({("com.microsoft", "EPContext")})
"""Operators that read files."""

_MOST_NODES = 2_000_000
"""The nodes of a graph after its functions were put in their places."""

_LFS = b"version https://git-lfs"

SERVED = {
    "float": "FP32",
    "uint8": "UINT8",
    "int8": "INT8",
    "uint16": "UINT16",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "string": "BYTES",
    "bool": "BOOL",
    "float16": "FP16",
    "double": "FP64",
    "uint32": "UINT32",
    "uint64": "UINT64",
}
"""ONNX's datatypes that the protocol has too."""


def read_checked(path: Path) -> tuple[bytes, Structure]:
    """Read a file, and check it as far as that is possible without onnxruntime.

    Raises:
        LoadError: it is not an ONNX model, is damaged, or is one of a kind that is not served.
        Abandoned: nobody waits for the load any more.
    """
    with reading(path), open_regular(path) as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise LoadError(f"'{path}' has more than 2 GiB; an ONNX model in one file has at most 2")
    if data.startswith(_LFS):
        raise LoadError(f"'{path}' is a pointer of Git LFS; fetch the file itself: git lfs pull")
    if data[4:8] == b"ORTM":
        raise LoadError(f"'{path}' is in ONNX Runtime's own format (.ort); save it as .onnx")
    try:
        structure = read_structure(data)
    except Malformed as error:
        raise LoadError(f"'{path}' is not a valid ONNX model: {error}") from error
    if problem := problem_with(structure, data):
        raise LoadError(f"'{path}' {problem}")
    return data, structure


def problem_with(structure: Structure, data: bytes) -> str:
    """Say what keeps a model from being served, of a file that was read; empty if nothing does."""
    if structure.ir_version < 1:
        return f"has the IR version {structure.ir_version}; expected at least 1"
    if not structure.outputs:
        return "has a graph without outputs"
    return (
        _problem_with_operators(structure)
        or _problem_with_functions(structure.functions)
        or _problem_with_values("input", structure.inputs)
        or _problem_with_values("output", structure.outputs)
        or ("" if structure.used.isdisjoint(DIVISIONS) else problem_with_divisions(data))
    )


def _problem_with_operators(structure: Structure) -> str:
    used = [structure.operators, *structure.functions.values()]
    for domain, name in (each for operators in used for each in operators):
        if (domain, name) in _OF_OTHER_FILES:
            return f"has the operator '{name}' of '{domain}', which reads another file"
        if domain not in _DOMAINS and (domain, name) not in structure.functions:
            return (
                f"has the operator '{name}' of the domain '{domain}', which onnxruntime does not "
                "have; libraries of custom operators are not loaded"
            )
    return ""


def _problem_with_functions(
    functions: Mapping[tuple[str, str], Mapping[tuple[str, str], int]],
) -> str:
    """Refuse functions that call themselves, and those that are very long in their places."""
    sizes: dict[tuple[str, str], int] = {}
    left = dict(functions)
    while left:
        ready = [key for key, called in left.items() if not left.keys() & called.keys()]
        if not ready:
            return f"has a function '{next(iter(left))[1]}' that calls itself"
        for key in ready:
            called = left.pop(key)
            sizes[key] = sum(count * sizes.get(each, 1) for each, count in called.items())
            if sizes[key] > _MOST_NODES:
                return f"has a function '{key[1]}' of more than {_MOST_NODES} nodes"
    return ""


def _problem_with_values(what: str, values: Mapping[str, ValueType]) -> str:
    for name, value in values.items():
        if problem := _problem_with_type(what, value):
            return f"has the {what} '{name[:100]}', {problem}"
    return ""


def _problem_with_type(what: str, value: ValueType) -> str:
    if value.kind == "tensor":
        return _problem_with_datatype(value.datatype)
    inside = value.inside or ValueType()
    if value.kind == "sequence" and what == "output":
        if inside.kind == "tensor":
            return _problem_with_datatype(inside.datatype)
        if inside.kind == "map" and (inside.inside or ValueType()).kind == "tensor":
            return _problem_with_datatype((inside.inside or ValueType()).datatype)
    if not value.kind and what == "output":
        return ""  # onnxruntime infers it
    kind = value.kind or "value of unknown type"
    hint = "; convert the model without it, or with one tensor for each of its entries"
    return f"{'an' if kind[0] == 'o' else 'a'} {kind}, which is not a tensor{hint}"


def _problem_with_datatype(number: int) -> str:
    known = DATATYPES.get(number)
    name = known.name if known else f"the unknown datatype {number}"
    if name in SERVED:
        return ""
    return (
        f"a tensor of {name}, which the Open Inference Protocol does not have; add a Cast to the "
        "graph, such as to float"
    )
