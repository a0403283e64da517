"""How a bundle runs: its steps in order over named tensors, and the signature that follows.

A manifest may leave steps, inputs, outputs, datatypes and shapes out; what the opened components
say of themselves fills the gaps, and what was declared wrongly is refused before any request comes.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from bundleserver.bundle.members import BundleMember, ModelMember
from bundleserver.bundle.steps import Naming, Plan, PlannedStep, planned_operation
from bundleserver.errors import BundleError
from bundleserver.frameworks import Predictor
from bundleserver.frameworks.interface import CachesAnswers, MakesSamples, TellsCallTraits
from bundleserver.manifest import Manifest, Step
from bundleserver.tensors import NamedTensor, TensorSpec
from bundleserver.tensors.call_traits import UNKNOWN
from bundleserver.tensors.signature import DEFAULT_OUTPUT, Signature


def make_plan(
    manifest: Manifest,
    predictors: Mapping[str, Predictor],
    written: tuple[Step, ...] | None = None,
) -> Plan:
    """Plan the steps and the signature of a bundle whose components are open.

    Args:
        manifest: the manifest, read or inferred.
        predictors: the open components.
        written: the steps, if not those of ``steps_of``.

    Raises:
        BundleError: a step names a method that its component lacks, there is no rule to combine the
            components, or the manifest declares what the components contradict.
    """
    written = steps_of(manifest, predictors) if written is None else written
    steps = tuple(plan_step(step, index, predictors) for index, step in enumerate(written))
    if not manifest.steps or manifest.inferred:
        steps = (*steps[:-1], _opened(steps[-1], manifest))
    inputs = _inputs(manifest, steps)
    outputs = _outputs(manifest, steps)
    rowwise = all(step.signature.rowwise for step in steps)
    refused = {name: why for step in steps for name, why in step.signature.refused.items()}
    ignores_others = all(step.signature.ignores_others for step in steps)
    # Whoever declares no inputs is a drop-in for the same files without a manifest.
    is_lenient = manifest.inferred or not manifest.inputs
    signature = Signature(inputs, outputs, is_lenient, rowwise, refused, ignores_others)
    return Plan(steps, signature, written)


def steps_of(manifest: Manifest, predictors: Mapping[str, Predictor]) -> tuple[Step, ...]:
    """Return a manifest's steps, or those that are made where it has none.

    Raises:
        BundleError: there is no rule to combine the components.
    """
    return manifest.steps or _default_steps(manifest, predictors)


def _default_steps(manifest: Manifest, predictors: Mapping[str, Predictor]) -> tuple[Step, ...]:
    """Chain every transformer in the manifest's order, then the one component that predicts."""
    last = _last_component(predictors)
    chain = [name for name, predictor in predictors.items() if name != last]
    steps: list[Step] = []
    names = tuple(spec.name for spec in manifest.inputs)
    for name in chain:
        names = names or _input_names(predictors[name].methods["transform"])
        scaled = (f"{name}-output",)
        steps.append(Step(name, "transform", None, {}, names, scaled))
        names = scaled
    method, signature = next(iter(predictors[last].methods.items()))
    steps.append(Step(last, method, None, {}, names or _input_names(signature)))
    return tuple(steps)


def _last_component(predictors: Mapping[str, Predictor]) -> str:
    """Name the component that answers: the only one that is no transformer, else the last."""
    predicting = [
        name
        for name, predictor in predictors.items()
        if next(iter(predictor.methods)) != "transform"
    ]
    last = predicting[-1] if predicting else list(predictors)[-1]
    stuck = [
        name for name in predicting if name != last and "transform" not in predictors[name].methods
    ]
    if stuck:
        both = ", ".join(f"'{name}'" for name in (*stuck, last))
        raise BundleError(
            f"components {both} all predict, and cannot be combined automatically; define "
            "'steps' in the manifest"
        )
    return last


def _input_names(signature: Signature) -> tuple[str, ...]:
    return tuple(spec.name for spec in signature.inputs) or ("input-0",)


def _output_names(signature: Signature) -> tuple[str, ...]:
    return tuple(spec.name for spec in signature.outputs) or (DEFAULT_OUTPUT,)


def plan_step(
    step: Step, index: int, predictors: Mapping[str, Predictor], *, with_traits: bool = True
) -> PlannedStep:
    """Plan one step; its call traits, which may take calls of the model, only if wanted.

    Raises:
        BundleError: its component lacks the method, or is a forecaster with other inputs.
    """
    if step.op is not None:
        return planned_operation(step, index)
    predictor = predictors[step.component or ""]
    methods = predictor.methods
    method = step.method or next(iter(methods))
    if method not in methods:
        near = difflib.get_close_matches(method, methods, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        known = ", ".join(f"'{name}'" for name in methods)
        raise BundleError(
            f"steps[{index}].method is '{method}'; component '{step.component}' has {known}{hint}"
        )

    call = partial(predictor.call, method)
    signature = methods[method]
    _check_names_of_forecast(step, index, signature)
    what = f"steps[{index}] ({step.component}.{method})"
    traits = UNKNOWN
    if with_traits and isinstance(predictor, TellsCallTraits):
        traits = predictor.call_traits(method)
    is_cached = (
        partial(predictor.is_cached, method) if isinstance(predictor, CachesAnswers) else None
    )
    samples = partial(predictor.samples, method) if isinstance(predictor, MakesSamples) else _none
    return PlannedStep(
        what,
        method,
        call,
        step.inputs,
        step.outputs,
        signature,
        traits,
        is_cached,
        naming=Naming.CHOSEN if isinstance(predictor, _MEMBERS) else Naming.WRITTEN,
        samples=samples,
    )


_MEMBERS = (BundleMember, ModelMember)


def _none(rows: int) -> Sequence[Sequence[NamedTensor]]:
    return ()


def _opened(last: PlannedStep, manifest: Manifest) -> PlannedStep:
    """Let the last step have all outputs of its component, if nobody wrote their names."""
    if last.method is None:
        return last
    known = _output_names(last.signature)
    declared = tuple(spec.name for spec in manifest.outputs)
    if declared:
        names = known if set(declared) <= set(known) else declared
        return replace(last, outputs=names, naming=Naming.DECLARED)
    # An inferred step has names of its own only where its component has one output.
    names = last.outputs if len(last.outputs) == len(known) else known
    return replace(last, outputs=names, naming=Naming.OPEN)


def _check_names_of_forecast(step: Step, index: int, signature: Signature) -> None:
    """Refuse other names: a forecaster knows its inputs by name, since most may be left out."""
    if signature.rowwise:
        return
    known = [spec.name for spec in signature.inputs]
    for name in step.inputs:
        if name not in known:
            listed = ", ".join(f"'{entry}'" for entry in known)
            raise BundleError(
                f"steps[{index}].inputs has '{name}'; component '{step.component}' is a "
                f"forecaster, whose inputs are {listed}"
            )


def _inputs(manifest: Manifest, steps: Sequence[PlannedStep]) -> tuple[TensorSpec, ...]:
    """Return the declared inputs, or the names that no step makes, with what their takers know."""
    made = {name for step in steps for name in step.outputs}
    free = dict.fromkeys(name for step in steps for name in step.inputs)
    declared = manifest.inputs or tuple(
        TensorSpec(name) for name in free if name not in made or _is_taken_first(name, steps)
    )
    return tuple(_complete_input(spec, steps) for spec in declared)


def _is_taken_first(name: str, steps: Sequence[PlannedStep]) -> bool:
    """Ask whether a tensor is taken before it is made, as a forecast's ``ds`` is."""
    return next(name in step.inputs for step in steps if name in (*step.inputs, *step.outputs))


def _complete_input(spec: TensorSpec, steps: Sequence[PlannedStep]) -> TensorSpec:
    known = _spec_of_taker(spec.name, steps)
    if known is None:
        return spec
    if spec.columns and known.columns and set(spec.columns) != set(known.columns):
        raise BundleError(
            f"input '{spec.name}' is declared with columns {list(spec.columns)}; the fitted "
            f"component expects {list(known.columns)}"
        )
    if spec.shape and known.shape and len(spec.shape) == len(known.shape):
        pairs = zip(spec.shape, known.shape, strict=True)
        if any(-1 not in pair and pair[0] != pair[1] for pair in pairs):
            raise BundleError(
                f"input '{spec.name}' is declared with shape {list(spec.shape)}; the fitted "
                f"component expects {list(known.shape)}"
            )
    return replace(
        spec,
        datatype=spec.datatype or known.datatype,
        shape=spec.shape if spec.shape is not None else known.shape,
        columns=spec.columns or known.columns,
        optional=known.optional,
        column_datatypes=known.column_datatypes,
        # A manifest that lists columns requires them all.
        required_columns=() if spec.columns else known.required_columns,
        kinds_known=known.kinds_known,
        is_flag=known.is_flag,
        nullable=known.nullable,
    )


def _spec_of_taker(name: str, steps: Sequence[PlannedStep]) -> TensorSpec | None:
    """Find what the first step that takes a tensor says of it, by name or else by position."""
    for step in steps:
        if name not in step.inputs:
            continue
        inputs = step.signature.inputs
        if not step.signature.rowwise:
            return next((spec for spec in inputs if spec.name == name), None)
        if len(inputs) != len(step.inputs):
            return None
        known = inputs[step.inputs.index(name)]
        return replace(known, shape=None) if _serves_sequences(step, steps) else known
    return None


def _serves_sequences(step: PlannedStep, steps: Sequence[PlannedStep]) -> bool:
    """Ask whether a transformer stands before a component that takes tensors of more than one rank.

    A transformer works along the last axis, so it takes whatever rank its taker does.
    """
    if step.method != "transform":
        return False
    after = _spec_of_taker(step.outputs[0], steps)
    return after is not None and after.shape is None


def _outputs(manifest: Manifest, steps: Sequence[PlannedStep]) -> tuple[TensorSpec, ...]:
    """Return the declared outputs, or the tensors that no step takes, as their makers know them."""
    made: dict[str, TensorSpec] = {}
    for step in steps:
        known = dict(zip(step.outputs, step.signature.outputs, strict=False))
        made |= {
            name: replace(known.get(name, TensorSpec(name)), name=name) for name in step.outputs
        }
    taken_later = {
        name
        for index, step in enumerate(steps)
        for name in step.outputs
        if any(name in later.inputs for later in steps[index + 1 :])
    }
    declared = manifest.outputs or tuple(
        TensorSpec(name) for name in made if name not in taken_later
    )
    return tuple(
        replace(
            spec,
            datatype=spec.datatype or made[spec.name].datatype,
            shape=spec.shape if spec.shape is not None else made[spec.name].shape,
            likely=made[spec.name].likely,
        )
        for spec in declared
    )
