"""The steps of a plan: what is called, on which tensors, and how its outputs are named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import numpy as np

from bundleserver.errors import BundleServerError, InvalidInput
from bundleserver.frameworks.interface import passes_through
from bundleserver.manifest import Step
from bundleserver.operations import OPERATIONS
from bundleserver.spans import Span
from bundleserver.spans import current as current_span
from bundleserver.tensors import NUMPY_DTYPES, Array, NamedTensor, TensorSpec
from bundleserver.tensors.budget import current_budget
from bundleserver.tensors.call_traits import UNKNOWN, CallTraits, combined
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


Failure = Callable[[str, str], BundleServerError]
"""Makes an error of what failed, and of its cause."""


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

    ``is_cached`` is None if nothing is ever cached. ``is_added``: a request asked for it, and the
    bundle's own steps do not have it.
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
    is_added: bool = False

    @cached_property
    def name(self) -> str:
        """Its component and method, or its operation, as spans are called."""
        return self.what.partition(" (")[2].removesuffix(")") or self.what

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
    """All steps of a bundle in order, and the bundle's inputs and outputs.

    ``written``: the same steps as the manifest has them, or as they were made for it.
    """

    steps: tuple[PlannedStep, ...]
    signature: Signature
    written: tuple[Step, ...] = ()

    @cached_property
    def call_traits(self) -> CallTraits:
        """The call traits of all steps together."""
        if not self.signature.rowwise:
            return UNKNOWN
        return combined(step.call_traits for step in self.steps)

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


def planned_operation(step: Step, index: int) -> PlannedStep:
    """Plan a step that is a built-in operation."""
    operation = OPERATIONS[step.op or ""]
    what = f"steps[{index}] ({step.op})"
    params = operation.read(("steps", index), step.params, len(step.inputs), len(step.outputs))

    def call(inputs: Sequence[NamedTensor], parameters: Mapping[str, object]) -> Sequence[Array]:
        if len(inputs) != len(step.inputs):
            came = ", ".join(f"'{tensor.name}'" for tensor in inputs)
            raise InvalidInput(f"{what} expects {len(step.inputs)} tensors; got {came}")
        return operation.run(inputs, params)

    signature = Signature((), operation.outputs)
    call_traits = operation.call_traits(params)
    return PlannedStep(what, None, call, step.inputs, step.outputs, signature, call_traits)


def run_steps(
    plan: Plan,
    inputs: Mapping[str, NamedTensor],
    parameters: Mapping[str, object],
    failure: Failure,
) -> dict[str, Array]:
    """Run a plan's steps in order, as far as the request's budget allows; return its outputs.

    Args:
        plan: the plan.
        inputs: validated inputs, by name.
        parameters: the request's.
        failure: makes the error of an output that is not what was declared.

    Raises:
        StepFailed: a step raised what is not one of our own errors.
        BundleServerError: one of our own.
    """
    tensors: dict[str, tuple[NamedTensor, ...]] = {}
    declared = plan.signature.inputs
    if len(declared) == 1 and (len(inputs) > 1 or declared[0].name not in inputs):
        # Several tensors are the columns of the single input.
        tensors[declared[0].name] = tuple(inputs.values())
    else:
        for name, tensor in inputs.items():
            tensors[name] = (tensor,)
    names: Iterable[str] = ()
    budget, trace = current_budget(), current_span()
    for step in plan.steps:
        if budget is not None:
            budget.check()
        if len(step.inputs) == 1:
            inputs_of_step = tensors.get(step.inputs[0], ())
        else:
            inputs_of_step = tuple(t for name in step.inputs for t in tensors.get(name, ()))
        try:
            if trace is None:
                results = step.call(inputs_of_step, parameters)
            else:
                results = _call_in_span(trace, step, inputs_of_step, parameters)
            if isinstance(results, tuple | list) and len(results) == len(step.outputs):
                names = step.outputs
            else:
                named = step.named(results)
                names, results = named.keys(), tuple(named.values())
        except BundleServerError:
            raise
        except BaseException as error:  # a framework's own code may raise anything, and exit
            if passes_through(error):
                raise
            raise StepFailed(step) from error
        for name, values in zip(names, results, strict=True):
            tensors[name] = (NamedTensor(name, values),)
    if step.naming is not Naming.OPEN:
        names = plan.outputs
    outputs: dict[str, Array] = {}
    for name in names:
        values, spec = tensors[name][0].values, plan.outputs.get(name)
        try:
            outputs[name] = values if spec is None else spec.coerce(values)
        except (TypeError, ValueError) as error:
            raise failure(f"output '{name}'", str(error)) from error
    return outputs


def _call_in_span(
    trace: Span, step: PlannedStep, inputs: Sequence[NamedTensor], parameters: Mapping[str, object]
) -> Results:
    """Run a step in a span of its own."""
    shape = inputs[0].values.shape if inputs else ()
    with trace.child(step.name, **{"bundleserver.rows": shape[0] if shape else 1}):
        return step.call(inputs, parameters)
