"""The sizes of recurrent networks, whose kernels read the weights of every layer unasked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_GATES = {"gru": 3, "lstm": 4, "rnn_relu": 1, "rnn_tanh": 1}


def _of(name: str) -> Any:
    gates = _GATES[name]

    def check(given: Mapping[str, Any]) -> bool:
        # The form for packed sequences has no such argument.
        if "input" not in given or given["input"].dim() != 3:
            return False
        states = list(given["hx"]) if name == "lstm" else [given["hx"]]
        return len(states) == (2 if name == "lstm" else 1) and _fits(given, gates, states)

    return check


def _fits(given: Mapping[str, Any], gates: int, states: list[Any]) -> bool:
    values, layers = given["input"], given["num_layers"]
    ways = 2 if given["bidirectional"] else 1
    rows = values.shape[0 if given["batch_first"] else 1]
    if any(state.dim() != 3 or state.shape[:2] != (layers * ways, rows) for state in states):
        return False
    # With a projection the state that goes on is narrower than the cell.
    output, hidden = states[0].shape[2], states[-1].shape[2]
    shapes: list[tuple[int, ...]] = []
    for layer in range(layers if 0 < layers <= len(given["params"]) else 0):
        width = values.shape[2] if layer == 0 else output * ways
        for _ in range(ways):
            shapes += [(gates * hidden, width), (gates * hidden, output)]
            if given["has_biases"]:
                shapes += [(gates * hidden,)] * 2
            if output != hidden:
                shapes.append((output, hidden))
    kinds = {part.dtype for part in (values, *states, *given["params"])}
    return (
        [tuple(weight.shape) for weight in given["params"]] == shapes
        and bool(shapes)
        and len(kinds) == 1
        and values.shape[2] > 0
        and hidden > 0
    )


RECURRENT = {name: _of(name) for name in _GATES}
"""What is asked of the arguments of a recurrent network, by its operator's name."""
