"""ONNX models, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bundleserver.frameworks.file_facts import FileRole, Opens
from bundleserver.frameworks.flavour import Flavour
from bundleserver.frameworks.interface import Framework
from bundleserver.frameworks.onnx.held import facts_of


def _sniff(path: Path) -> FileRole:
    """Claim every file of that name; what is not a model, ``load`` refuses with the reason."""
    facts = facts_of(path)
    return "model" if facts is None or facts.role == "model" else "preprocessor"


def _recognises(model: object) -> bool:
    """Ask whether an object is a model of the onnx package, or an open session of onnxruntime."""
    names = {f"{base.__module__}.{base.__qualname__}" for base in type(model).__mro__}
    sessions = ("InferenceSession", "Session")
    return any(
        (name.rpartition(".")[2] == "ModelProto" and name.startswith("onnx."))
        or (name.startswith("onnxruntime.") and name.rpartition(".")[2] in sessions)
        for name in names
    )


def _logged_file(directory: Path, said: Mapping[str, object]) -> str | None:
    """Open models that are in one file; MLflow reads those whose weights are in others."""
    name = str(said.get("data", "model.onnx"))
    return name if facts_of(directory / name) is not None else None


FRAMEWORK = Framework(
    name="onnx",
    module="bundleserver.frameworks.onnx.framework",
    library="onnxruntime",
    extra="onnx",
    distributions=("onnxruntime", "onnxruntime-gpu"),
    suffixes=frozenset({".onnx"}),
    sniff=_sniff,
    facts=facts_of,
    recognises=_recognises,
    flavour=Flavour("onnx", _logged_file),
    opens=Opens.READER,
)
