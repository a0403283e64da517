"""PyTorch: exported programs, TorchScript, state dicts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bundleserver.errors import LoadError
from bundleserver.frameworks.file_facts import FileFacts, FileRole, Opens
from bundleserver.frameworks.file_names import suffix_of
from bundleserver.frameworks.flavour import Flavour
from bundleserver.frameworks.interface import Framework, has_class_of
from bundleserver.frameworks.pickles import PICKLE_SUFFIXES, held_in
from bundleserver.frameworks.torch.files import Kind, is_of_torch, is_torch_file, kind_of

_SUFFIXES = frozenset({".pt", ".pth", ".pt2", ".ckpt", ".safetensors"})


def _sniff(path: Path) -> FileRole | None:
    """Claim torch's suffixes, pickles of state dicts, and modules, which load refuses."""
    if suffix_of(path.name) in _SUFFIXES or is_torch_file(path):
        return "model"
    held = held_in(path)
    return "model" if held.made_by and is_of_torch(held.made_by) else None


def _logged_file(directory: Path, said: Mapping[str, object]) -> str | None:
    """Open exported programs and TorchScript; a pickled module needs the code of its classes."""
    data = str(said.get("model_data", "data"))
    for name in ("model.pt2", "model.pth"):
        path = directory / data / name
        if path.is_file() and (path.suffix == ".pt2" or _needs_no_code(path)):
            return f"{data}/{name}"
    return None


def _needs_no_code(path: Path) -> bool:
    try:
        return kind_of(path) in (Kind.SCRIPT, Kind.EXPORTED)
    except LoadError:
        return False


FRAMEWORK = Framework(
    name="torch",
    module="bundleserver.frameworks.torch.framework",
    library="torch",
    extra="torch",
    distributions=("torch",),
    suffixes=_SUFFIXES | PICKLE_SUFFIXES,
    sniff=_sniff,
    facts=lambda path: FileFacts("a PyTorch model", "model"),
    recognises=lambda model: has_class_of(model, "torch"),
    flavour=Flavour("pytorch", _logged_file),
    opens=Opens.CONTENT,
    in_turns=True,
)
