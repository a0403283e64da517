"""State dicts, of torch.save or of safetensors: tensors, and the module to load them into."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch

from bundleserver.documents.forms import did_you_mean, quoted
from bundleserver.errors import LoadError
from bundleserver.frameworks.interface import first_line
from bundleserver.frameworks.regular_files import open_regular
from bundleserver.frameworks.torch.architectures import (
    ARCHITECTURES,
    LSTM_AUTOENCODER,
    infer_architecture,
    unwrapped,
)
from bundleserver.frameworks.torch.files import (
    HOW_TO_EXPORT,
    HOW_TO_SAVE,
    Kind,
    first_class,
    holds_pickled_tensors,
)
from bundleserver.frameworks.torch.pickled import load_pickled, only_tensors
from bundleserver.frameworks.torch.program import Program, ProgramInput
from bundleserver.frameworks.torch.safetensors import read_tensors
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy
from bundleserver.tensors import TensorSpec
from bundleserver.tensors.signature import DEFAULT_INPUT

_INSIDE = ("model_state_dict", "state_dict", "model")
"""The keys under which checkpoints keep the state dict, beside epochs and optimizers."""

_NUMPY_MODULES = ("numpy._core.multiarray", "numpy.core.multiarray")
"""Where numpy 2 and numpy 1 keep the functions that rebuild their numbers."""


def open_weights(
    path: Path, options: Mapping[str, object], device: torch.device, trust: CodeTrust
) -> Program:
    """Open a state dict, or a checkpoint that holds one, and rebuild its module.

    Options: ``architecture``, inferred from the keys by default, and its own options.

    Raises:
        LoadError: it is not trusted, is damaged, has more than tensors, or is of an unknown
            architecture.
    """
    if trust.pickles is PicklePolicy.DENY:
        raise LoadError(
            f"'{path}' is {Kind.WEIGHTS.value}, which is a pickle, and --pickle_policy=deny opens "
            f"none; export the model instead: {HOW_TO_EXPORT}; or save its tensors with "
            "safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
        )
    state_dict = _find_state_dict(path, _load(path, trust))
    return _program(path, state_dict, options, device, Kind.WEIGHTS)


def open_safetensors(
    path: Path, options: Mapping[str, object], device: torch.device, trust: CodeTrust
) -> Program:
    """Open a state dict in safetensors' format, which holds nothing but tensors.

    Options: as :func:`open_weights`.

    Raises:
        LoadError: it is damaged, or of an unknown architecture.
    """
    state_dict = unwrapped(read_tensors(path))
    return _program(path, state_dict, options, device, Kind.SAFETENSORS)


def _program(
    path: Path,
    state_dict: Mapping[str, torch.Tensor],
    options: Mapping[str, object],
    device: torch.device,
    kind: Kind,
) -> Program:
    name = _architecture(path, state_dict, options.get("architecture"))
    try:
        module = ARCHITECTURES[name](state_dict, options).eval().to(device)
    except ValueError as error:
        raise LoadError(f"'{path}' is not a valid '{name}': {error}") from error
    encoder = module.encoder

    def run(tensors: Sequence[torch.Tensor]) -> object:
        return module(*tensors)

    shape = (-1, -1, encoder.input_size)
    sequences = ProgramInput(DEFAULT_INPUT, next(encoder.parameters()).dtype, shape)
    metadata = {
        "file": kind.value,
        "architecture": name,
        "decoder_input": module.decoder_input,
        "input_size": encoder.input_size,
        "hidden_size": encoder.hidden_size,
        "num_layers": encoder.num_layers,
    }
    return Program(
        run,
        (sequences,),
        device,
        (TensorSpec("reconstruction", sequences.datatype),),
        recurrent=True,
        metadata=metadata,
    )


def _load(path: Path, trust: CodeTrust) -> object:
    try:
        if holds_pickled_tensors(path):
            return load_pickled(path)
        if trust.pickles is PicklePolicy.LISTED:
            with only_tensors():
                return _read(path)
        with torch.serialization.safe_globals([*_numpy_globals()]):
            return _read(path)
    except pickle.UnpicklingError as error:
        foreign = first_class(path)
        if foreign is not None:
            raise LoadError(
                f"'{path}' has a pickled object of class '{foreign}', whose code is not in the "
                f"file; save model.state_dict() if the architecture is '{LSTM_AUTOENCODER}', else "
                f"{HOW_TO_SAVE}"
            ) from error
        # torch's own message advises to run the file; its reader supports only protocol 2.
        raise _unreadable(path, "it is damaged, or not of pickle protocol 2") from error
    except Exception as error:  # torch's own reader may raise anything
        raise _unreadable(path, first_line(error)) from error


def _read(path: Path) -> object:
    # Open, since torch would take a name's suffix for the kind of the file.
    with open_regular(path) as file:
        return torch.load(file, map_location="cpu", weights_only=True)


def _unreadable(path: Path, reason: str) -> LoadError:
    return LoadError(
        f"'{path}' is {Kind.WEIGHTS.value} that cannot be read: {reason}; copy it again, or save "
        "it again with torch.save(model.state_dict(), …)"
    )


@functools.cache
def _numpy_globals() -> list[Callable[..., object]]:
    """Return the functions that unpickle numpy's numbers, which checkpoints keep beside tensors."""
    scalar = cast("Callable[..., object]", np.float64(0).__reduce__()[0])
    array = cast("Callable[..., object]", np.empty(0).__reduce__()[0])
    return [
        np.ndarray,
        np.dtype,
        *{type(np.dtype(code)) for code in "?bhilqBHILQefd"},
        *(_named_in(module, scalar) for module in _NUMPY_MODULES),
        *(_named_in(module, array) for module in _NUMPY_MODULES),
    ]


def _named_in(module: str, function: Callable[..., object]) -> Callable[..., object]:
    """Wrap a function so that torch finds it under the module that a pickle names."""

    @functools.wraps(function)
    def call(*args: object) -> object:
        return function(*args)

    call.__module__ = module
    return call


def _find_state_dict(path: Path, loaded: object) -> dict[str, torch.Tensor]:
    inside = [loaded.get(key) for key in _INSIDE] if isinstance(loaded, Mapping) else []
    for candidate in (loaded, *inside):
        if isinstance(candidate, Mapping) and candidate and _holds_only_tensors(candidate):
            return unwrapped(candidate)
    what = f"a {type(loaded).__name__}"
    if isinstance(loaded, Mapping):
        what = f"a dict with {_listed(map(str, loaded))}"
    raise LoadError(
        f"'{path}' has {what}; expected a state dict, or a checkpoint that has one under "
        f"{_listed(_INSIDE)}"
    )


def _holds_only_tensors(candidate: Mapping[object, object]) -> bool:
    return all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in candidate.items())


def _architecture(path: Path, state_dict: Mapping[str, torch.Tensor], named: object) -> str:
    if named is not None:
        if isinstance(named, str) and named in ARCHITECTURES:
            return named
        hint = did_you_mean(str(named), ARCHITECTURES)
        raise LoadError(
            f"'{path}': options.architecture is {named!r}; expected one of "
            f"{quoted(ARCHITECTURES)}{hint}; for any other {HOW_TO_SAVE}"
        )
    found = infer_architecture(state_dict)
    if found is None:
        raise LoadError(
            f"'{path}' is a state dict with {_listed(state_dict)}; expected a "
            f"'{LSTM_AUTOENCODER}', two nn.LSTM under 'encoder.' and 'decoder.'; load the tensors "
            f"into their model and {HOW_TO_SAVE}"
        )
    return found


def _listed(keys: Iterable[str]) -> str:
    listed = quoted(keys, most=6)
    return "no keys" if listed == "none" else listed
