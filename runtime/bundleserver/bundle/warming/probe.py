"""The probe: one call of the whole plan with made-up inputs; READY means that it answered."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from bundleserver.bundle.steps import Plan, PlannedStep, Results, StepFailed
from bundleserver.bundle.warming.samples import Sample
from bundleserver.bundle.warming.verdicts import Verdict, root_of, verdict_on
from bundleserver.errors import ModelNotFound, NotReady, ProbeError
from bundleserver.frameworks.interface import named_line, passes_through
from bundleserver.tensors import Array, NamedTensor, TensorSpec, datatype_of
from bundleserver.tensors.signature import Signature

LOG = logging.getLogger(__name__)

MOST_SAMPLES = 12
"""Maximum calls of a probe."""

Run = Callable[[Plan, Mapping[str, NamedTensor], Mapping[str, object]], Mapping[str, Array]]
"""Runs a plan's steps; raises StepFailed."""


@dataclass(frozen=True)
class ProbeResult:
    """What is known of a version's answers.

    Attributes:
        answered: it has answered a call, the probe's or an example's.
        reason: why it has not; an empty string if it has.
        problem: why it is probably not able to, where the probe only warns; else an empty string.
        signature: the signature, completed by what came out.
    """

    answered: bool
    reason: str
    problem: str
    signature: Signature


class Recorder:
    """A plan whose calls are recorded: which step was called last, and what each returned."""

    def __init__(self, plan: Plan) -> None:
        self.returned: list[Results] = []
        self.last: PlannedStep | None = None
        self.plan = replace(plan, steps=tuple(map(self._recorded, plan.steps)))
        self._steps = plan.steps

    def problem(self) -> str | None:
        """Say which step names fewer outputs than its component returned; None if none does."""
        for step, results in zip(self._steps, self.returned, strict=False):
            if step.leaves_out(results):
                names = list(results) if isinstance(results, Mapping) else []
                listed = f": {', '.join(map(repr, names))}" if names else ""
                return (
                    f"{step.what} names {len(step.outputs)} outputs, its component returns "
                    f"{len(results)}{listed}; name all of them in the step, and choose among them "
                    "with the manifest's 'outputs'"
                )
        return None

    def _recorded(self, step: PlannedStep) -> PlannedStep:
        def call(inputs: Sequence[NamedTensor], parameters: Mapping[str, object]) -> Results:
            self.last = step
            results = step.call(inputs, parameters)
            self.returned.append(results)
            return results

        return replace(step, call=call)


def probe(
    plan: Plan, run: Run, samples: Iterable[Sample], identity: str, differences: Callable[[], str]
) -> ProbeResult:
    """Call a plan with made-up inputs until it answers.

    Args:
        plan: the plan.
        run: runs its steps.
        samples: what it is called with.
        identity: the version, for messages.
        differences: says how recorded and installed libraries differ, for messages.

    Raises:
        ProbeError: it cannot answer.
        NotReady, ModelNotFound: another model that it calls is not ready.
    """
    refusal, failure = "", ""
    for sample in islice(samples, MOST_SAMPLES):
        # Native code can crash the process: the last line then tells where.
        calls = ", ".join(step.what for step in plan.steps)
        LOG.info("%s: probing %s with %s", identity, calls, sample)
        recorder = Recorder(plan)
        try:
            outputs = run(recorder.plan, sample.inputs, {})
        except (NotReady, ModelNotFound):
            raise
        except BaseException as error:  # a model's own code may raise anything
            if passes_through(error):
                raise
            said, is_refusal = _judged(error, sample, recorder.last)
            if is_refusal:
                refusal = refusal or said
            elif not (refusal and sample.guessed):
                failure = said
                break
            continue
        if problem := recorder.problem():
            raise ProbeError(problem)
        return ProbeResult(True, "", "", completed(plan, sample.inputs, outputs))
    if failure:
        raise ProbeError(f"{failure}{differences()}")
    reason = refusal or "nothing is known of its inputs; add 'examples' to its manifest"
    return ProbeResult(False, reason, "", completed(plan, {}, {}))


def _judged(error: BaseException, sample: Sample, step: PlannedStep | None) -> tuple[str, bool]:
    """Say what a call raised, and whether the model only refuses what was made up."""
    cause = error.__cause__ if isinstance(error, StepFailed) and error.__cause__ else error
    verdict = verdict_on(cause, sample.values)
    is_guess = step is not None and not sample.guessed.isdisjoint(step.inputs)
    is_refusal = verdict is Verdict.REFUSES or (verdict is Verdict.DOES_NOT_FIT and is_guess)
    word = "refuses" if is_refusal else "cannot answer"
    where = step.what if step is not None else "the request"
    return f"{where} {word} made-up inputs ({sample}): {named_line(root_of(cause))}", is_refusal


def completed(
    plan: Plan, inputs: Mapping[str, NamedTensor], outputs: Mapping[str, Array]
) -> Signature:
    """Complete a signature by a call's inputs and outputs: names, datatypes and ranks.

    A datatype of which nothing is known is FP64, as of numbers; sizes that a call may change stay
    open.
    """
    known = plan.signature
    taken = tuple(_completed_input(spec, inputs) for spec in known.inputs)
    is_fixed = all(spec.shape is not None and -1 not in spec.shape[1:] for spec in taken)
    made = tuple(
        _completed_output(plan.outputs.get(name, TensorSpec(name)), outputs.get(name), is_fixed)
        for name in outputs or plan.outputs
    )
    return replace(known, inputs=taken, outputs=made)


def as_announced(plan: Plan, inputs: Mapping[str, NamedTensor]) -> dict[str, NamedTensor]:
    """Convert integers to FP64 where nothing declares an input's datatype, as metadata say."""
    open_inputs = {spec.name for spec in plan.signature.inputs if spec.datatype is None}
    return {
        name: tensor._replace(values=tensor.values.astype(np.float64))
        if name in open_inputs and tensor.values.dtype.kind in "iu"
        else tensor
        for name, tensor in inputs.items()
    }


def _completed_input(spec: TensorSpec, inputs: Mapping[str, NamedTensor]) -> TensorSpec:
    tensor = inputs.get(spec.name)
    shape = spec.shape
    if shape is None:
        # A table, where nothing was seen.
        shape = (-1,) * (2 if tensor is None else tensor.values.ndim)
    datatype = spec.datatype
    if datatype is None and len(set(spec.column_datatypes)) == 1:
        datatype = spec.column_datatypes[0]
    if datatype is None:
        is_text = tensor is not None and any(isinstance(v, str) for v in tensor.values.flat)
        datatype = "BYTES" if is_text else "FP64"
    return replace(spec, datatype=datatype, shape=shape)


def _completed_output(spec: TensorSpec, values: Array | None, is_fixed: bool) -> TensorSpec:
    if values is None:
        return replace(spec, datatype=spec.datatype or spec.likely or "FP64")
    shape = spec.shape
    if shape is None:
        sizes = values.shape[1:] if is_fixed else (-1,) * (values.ndim - 1)
        shape = (-1, *sizes) if values.ndim else ()
    return replace(spec, datatype=spec.datatype or datatype_of(values), shape=shape)
