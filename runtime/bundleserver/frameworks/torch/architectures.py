"""Modules that can be rebuilt from a state dict, by the name of their architecture."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import nn

from bundleserver.documents.forms import quoted

StateDict = Mapping[str, torch.Tensor]
Options = Mapping[str, object]

LSTM_AUTOENCODER = "lstm_autoencoder"

DECODER_INPUTS = ("sequence", "last")
"""The decoder's input: the encoder's whole output, or its last hidden state at every step."""

_LSTM_KEY = re.compile(
    r"(?P<part>encoder|decoder)\.(?:(?:weight|bias)_(?:ih|hh)|weight_hr)_l\d+(?:_reverse)?"
)
_WRAPPERS = ("module.", "_orig_mod.", "model.")
_OTHER_CELLS = {3: "nn.GRU", 1: "nn.RNN"}
_SIZES = ("input_size", "hidden_size", "num_layers")


class LstmAutoencoder(nn.Module):
    """An LSTM encoder and an LSTM decoder, batch first: ``[n, t, f]`` → ``[n, t, f]``."""

    def __init__(self, encoder: nn.LSTM, decoder: nn.LSTM, decoder_input: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.decoder_input = decoder_input

    def forward(self, sequences: torch.Tensor) -> torch.Tensor:
        """Encode the sequences and decode them again."""
        code, (last, _) = self.encoder(sequences)
        if self.decoder_input == "last":
            code = last[-1].unsqueeze(1).expand(-1, sequences.shape[1], -1)
        decoded: torch.Tensor = self.decoder(code)[0]
        return decoded


def unwrapped(state_dict: StateDict) -> dict[str, torch.Tensor]:
    """Strip the prefixes that DataParallel, torch.compile and Lightning add to every key."""
    found = dict(state_dict)
    while found:
        prefix = next((p for p in _WRAPPERS if all(key.startswith(p) for key in found)), None)
        if prefix is None:
            break
        found = {key.removeprefix(prefix): value for key, value in found.items()}
    return found


def infer_architecture(state_dict: StateDict) -> str | None:
    """Return the architecture with exactly these keys; None when there is none."""
    matches = [_LSTM_KEY.fullmatch(key) for key in state_dict]
    parts = {match["part"] for match in matches if match is not None}
    return LSTM_AUTOENCODER if None not in matches and len(parts) == 2 else None


def build_lstm_autoencoder(state_dict: StateDict, options: Options) -> LstmAutoencoder:
    """Rebuild an LSTM autoencoder; sizes, layers, biases, directions come from the tensors' shapes.

    Args:
        state_dict: the keys of two ``nn.LSTM``, ``encoder.*`` and ``decoder.*``.
        options: ``decoder_input``, one of ``DECODER_INPUTS``; ``input_size``, ``hidden_size`` and
            ``num_layers`` are compared with what the encoder's shapes say.

    Raises:
        ValueError: the tensors are not those of such a module, or an option contradicts them.
    """
    unknown = [key for key in state_dict if _LSTM_KEY.fullmatch(key) is None]
    if unknown:
        raise ValueError(f"it has '{unknown[0]}', which is not a tensor of an nn.LSTM")
    encoder, decoder = _build_lstm(state_dict, "encoder"), _build_lstm(state_dict, "decoder")
    decoder_input = options.get("decoder_input", DECODER_INPUTS[0])
    if decoder_input not in DECODER_INPUTS:
        known = quoted(DECODER_INPUTS)
        raise ValueError(f"options.decoder_input is {decoder_input!r}; expected one of {known}")
    _check_sizes(encoder, options)
    _check_fit(encoder, decoder, str(decoder_input))
    return LstmAutoencoder(encoder, decoder, str(decoder_input))


ARCHITECTURES: Mapping[str, Callable[[StateDict, Options], LstmAutoencoder]] = MappingProxyType(
    {LSTM_AUTOENCODER: build_lstm_autoencoder}
)
"""The architectures that ``options.architecture`` may name."""

ARCHITECTURE_OPTIONS = ("decoder_input", *_SIZES)
"""The options that describe an architecture."""


def _build_lstm(state_dict: StateDict, part: str) -> nn.LSTM:
    tensors = {
        key.removeprefix(f"{part}."): value
        for key, value in state_dict.items()
        if key.startswith(f"{part}.")
    }
    first, hidden = tensors.get("weight_ih_l0"), tensors.get("weight_hh_l0")
    projection = tensors.get("weight_hr_l0")
    matrices = [first, hidden] if projection is None else [first, hidden, projection]
    if first is None or hidden is None or any(m is None or m.ndim != 2 for m in matrices):
        raise ValueError(f"'{part}.weight_*_l0' are not the matrices of an nn.LSTM")
    hidden_size = hidden.shape[1] if projection is None else projection.shape[-1]
    _check_cell(part, first.shape[0], hidden_size)
    if not first.is_floating_point() or any(t.dtype != first.dtype for t in tensors.values()):
        raise ValueError(f"the tensors of '{part}' do not share one floating-point dtype")
    lstm = nn.LSTM(
        first.shape[1],
        hidden_size,
        num_layers=len({re.findall(r"_l(\d+)", key)[0] for key in tensors}),
        bias="bias_ih_l0" in tensors,
        batch_first=True,
        bidirectional="weight_ih_l0_reverse" in tensors,
        proj_size=0 if projection is None else projection.shape[0],
        dtype=first.dtype,
        device="meta",
    )
    try:
        lstm.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        details = " ".join(str(error).split()).removeprefix("Error(s) in loading state_dict for ")
        raise ValueError(f"'{part}.*' are not the tensors of one nn.LSTM: {details}") from error
    return lstm


def _check_cell(part: str, rows: int, hidden_size: int) -> None:
    if rows == 4 * hidden_size:
        return
    cell = _OTHER_CELLS.get(rows // hidden_size if hidden_size else 0)
    of = f", those of an {cell}" if cell and rows % hidden_size == 0 else ""
    raise ValueError(
        f"'{part}.weight_ih_l0' has {rows} rows for {hidden_size} hidden units{of}; an nn.LSTM "
        "has 4 per unit"
    )


def _check_sizes(encoder: nn.LSTM, options: Options) -> None:
    for name in _SIZES:
        size = getattr(encoder, name)
        if options.get(name, size) != size:
            raise ValueError(f"options.{name} is {options[name]!r}; the tensors have {size}")


def _check_fit(encoder: nn.LSTM, decoder: nn.LSTM, decoder_input: str) -> None:
    state = encoder.proj_size or encoder.hidden_size
    widths = {"sequence": state * (2 if encoder.bidirectional else 1), "last": state}
    if decoder.input_size != widths[decoder_input]:
        fitting = [name for name, width in widths.items() if width == decoder.input_size]
        hint = f"; options.decoder_input '{fitting[0]}' fits" if fitting else ""
        raise ValueError(
            f"the decoder expects {decoder.input_size} values per step, the encoder returns "
            f"{widths[decoder_input]}{hint}"
        )
    features = (decoder.proj_size or decoder.hidden_size) * (2 if decoder.bidirectional else 1)
    if features != encoder.input_size:
        raise ValueError(
            f"the decoder returns {features} values per step, the encoder expects "
            f"{encoder.input_size}; the two must be equal in an autoencoder"
        )
