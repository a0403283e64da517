"""The methods of a bundle's model: those that a request asks for as outputs, and the default one.

The asked outputs decide which steps run. A method that no step calls, such as ``predict_proba``,
is a further step after the bundle's own, where one component makes all of the bundle's outputs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from bundleserver.bundle.plan import make_plan, plan_step
from bundleserver.bundle.steps import Naming, Plan, PlannedStep, Results
from bundleserver.documents.forms import nearest
from bundleserver.errors import BundleError, InvalidInput
from bundleserver.frameworks import Predictor
from bundleserver.manifest import BUNDLE, MODEL, Manifest, Step
from bundleserver.tensors import Array, NamedTensor, TensorSpec
from bundleserver.tensors.signature import Signature

PREDICT, PREDICT_PROBA = "predict", "predict_proba"

MOST_KEPT = 256
"""Different sets of asked outputs whose plans a bundle keeps."""


class Methods:
    """The methods of the component that makes a bundle's outputs; immutable.

    Attributes:
        names: the methods that may be asked for as outputs; none if several components, an
            operation or a forecaster make the bundle's outputs.
    """

    def __init__(self, manifest: Manifest, predictors: Mapping[str, Predictor], plan: Plan) -> None:
        self._manifest = manifest
        self._predictors = predictors
        self._plan = plan
        self._last = _answering(plan, manifest)
        self.names = () if self._last is None else _askable(self._last, plan, predictors)

    def plan_for(self, asked: Collection[str], seen: Signature, taker: str) -> Plan:
        """Return the plan that makes the asked outputs; the bundle's own if that is the same.

        The call traits of added methods are not known: finding out takes calls of the model.

        Args:
            asked: names of outputs and methods.
            seen: the bundle's signature, completed by what its outputs were.
            taker: the version, for messages.

        Raises:
            InvalidInput: a name is neither an output nor a method.
        """
        own = {spec.name: spec for spec in seen.outputs} | dict(self._plan.outputs)
        methods = [name for name in asked if name not in own and name in self.names]
        unknown = [name for name in asked if name not in own and name not in methods]
        ends_open = self._plan.steps[-1].naming is Naming.OPEN
        if not self._plan.signature.rowwise or (ends_open and not methods):
            return self._plan  # what its outputs are is known after the call
        if unknown:
            raise InvalidInput(self.unknown_output(unknown[0], own, taker))
        wanted = [name for name in asked if name in own]
        kept = _needed(self._steps(methods, [*own]), {*wanted, *methods})
        if not methods and len(kept) == len(self._plan.steps):
            return self._plan
        specs = [own.get(name) or self._spec(name) for name in asked]
        signature = replace(self._plan.signature, outputs=tuple(specs))
        return replace(self._plan, steps=kept, signature=signature)

    def unknown_output(self, name: str, outputs: Collection[str], taker: str) -> str:
        """Say which outputs and methods there are in the place of an unknown one."""
        known = ", ".join(f"'{output}'" for output in outputs)
        said = f"unknown output '{name}'; {taker} has the outputs {known}"
        others = ", ".join(f"'{method}'" for method in self.names if method not in outputs)
        return f"{said} and the methods {others}" if others else said

    def steps(self, methods: Sequence[str]) -> tuple[Step, ...]:
        """Return the bundle's steps with a last one for each method, its output named after it.

        Raises:
            BundleError: no one component makes the bundle's outputs, or it lacks a method.
        """
        last = self._last
        if last is None:
            raise BundleError(
                "methods cannot be chosen where several components, an operation, a forecaster or "
                "another bundle make the outputs; use steps=[…]"
            )
        has = self._predictors[last.component or ""].methods
        for method in methods:
            if method not in has:
                known = ", ".join(f"'{name}'" for name in has)
                raise BundleError(
                    f"methods has '{method}'; component '{last.component}' has "
                    f"{known}{nearest(method, has)}"
                )
            if len(has[method].outputs) > 1:
                made = ", ".join(f"'{spec.name}'" for spec in has[method].outputs)
                raise BundleError(
                    f"methods has '{method}', which makes {made}; it cannot be one output: leave "
                    "methods out, or use steps=[…]"
                )
        calls = (replace(last, method=method, outputs=(method,)) for method in methods)
        return (*_before(self._plan.written), *calls)

    def plan_by(self, method: str) -> Plan:
        """Return the plan with ``method`` in the place of ``predict``; the bundle's own without it.

        A manifest that was written with steps or outputs decides itself.
        """
        manifest, plan = self._manifest, self._plan
        *before, last = plan.written
        decides = (manifest.steps and not manifest.inferred) or manifest.outputs
        predictor = self._predictors.get(last.component or "")
        if (
            decides
            or predictor is None
            or last.method != PREDICT
            or method not in predictor.methods
        ):
            return plan
        return make_plan(manifest, self._predictors, (*before, replace(last, method=method)))

    def measured(self, plan: Plan) -> Plan:
        """Return a plan of :meth:`plan_for` with its call traits, which calls the model."""
        steps = tuple(
            self._step(step.method or "", with_traits=True) if step.is_added else step
            for step in plan.steps
        )
        return replace(plan, steps=steps)

    def _steps(self, methods: Sequence[str], outputs: Sequence[str]) -> tuple[PlannedStep, ...]:
        *before, last = self._plan.steps
        if last.naming is Naming.OPEN:
            last = replace(last, outputs=tuple(outputs), naming=Naming.DECLARED)
        return (*before, last, *(self._step(method) for method in methods))

    def _step(self, method: str, *, with_traits: bool = False) -> PlannedStep:
        """Plan a call of a method, whose only output is named after it."""
        last = self._last
        if last is None:
            raise BundleError(f"no component has the method '{method}'")
        step = replace(last, method=method, outputs=(method,))
        planned = plan_step(step, len(self._plan.steps), self._predictors, with_traits=with_traits)
        call = planned.call

        def call_alone(inputs: Sequence[NamedTensor], parameters: Mapping[str, object]) -> Results:
            results = call(inputs, parameters)
            if len(results) != 1:
                raise InvalidInput(
                    f"'{method}' returns {len(results)} tensors and cannot be asked for as an "
                    "output; name them in 'steps' of the manifest"
                )
            return _only(results)

        return replace(planned, call=call_alone, is_added=True)

    def _spec(self, method: str) -> TensorSpec:
        last = self._last
        known = (
            () if last is None else self._predictors[last.component or ""].methods[method].outputs
        )
        return replace(known[0], name=method) if len(known) == 1 else TensorSpec(method)


def _answering(plan: Plan, manifest: Manifest) -> Step | None:
    """Return the step of the one component that makes all outputs, if there is such a one."""
    if not (plan.written and plan.signature.rowwise):
        return None
    before = _before(plan.written)
    finals = plan.written[len(before) :]
    made_before = {name for step in before for name in step.outputs}
    declared = {spec.name for spec in plan.signature.outputs}
    calls = {(step.component, step.inputs) for step in finals}
    last = finals[-1]
    component = manifest.components.get(last.component or "")
    if len(calls) > 1 or component is None or component.framework in (BUNDLE, MODEL):
        return None
    return None if declared & made_before else last


def _before(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return the steps before the last ones that no other takes from."""
    count, taken = len(steps), {*steps[-1].inputs}
    while count > 1 and taken.isdisjoint(steps[count - 2].outputs):
        count -= 1
        taken.update(steps[count - 1].inputs)
    return tuple(steps[: count - 1])


def _askable(last: Step, plan: Plan, predictors: Mapping[str, Predictor]) -> tuple[str, ...]:
    """Return the methods that take what a step takes, but for names that other tensors have."""
    methods = predictors[last.component or ""].methods
    own = methods[last.method or next(iter(methods))]
    taken = {name for step in plan.written for name in step.inputs}
    return tuple(
        name for name, other in methods.items() if other.inputs == own.inputs and name not in taken
    )


def _needed(steps: Sequence[PlannedStep], asked: Collection[str]) -> tuple[PlannedStep, ...]:
    """Return the steps that the asked tensors need, in their order."""
    needed, kept = set(asked), []
    for step in reversed(steps):
        if not needed.isdisjoint(step.outputs):
            kept.append(step)
            needed.update(step.inputs)
    return tuple(reversed(kept))


def _only(results: Results) -> tuple[Array]:
    return (next(iter(results.values() if isinstance(results, Mapping) else results)),)
