"""A bundle: a directory of model files, opened as one logical model over named tensors."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from bundleserver.bundle.facts import facts_of
from bundleserver.bundle.facts.interface import interface_of
from bundleserver.bundle.libraries import Mismatch
from bundleserver.bundle.members import BundleMember, Members, ModelMember
from bundleserver.bundle.parameters import PARAMS, parameters_of, with_params
from bundleserver.bundle.placement import Placement, measure
from bundleserver.bundle.plan import make_plan, steps_of
from bundleserver.bundle.reading import read_nested_manifest
from bundleserver.bundle.sealed import open_component
from bundleserver.bundle.steps import Naming, Plan, StepFailed
from bundleserver.bundle.trust.verification import Verification
from bundleserver.bundle.warming import warm_up
from bundleserver.bundle.warming.examples import validate_values
from bundleserver.bundle.warming.probe import ProbeResult
from bundleserver.bundle.warming.samples import samples_of
from bundleserver.bundle.widths import check_widths, has_open_widths, values_per_row
from bundleserver.errors import BundleServerError, OutOfMemory, PredictionError
from bundleserver.frameworks import Predictor, framework_named
from bundleserver.frameworks.free_memory import is_out_of_memory
from bundleserver.frameworks.interface import passes_through
from bundleserver.frameworks.trust import CodeTrust
from bundleserver.manifest import BUNDLE, MODEL, Component, Manifest
from bundleserver.tensors import Array, NamedTensor
from bundleserver.tensors.breaking import Interface
from bundleserver.tensors.budget import current_budget

LOG = logging.getLogger(__name__)


class Bundle:
    """One loaded version of one model: its components, its plan and its signature.

    ``predict`` is called from the thread pool and the event loop, several at a time; whoever opened
    the bundle closes it after the last call.

    Attributes:
        identity: its name in messages.
        signature: its inputs and outputs.
        call_traits: the traits of its calls.
        parameters: the parameters of requests that its components have.
        placement: where its calls run; measured by ``warm_up``.
        probe: what ``warm_up`` found out; its signature is the completed one, for metadata.
        verification: what its files' signature is worth.
        mismatches: the libraries that are other ones than those that it was saved with.
        values_per_row: how many values its outputs have for a row, or a step of a forecast.
        has_open_widths: whether they may have more.
        is_cached: asks whether a forecast is cached; None if no call ever is.
    """

    def __init__(
        self,
        directory: Path,
        manifest: Manifest,
        model: str,
        version: str,
        predictors: Mapping[str, Predictor],
        plan: Plan,
        owned: ExitStack,
    ) -> None:
        self.directory = directory
        self.manifest = manifest
        self.model = model
        self.version = version
        self.identity = f"'{model}' version {version}"
        self.signature = plan.signature
        self.call_traits = plan.call_traits
        self.placement = Placement(plan.call_traits)
        self.is_cached = plan.recall()
        self.parameters = parameters_of(predictors.values())
        self.probe = ProbeResult(False, "it was not warmed up", "", plan.signature)
        self.verification = Verification()
        self.mismatches: tuple[Mismatch, ...] = ()
        self.values_per_row = values_per_row(plan.signature, predictors)
        self.has_open_widths = has_open_widths(plan.signature, predictors)
        self._announced: list[tuple[str, np.dtype[np.generic]]] = []
        self._predictors = predictors
        self._plan = plan
        self._owned = owned

    @classmethod
    def open(
        cls,
        directory: Path,
        manifest: Manifest,
        *,
        model: str,
        version: str,
        device: str = "cpu",
        members: Members | None = None,
        trust: CodeTrust | None = None,
        release: Callable[[], None] = lambda: None,
    ) -> Bundle:
        """Open every component of a verified directory and plan its steps.

        Args:
            directory: the bundle's files, checked by ``opening.verify``.
            manifest: its manifest, from the file or inferred.
            model: the model's name, for messages.
            version: the version, for messages.
            device: the device for frameworks that support it: ``cpu``, ``cuda``, ``auto``.
            members: acquires other models of this process for components of kind ``model``.
            trust: what files may do while they are opened; None is anything.
            release: called once the files are not needed any more, in any case.

        Raises:
            FrameworkError: a framework is unknown.
            BundleError: a file cannot be opened, or the components cannot be combined.
        """
        trust = trust or CodeTrust()
        with ExitStack() as opened:
            opened.callback(release)
            predictors: dict[str, Predictor] = {}
            for name, component in manifest.components.items():
                predictor = _open_component(directory, component, device, members, trust)
                opened.callback(predictor.close)
                predictors[name] = predictor
            check_widths(directory, manifest, steps_of(manifest, predictors), predictors)
            plan = make_plan(manifest, predictors)
            return cls(directory, manifest, model, version, predictors, plan, opened.pop_all())

    def predict(
        self, inputs: Mapping[str, NamedTensor], parameters: Mapping[str, object]
    ) -> dict[str, Array]:
        """Run every step in order and return the outputs in the manifest's order.

        Args:
            inputs: validated inputs of ``signature.validate_tensors`` or ``validate_rows``.
            parameters: the request's parameters, such as a forecast's ``level``.

        Returns:
            One array per output; for a rowwise bundle their first axis is the batch.

        Raises:
            InvalidInput: a component refuses a value, or no component has one of ``params``.
            NotReady: another model that it calls is not ready.
            PredictionError: a component's own code raised; the log has the traceback.
        """
        if PARAMS in parameters:
            parameters = with_params(parameters, self.parameters, self.identity)
        try:
            outputs = self._run(self._plan, inputs, parameters)
        except StepFailed as failed:
            error = failed.__cause__
            raise self.failure(failed.what, f"{type(error).__name__}: {error}", error) from error
        for name, dtype in self._announced:
            # What was seen to be a floating-point number may happen to be whole.
            if name in outputs and outputs[name].dtype.kind in "iu":
                outputs[name] = outputs[name].astype(dtype)
        if (budget := current_budget()) is not None:
            budget.spend(outputs)
        return outputs

    def _run(
        self, plan: Plan, inputs: Mapping[str, NamedTensor], parameters: Mapping[str, object]
    ) -> dict[str, Array]:
        """Run a plan, as far as the request's budget allows.

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
        budget = current_budget()
        for step in plan.steps:
            if budget is not None:
                budget.check()
            if len(step.inputs) == 1:
                inputs_of_step = tensors.get(step.inputs[0], ())
            else:
                inputs_of_step = tuple(t for name in step.inputs for t in tensors.get(name, ()))
            try:
                results = step.call(inputs_of_step, parameters)
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
                raise self.failure(f"output '{name}'", str(error)) from error
        return outputs

    def warm_up(self, probe: str = "enforce") -> None:
        """Run the manifest's examples, else the probe, and measure the cost of calls.

        Args:
            probe: ``enforce``, ``warn`` (a version that cannot answer is READY) or ``off``.

        Raises:
            WarmUpError: an example fails, or its outputs differ.
            ProbeError: it cannot answer what was made up.
        """
        for predictor in self._predictors.values():
            if isinstance(predictor, BundleMember):
                predictor.warm_up(probe)
        self.probe = warm_up(self, self._plan, self._run, probe)
        if self.probe.answered:
            self._announced = self._plan.announced(self.probe.signature)
        self.values_per_row = values_per_row(self.probe.signature, self._predictors)
        self.has_open_widths = has_open_widths(self.probe.signature, self._predictors)
        self.placement = measure(self.predict, self.signature, self.call_traits)

    def metadata(self) -> dict[str, object]:
        """Return the manifest's metadata, that of the components and the verification."""
        parts = (self.manifest, self._predictors, self.probe, self.call_traits)
        return facts_of(*parts, self.verification, self.mismatches)

    def interface(self) -> Interface:
        """Return what its clients rely on."""
        parts = (self.manifest, self._predictors, self._plan, self.probe)
        return interface_of(*parts, self.parameters)

    @property
    def needs_examples(self) -> bool:
        """Whether a component's code may do anything, so that nothing is made up for it."""
        frameworks = [c.framework for c in self.manifest.components.values()]
        return any(map(_needs_examples, frameworks, self._predictors.values()))

    def samples(self, rows: int) -> Sequence[Sequence[NamedTensor]]:
        """Return inputs for calls of so many rows, by position; those of an example first."""
        found = [list(sample.inputs.values()) for sample in samples_of(self._plan, rows)]
        for example in self.manifest.examples[:1]:
            values = validate_values(example.inputs, self.signature, self.identity)
            found.insert(0, list(values.values()))
        return found

    def close(self) -> None:
        """Close every component; there must be no lease left."""
        self._owned.close()

    def failure(self, what: str, cause: str, error: BaseException | None = None) -> PredictionError:
        """Make the caller's error; the traceback is logged with the same incident id."""
        incident = uuid.uuid4().hex[:12]
        first_line = cause.partition("\n")[0][:300]
        said = (self.model, self.version, what, incident, first_line)
        LOG.error("%s %s: %s failed, incident %s: %s", *said, exc_info=error)
        kind = OutOfMemory if is_out_of_memory(error) else PredictionError
        return kind(self.identity, f"{what}: {first_line}", incident)


def _needs_examples(framework: str, predictor: Predictor) -> bool:
    if isinstance(predictor, BundleMember | ModelMember):
        return predictor.needs_examples
    return framework_named(framework).needs_examples


def _open_component(
    directory: Path, component: Component, device: str, members: Members | None, trust: CodeTrust
) -> Predictor:
    if component.framework == MODEL:
        return ModelMember(component.model or "", members)
    if component.framework == BUNDLE:
        path = directory / (component.path or "")
        manifest = read_nested_manifest(path, component.name, component.sha256)
        version = manifest.version or "1"
        bundle = Bundle.open(
            path,
            manifest,
            model=component.name,
            version=version,
            device=device,
            members=members,
            trust=trust,
        )
        return BundleMember(bundle)
    return open_component(directory, component, device, trust)
