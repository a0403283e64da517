"""The steps of a plan: what is called, on which tensors, and how its outputs are named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import numpy as np

from bundleserver.tensors import NUMPY_DTYPES, Array, NamedTensor, TensorSpec
from bundleserver.tensors.call_traits import UNKNOWN, CallTraits
from bundleserver.tensors.signature import Signature

Results = Sequence[Array] | Mapping[str, Array]
"""The outputs of a call, by position or by name."""

Call = Callable[[Sequence[NamedTensor], Mapping[str, object]], Results]

Remembers = Callable[[Sequence[NamedTensor], Mapping[str, object]], bool]
"""Asks a step whether its forecast is cached; raises InvalidInput as the call does."""

Recall = Callable[[Mapping[str, NamedTensor], Mapping[str, object]], bool]
"""The same for a bundle, with inputs by name."""


Samples = Callable[[int], Sequence[Sequence[NamedTensor]]]
"""Makes inputs for calls of so many rows, as ``MakesSamples`` describes."""


class StepFailed(Exception):  # it is raised from the error, for whoever reports it
    """A step's call raised something that is not one of our own errors."""

    def __init__(self, step: PlannedStep) -> None:
        self.what = step.what
        super().__init__(step.what)


class Naming(Enum):
    """Who named the outputs of a step."""

    WRITTEN = "the step itself"
    DECLARED = "the manifest's outputs, which may choose among those of the component"
    CHOSEN = "the step itself, which may choose among those of another bundle"
    OPEN = "nobody, so that it has all that its component returns, under the component's names"


@dataclass(frozen=True)
class PlannedStep:
    """One call: from the tensors named ``inputs`` to the tensors named ``outputs``, by position.

    ``is_cached`` is None if nothing is ever cached.
    """

    what: str
    method: str | None
    call: Call
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    signature: Signature
    call_traits: CallTraits = UNKNOWN
    is_cached: Remembers | None = None
    naming: Naming = Naming.WRITTEN
    samples: Samples = lambda rows: ()

    def leaves_out(self, results: Results) -> bool:
        """Ask whether a call returned more than the step names, and nobody chose among it."""
        is_choice = self.naming is Naming.DECLARED and isinstance(results, Mapping)
        return not (
            self.method is None
            or self.naming in (Naming.OPEN, Naming.CHOSEN)
            or len(results) <= len(self.outputs)
            or (is_choice and set(results) >= set(self.outputs))
        )

    def named(self, results: Results) -> Mapping[str, Array]:
        """Name the outputs of a call; those that a written step does not name are left out.

        Raises:
            ValueError: there are fewer than the step names.
        """
        if isinstance(results, Mapping):
            if self.naming is Naming.OPEN or results.keys() >= set(self.outputs):
                return results
            results = tuple(results.values())
        names = self.outputs
        if len(results) < len(names):
            raise ValueError(f"got {len(results)} outputs; expected {len(names)}")
        if len(results) > len(names) and self.naming is Naming.OPEN:
            names = tuple(f"output-{index}" for index in range(len(results)))
        return dict(zip(names, results, strict=False))


@dataclass(frozen=True)
class Plan:
    """All steps of a bundle in order, and the bundle's inputs and outputs."""

    steps: tuple[PlannedStep, ...]
    signature: Signature
    call_traits: CallTraits = UNKNOWN

    @cached_property
    def outputs(self) -> Mapping[str, TensorSpec]:
        """The specs of the signature's outputs, by name."""
        return {spec.name: spec for spec in self.signature.outputs}

    def is_open(self, output: str) -> bool:
        """Ask whether nothing declares the datatype of an output."""
        return output not in self.outputs or self.outputs[output].datatype is None

    def announced(self, completed: Signature) -> list[tuple[str, np.dtype[np.generic]]]:
        """Return the outputs that were seen to be floating-point numbers, and are not declared."""
        return [
            (spec.name, NUMPY_DTYPES[spec.datatype or "FP64"])
            for spec in completed.outputs
            if str(spec.datatype).startswith("FP") and self.is_open(spec.name)
        ]

    def recall(self) -> Recall | None:
        """Return what asks whether a request's forecast is cached; None without a cache.

        Only a forecaster that is a bundle's only step has one.
        """
        step = self.steps[0]
        is_cached, names = step.is_cached, step.inputs
        if is_cached is None or len(self.steps) > 1:
            return None
        return lambda inputs, parameters: is_cached(
            [inputs[name] for name in names if name in inputs], parameters
        )
