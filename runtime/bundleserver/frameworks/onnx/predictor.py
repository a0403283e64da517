"""An open ONNX model: named arrays in, all outputs of its graph by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import onnxruntime

from bundleserver.documents.forms import quoted
from bundleserver.errors import InvalidInput
from bundleserver.frameworks.onnx.call_traits import traits_of
from bundleserver.frameworks.onnx.held import transformer_of
from bundleserver.frameworks.onnx.samples import has_open_sizes, samples_of
from bundleserver.frameworks.onnx.session import PROVIDERS, is_out_of_memory, reason_of
from bundleserver.frameworks.onnx.stopping import stoppable
from bundleserver.frameworks.onnx.structure import Structure
from bundleserver.frameworks.onnx.values import (
    ModelOutput,
    fed,
    inputs_of,
    is_rowwise,
    outputs_of,
)
from bundleserver.tensors import NUMPY_DTYPES, Array, NamedTensor
from bundleserver.tensors.call_traits import CallTraits
from bundleserver.tensors.signature import Signature

_LOOPS = frozenset({"Loop", "Scan"})
_PROBABILITIES = ("output_probability", "probabilities", "probability")
_LABELS = ("output_label", "label")
"""What skl2onnx and onnxmltools call the two outputs of a classifier."""


class OnnxPredictor:
    """A session and its methods; immutable, so any thread may call it.

    ``predict`` (``transform``, of a transformer) returns all outputs; ``predict_proba``, of a
    classifier that was converted from scikit-learn's kind, only its probabilities.
    """

    def __init__(self, session: Any, structure: Structure) -> None:
        self._session: Any = session
        self._structure = structure
        self._may_loop = not structure.used.isdisjoint(_LOOPS)
        self._inputs = inputs_of(structure)
        self._answered: int | None = None
        self._outputs = outputs_of(structure)
        self._outputs = self._as_seen(self._outputs)
        specs = tuple(declared.spec for declared in self._inputs)
        rowwise = is_rowwise(structure)
        chosen = {"transform" if transformer_of(structure) else "predict": self._outputs}
        if probabilities := _probabilities(self._outputs):
            chosen["predict_proba"] = (probabilities,)
        self._chosen = chosen
        self.methods: Mapping[str, Signature] = {
            method: Signature(specs, tuple(each.spec for each in outputs), rowwise=rowwise)
            for method, outputs in chosen.items()
        }
        self.metadata: Mapping[str, object] = _metadata(structure, self._outputs)
        traits = traits_of(structure, self._inputs, self._outputs, self._ask)
        self._traits = traits if rowwise else CallTraits()

    def call_traits(self, method: str) -> CallTraits:
        """Return what calls are like, as the operators and a test at load tell."""
        return self._traits

    def call(
        self, method: str, inputs: Sequence[NamedTensor], parameters: Mapping[str, object]
    ) -> Mapping[str, Array]:
        """Run the graph on the inputs, by position; a column may be ``[n]`` or ``[n, 1]``.

        Raises:
            InvalidInput: the inputs are not valid, or an operator rejects a value.
        """
        if len(inputs) != len(self._inputs):
            got = quoted(tensor.name for tensor in inputs)
            expected = quoted(declared.name for declared in self._inputs)
            raise InvalidInput(f"got {len(inputs)} inputs: {got}; the model expects {expected}")
        pairs = zip(inputs, self._inputs, strict=True)
        feeds = {declared.name: fed(tensor, declared) for tensor, declared in pairs}
        return self._run(feeds, self._chosen[method])

    def samples(self, method: str, rows: int) -> Sequence[Sequence[NamedTensor]]:
        """Return inputs of the declared shapes; sizes that vary are those that were answered."""
        found = samples_of(self._structure, self._inputs, rows)
        if self._answered is not None:
            return found[self._answered : self._answered + 1]
        # Guesses that nothing answered would be held against the model.
        return [] if has_open_sizes(self._inputs) else found

    def close(self) -> None:
        """Release the session; calls that run keep it until they end."""
        self._session = None

    def _ask(self, tensors: Sequence[NamedTensor]) -> list[Array]:
        pairs = zip(tensors, self._inputs, strict=True)
        feeds = {declared.name: fed(tensor, declared) for tensor, declared in pairs}
        return list(self._run(feeds, self._outputs).values())

    def _run(
        self, feeds: Mapping[str, Array], outputs: Sequence[ModelOutput]
    ) -> Mapping[str, Array]:
        session = self._session
        if session is None:
            raise RuntimeError("the predictor is closed")
        try:
            names = [output.name for output in outputs]
            if self._may_loop:
                with stoppable() as options:
                    values = session.run(names, feeds, options)
            else:
                values = session.run(names, feeds)
        except UnicodeEncodeError as error:
            raise InvalidInput(f"a string is not valid UTF-8: {error.reason}") from None
        except _REFUSALS as error:
            # An operator's answer depends on its inputs alone; what fails, they made fail.
            if is_out_of_memory(error):
                raise
            came = ", ".join(f"'{name}' {list(array.shape)}" for name, array in feeds.items())
            raise InvalidInput(f"the model rejects {came}: {reason_of(error)}") from None
        return {
            output.name: output.array(value) for output, value in zip(outputs, values, strict=True)
        }

    def _as_seen(self, outputs: Sequence[ModelOutput]) -> tuple[ModelOutput, ...]:
        """Leave shapes open that no answer was seen to have: converters write wrong ones."""
        for place, sample in enumerate(samples_of(self._structure, self._inputs, 3)):
            try:
                answers = self._ask(sample)
            except Exception:  # noqa: BLE001, S112 - the next sample may do
                continue
            self._answered = place
            pairs = zip(outputs, answers, strict=True)
            return tuple(each if _has(each, a) else _opened(each, a) for each, a in pairs)
        return tuple(replace(each, shape=None) for each in outputs)


_REFUSALS = tuple(
    getattr(onnxruntime.capi.onnxruntime_pybind11_state, name)
    for name in ("InvalidArgument", "Fail", "RuntimeException")
)


def _has(output: ModelOutput, answer: Array) -> bool:
    if output.datatype is None or output.shape is None:
        return False
    return (
        answer.ndim == len(output.shape)
        and all(w in (-1, c) for c, w in zip(answer.shape, output.shape, strict=True))
        and answer.dtype == NUMPY_DTYPES[output.datatype]
    )


def _opened(output: ModelOutput, answer: Array) -> ModelOutput:
    datatype = output.datatype
    if datatype is not None and answer.dtype != NUMPY_DTYPES[datatype]:
        datatype = None
    return replace(output, shape=None, datatype=datatype)


def _probabilities(outputs: Sequence[ModelOutput]) -> ModelOutput | None:
    """Find the probabilities of a classifier: one of two outputs, by their converters' names."""
    by_name = {output.name: output for output in outputs}
    if len(outputs) != 2 or not any(name in by_name for name in _LABELS):
        return None
    return next((by_name[name] for name in _PROBABILITIES if name in by_name), None)


def _metadata(structure: Structure, outputs: Sequence[ModelOutput]) -> dict[str, object]:
    name, version = structure.producer
    labels = {output.name: list(output.labels) for output in outputs if output.labels}
    return {
        "producer": f"{name} {version}".strip(),
        "ir_version": structure.ir_version,
        "opsets": {domain or "ai.onnx": number for domain, number in structure.opsets.items()},
        "providers": list(PROVIDERS),
        **({"labels": labels} if labels else {}),
    }
