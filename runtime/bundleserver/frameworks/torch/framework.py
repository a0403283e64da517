"""PyTorch: exported programs, TorchScript, and state dicts of a known architecture.

A file that needs the code of its model's class is refused: state dicts are read with
``weights_only``. A ``.pt2`` is opened by ``torch.export.load``, which may run code from the file as
opening a pickle does, or, where the operator does not trust every pickle, by ``checked``.
"""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.export import ExportedProgram

from bundleserver.documents.forms import quoted
from bundleserver.errors import LoadError, StoreError
from bundleserver.frameworks import LoadContext
from bundleserver.frameworks.giving_up import turn
from bundleserver.frameworks.interface import check_options, first_line
from bundleserver.frameworks.torch.architectures import (
    ARCHITECTURE_OPTIONS,
    DECODER_INPUTS,
    LSTM_AUTOENCODER,
    LstmAutoencoder,
    build_lstm_autoencoder,
    infer_architecture,
    unwrapped,
)
from bundleserver.frameworks.torch.exported import open_exported, problem_with_exported
from bundleserver.frameworks.torch.files import EXPORT, Kind, kind_of
from bundleserver.frameworks.torch.predictor import TorchPredictor
from bundleserver.frameworks.torch.program import Program
from bundleserver.frameworks.torch.rows import DEPENDENT, ROWS, settled
from bundleserver.frameworks.torch.scripted import open_scripted
from bundleserver.frameworks.torch.weights import open_safetensors, open_weights
from bundleserver.frameworks.trust import CodeTrust

_Open = Callable[[Path, Mapping[str, object], torch.device, CodeTrust], Program]

_KINDS: Mapping[Kind, tuple[_Open, tuple[str, ...]]] = {
    Kind.EXPORTED: (open_exported, ()),
    Kind.SCRIPT: (open_scripted, ("datatypes",)),
    Kind.WEIGHTS: (open_weights, ("architecture", *ARCHITECTURE_OPTIONS)),
    Kind.SAFETENSORS: (open_safetensors, ("architecture", *ARCHITECTURE_OPTIONS)),
}
"""How each kind of file is opened, and the options that only it has."""

_OPTIONS = ("device", "sequence", "rows")
"""Options of all kinds. ``sequence``: rows ``[n, f]`` are sequences of one step."""

_READING = threading.Lock()
"""torch's readers and writers of files share state of the process; one file at a time."""

_DEVICE = re.compile(r"cpu|auto|cuda(?::(?P<index>\d+))?")


def load(path: Path, context: LoadContext) -> TorchPredictor:
    """Open a file of any kind that torch writes without code; the content decides which.

    Raises:
        LoadError: the file is damaged or of another kind, an option is not valid, or the device is
            missing.
    """
    kind = kind_of(path)
    open_file, own = _KINDS[kind]
    options = context.options
    check_options(options, (*_OPTIONS, *own), f"'{path}' ({kind.value})")
    sequence, rows = options.get("sequence"), options.get("rows", ROWS[0])
    if sequence not in (True, False, None):
        raise LoadError(f"'{path}': options.sequence is {sequence!r}; expected true or false")
    if rows not in ROWS:
        raise LoadError(f"'{path}': options.rows is {rows!r}; expected one of {quoted(ROWS)}")
    device = _device(path, options.get("device", context.device))
    with turn(_READING, f"torch reads one file at a time, and '{path}' after another"):
        program = open_file(path, options, device, context.trust)
    program = replace(program, one_sequence=rows == DEPENDENT)
    return TorchPredictor(settled(path, program, None if sequence is None else bool(sequence)))


def save(model: object, directory: Path, stem: str) -> tuple[Path, dict[str, object]]:
    """Write an exported program (``.pt2``), a scripted module or an LSTM autoencoder (``.pt``).

    Any other module would need the code of its class where it is served.

    Raises:
        StoreError: it is such a module, with the line that exports it, or cannot be written.
    """
    if isinstance(model, ExportedProgram):
        problem = problem_with_exported(model)
        if problem is not None:
            raise StoreError(f"component '{stem}' {problem}")
        return _written(directory / f"{stem}.pt2", torch.export.save, model), {}
    if isinstance(model, (torch.jit.ScriptModule, torch.jit.ScriptFunction)):
        return _written(directory / f"{stem}.pt", torch.jit.save, model), {}
    if not isinstance(model, nn.Module):
        raise StoreError(
            f"component '{stem}' is a {type(model).__name__}; expected a torch.nn.Module"
        )
    decoder_input = _decoder_input(model)
    if decoder_input is None:
        raise StoreError(
            f"component '{stem}' is a module of class '{type(model).__qualname__}', whose code the "
            f"server does not have; save the exported program instead: {EXPORT}"
        )
    tensors = {key: value.detach().cpu() for key, value in _tensors(model).items()}
    path = _written(directory / f"{stem}.pt", torch.save, tensors)
    return path, {"architecture": LSTM_AUTOENCODER, "decoder_input": decoder_input}


def _device(path: Path, wanted: object) -> torch.device:
    match = _DEVICE.fullmatch(wanted) if isinstance(wanted, str) else None
    if match is None:
        raise LoadError(
            f"'{path}': device is {wanted!r}; expected 'cpu', 'cuda', 'cuda:1' or 'auto'"
        )
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    name = match[0]
    if name == "auto":
        return torch.device("cuda" if count else "cpu")
    if name != "cpu" and int(match["index"] or 0) >= count:
        raise LoadError(
            f"'{path}': device is '{name}', but torch {torch.__version__} finds {count} CUDA "
            "devices; use 'cpu', or 'auto' for a GPU if there is one"
        )
    return torch.device(name)


def _written(path: Path, write: Callable[..., object], model: object) -> Path:
    try:
        with _READING:
            write(model, str(path))
    except Exception as error:  # torch's own writer may raise anything
        raise StoreError(f"'{path}' cannot be written: {first_line(error)}") from error
    return path


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    state_dict = model.state_dict()
    only_tensors = all(isinstance(value, torch.Tensor) for value in state_dict.values())
    return unwrapped(state_dict) if only_tensors else {}


def _decoder_input(model: nn.Module) -> str | None:
    """Return a module's ``decoder_input`` if it predicts as our LSTM autoencoder; else None."""
    tensors = _tensors(model)
    if infer_architecture(tensors) is None:
        return None
    for decoder_input in DECODER_INPUTS:
        try:
            ours = build_lstm_autoencoder(tensors, {"decoder_input": decoder_input}).eval()
        except ValueError:
            continue
        if _is_equivalent(model, ours):
            return decoder_input
    return None


def _is_equivalent(model: nn.Module, ours: LstmAutoencoder) -> bool:
    """Compare the outputs of two modules on sequences of three random steps."""
    weight = next(ours.parameters())
    probe = torch.rand(2, 3, ours.encoder.input_size, dtype=weight.dtype, device=weight.device)
    try:
        with torch.inference_mode():
            theirs = copy.deepcopy(model).eval()(probe)
            expected = ours(probe)
    except Exception:  # noqa: BLE001 the model's own code may raise anything
        return False
    return (
        isinstance(theirs, torch.Tensor)
        and theirs.shape == expected.shape
        and torch.allclose(theirs, expected, rtol=1e-4, atol=1e-5)
    )
