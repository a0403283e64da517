"""What is told of an ONNX file without opening it: its role and its widths."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from bundleserver.frameworks.file_facts import FileFacts
from bundleserver.frameworks.interface import reading
from bundleserver.frameworks.onnx.structure import Structure, read_structure
from bundleserver.frameworks.onnx.value_types import ValueType
from bundleserver.frameworks.onnx.wire import Malformed
from bundleserver.frameworks.regular_files import open_regular

_MOST_BYTES = 1 << 28
"""Of a larger file nothing is told: transformers are small."""

_TRANSFORMERS = {
    "Imputer": "imputer",
    "LabelEncoder": "encoder",
    "Normalizer": "scaler",
    "OneHotEncoder": "encoder",
    "Scaler": "scaler",
    "TfIdfVectorizer": "vectorizer",
    "Binarizer": "preprocessor",
}
"""Operators of transformers, and what they are; the last one in a graph decides."""

_BESIDE = frozenset({
    "Cast", "Concat", "FeatureVectorizer", "Flatten", "Identity", "Reshape", "StringNormalizer",
    "Tokenizer", "ArrayFeatureExtractor",
})  # fmt: skip
"""Operators that stand beside those of transformers, and predict nothing."""


def facts_of(path: Path) -> FileFacts | None:
    """Return what the graph of a file does, and its widths; None if it is not a valid model.

    Raises:
        LoadError: the file cannot be read.
    """
    with reading(path):
        status = path.stat()
    return _facts_of(path, (status.st_ino, status.st_mtime_ns, status.st_size))


def transformer_of(structure: Structure) -> str:
    """Return what kind of transformer a graph is; empty if it is a model, as most are.

    skl2onnx converts a fitted transformer to operators that predict nothing, with one output.
    """
    names = [node.operator for node in structure.nodes]
    kinds = [_TRANSFORMERS[name] for name in names if name in _TRANSFORMERS]
    is_all = all(name in _TRANSFORMERS or name in _BESIDE for name in names)
    is_one = len(structure.outputs) == 1 and not structure.functions
    return kinds[-1] if kinds and is_all and is_one else ""


@lru_cache(maxsize=16)
def _facts_of(path: Path, which: tuple[int, ...]) -> FileFacts | None:
    if which[-1] > _MOST_BYTES:
        return FileFacts("an ONNX model", "model")
    with reading(path), open_regular(path) as file:
        data = file.read(_MOST_BYTES)
    try:
        structure = read_structure(data)
    except Malformed:
        return None
    role = transformer_of(structure)
    takes = _width(tuple(structure.inputs.values()))
    gives = _width(tuple(structure.outputs.values())) if role else None
    return FileFacts(f"an ONNX {role or 'model'}", role or "model", takes, gives)


def _width(values: tuple[ValueType, ...]) -> int | None:
    """Return how many columns a table has: one value ``[n, f]``, or a value for each column."""
    shapes = [value.shape for value in values]
    if len(shapes) > 1 and all(shape is not None and shape[1:] == (1,) for shape in shapes):
        return len(shapes)
    if len(shapes) != 1 or shapes[0] is None or len(shapes[0]) != 2:
        return None
    width = shapes[0][1]
    return width if isinstance(width, int) else None
