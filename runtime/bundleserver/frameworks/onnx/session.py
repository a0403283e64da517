"""Sessions of onnxruntime: how they are opened, and what their errors say."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import onnxruntime

from bundleserver.errors import LoadError

PROVIDERS = ("CPUExecutionProvider",)

_FATAL = 4
_IR_VERSION = re.compile(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)")
_OPSET = re.compile(r"Opset (\d+) is under development|opset version (\d+)", re.IGNORECASE)
_FAILED_NODE = re.compile(r"while running (?P<operator>\w+) node\. Name:'(?P<name>[^']*)'")
_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_PLACE = re.compile(
    r"\S+\.(?:cc|h):\d+ (?:.* was false\. |[\w:<>,*& ~]+\(.*?\)(?: const)?(?: \[with .*?\])? )?"
)
"""Where in its sources onnxruntime raised an error, with the check that failed."""
_OUT_OF_MEMORY = re.compile(r"failed to allocate|bad_?alloc|out of memory", re.IGNORECASE)


def open_session(path: Path, data: bytes) -> onnxruntime.InferenceSession:
    """Open a model that was checked, on CPUs.

    A call has as many threads as ``OMP_NUM_THREADS`` says, which the server sets to its share of
    the container's CPUs, else one for each CPU; they do not spin. Memory is freed after each call:
    an arena would keep that of the largest request, and patterns that of each shape.

    Raises:
        LoadError: onnxruntime cannot open it.
    """
    try:
        return onnxruntime.InferenceSession(data, _options(), providers=list(PROVIDERS))
    except Exception as error:  # onnxruntime's classes are Exceptions, each by itself
        raise LoadError(f"'{path}' cannot be opened: {_reason_of_load(error)}") from error


def call_threads() -> int:
    """Return on how many threads one call may run."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(said)) if said.isdecimal() else len(os.sched_getaffinity(0))


def is_out_of_memory(error: Exception) -> bool:
    """Ask whether a call failed for want of memory."""
    return _OUT_OF_MEMORY.search(str(error)) is not None


def reason_of(error: Exception) -> str:
    """Say in one line why a call failed, with the operator that failed."""
    text = _CODE.sub("", str(error))
    failed = _FAILED_NODE.search(text)
    status = text.partition("Status Message: ")[2] or text
    lines = [line for line in status.splitlines() if line.strip()]
    said = _PLACE.sub("", lines[0].strip(), count=1) if lines else type(error).__name__
    said = said[:300].rstrip(" .:")
    return f"{failed['operator']}: {said}" if failed else said


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = call_threads()
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    # What it says of a request is in the error that it raises, too.
    options.log_severity_level = _FATAL
    for key, value in _ENTRIES.items():
        options.add_session_config_entry(key, value)
    return options


_ENTRIES: Mapping[str, str] = {
    "session.intra_op.allow_spinning": "0",
    "session.inter_op.allow_spinning": "0",
    # Its own format is never taken for a model: what is opened was checked.
    "session.load_model_format": "ONNX",
}


def _reason_of_load(error: Exception) -> str:
    installed = f"onnxruntime {onnxruntime.__version__}"
    text = str(error)
    if match := _IR_VERSION.search(text):
        return (
            f"it has the IR version {match[1]}; {installed} takes at most {match[2]}: save it with "
            "an older onnx, or install a newer onnxruntime"
        )
    if "is not a registered function/op" in text or "NOT_IMPLEMENTED" in text:
        return f"{installed} does not have one of its operators: {reason_of(error)}"
    if match := _OPSET.search(text):
        version = match[1] or match[2]
        return (
            f"it has the opset {version}, which {installed} does not take: convert it for an older "
            "opset, or install a newer onnxruntime"
        )
    return reason_of(error)
