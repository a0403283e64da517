"""The onnx framework: files with one graph, opened by onnxruntime on CPUs.

A file is read and checked here before onnxruntime sees it, and onnxruntime gets those very bytes.
A model is a program all the same: a Loop may go on for as long as the operator's timeouts let it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bundleserver.errors import StoreError
from bundleserver.frameworks import LoadContext
from bundleserver.frameworks.interface import check_options
from bundleserver.frameworks.onnx.files import MOST_BYTES, problem_with, read_checked
from bundleserver.frameworks.onnx.predictor import OnnxPredictor
from bundleserver.frameworks.onnx.session import open_session
from bundleserver.frameworks.onnx.structure import read_structure
from bundleserver.frameworks.onnx.wire import Malformed


def load(path: Path, context: LoadContext) -> OnnxPredictor:
    """Open a model; it runs no code but onnxruntime's operators, whatever the operator trusts.

    Raises:
        LoadError: it is not a valid model, is not served, or onnxruntime cannot open it.
    """
    check_options(context.options, (), f"'{path}'")
    data, structure = read_checked(path)
    return OnnxPredictor(open_session(path, data), structure)


def save(model: Any, directory: Path, stem: str) -> tuple[Path, dict[str, object]]:
    """Write an ``onnx.ModelProto`` as ``directory/stem.onnx``, without options.

    Raises:
        StoreError: it is no ONNX model or an open session, has its weights elsewhere, or is not
            served.
    """
    kind = type(model)
    if kind.__module__.partition(".")[0] not in ("onnx", "onnxruntime"):
        raise StoreError(
            f"component '{stem}' is a {kind.__name__}, which is not an ONNX model; convert it to "
            "an onnx.ModelProto first (skl2onnx, onnxmltools, torch.onnx), or save it without "
            "frameworks={…: 'onnx'}"
        )
    if not hasattr(model, "SerializeToString"):
        raise StoreError(
            f"component '{stem}' is a {kind.__name__}, which does not have its model any "
            "more; save the onnx.ModelProto that it was made of: onnx.load(path)"
        )
    try:
        data: bytes = model.SerializeToString()
        structure = read_structure(data)
    except Malformed as error:
        raise StoreError(f"component '{stem}' cannot be served: {error}") from error
    if problem := problem_with(structure, data) or _problem_with_size(data):
        raise StoreError(f"component '{stem}' {problem}")
    path = directory / f"{stem}.onnx"
    path.write_bytes(data)
    return path, {}


def _problem_with_size(data: bytes) -> str:
    return "has more than 2 GiB" if len(data) > MOST_BYTES else ""
