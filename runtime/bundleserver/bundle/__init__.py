"""A bundle: a directory of model files, opened as one logical model over named tensors."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from copy import copy
from functools import partial
from pathlib import Path

import numpy as np

from bundleserver.bundle.facts import facts_of
from bundleserver.bundle.facts.history import history_of
from bundleserver.bundle.facts.interface import interface_of
from bundleserver.bundle.libraries import Mismatch
from bundleserver.bundle.members import BundleMember, Members, ModelMember, needs_examples
from bundleserver.bundle.methods import MOST_KEPT, Methods
from bundleserver.bundle.own_code import open_code, with_code
from bundleserver.bundle.parameters import PARAMS, parameters_of, with_params
from bundleserver.bundle.placement import Placement, measure
from bundleserver.bundle.plan import make_plan, steps_of
from bundleserver.bundle.reading import read_nested_manifest
from bundleserver.bundle.sealed import open_component
from bundleserver.bundle.steps import Plan, StepFailed, run_steps
from bundleserver.bundle.trust.verification import Verification
from bundleserver.bundle.warming import warm_up
from bundleserver.bundle.warming.examples import validate_values
from bundleserver.bundle.warming.probe import ProbeResult
from bundleserver.bundle.warming.samples import samples_of
from bundleserver.bundle.widths import check_widths, has_open_widths, values_per_row
from bundleserver.errors import OutOfMemory, PredictionError
from bundleserver.frameworks import Predictor
from bundleserver.frameworks.forecasting.history import History
from bundleserver.frameworks.free_memory import is_out_of_memory
from bundleserver.frameworks.trust import CodeTrust
from bundleserver.manifest import BUNDLE, MODEL, Component, Manifest
from bundleserver.spans import log_suffix
from bundleserver.tensors import Array, NamedTensor
from bundleserver.tensors.breaking import Interface
from bundleserver.tensors.budget import current_budget
from bundleserver.tensors.signature import Signature

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
        methods: what requests may ask for beside the outputs.
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
        self.parameters = parameters_of(predictors.values())
        self.verification = Verification()
        self.mismatches: tuple[Mismatch, ...] = ()
        self._announced: list[tuple[str, np.dtype[np.generic]]] = []
        self._predictors = predictors
        self._owned = owned
        self._views: dict[frozenset[str], Bundle] = {}
        self._is_measured = True
        self._recorded_by: Plan | None = None
        self._use(plan)
        self.methods = Methods(manifest, predictors, plan)
        self.probe = ProbeResult(False, "it was not warmed up", "", plan.signature)

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
        with ExitStack() as opened:
            opened.callback(release)
            trust = open_code(directory, manifest, trust or CodeTrust(), opened)
            predictors: dict[str, Predictor] = {}
            for name, component in manifest.components.items():
                predictor = _open_component(directory, component, device, members, trust)
                opened.callback(predictor.close)
                predictors[name] = predictor
            check_widths(directory, manifest, steps_of(manifest, predictors), predictors)
            plan = with_code(make_plan(manifest, predictors), trust)
            return cls(directory, manifest, model, version, predictors, plan, opened.pop_all())

    def _use(self, plan: Plan) -> None:
        self._plan = plan
        self.signature = plan.signature
        self.call_traits = plan.call_traits
        self.placement = Placement(plan.call_traits)
        self.is_cached = plan.recall()
        self._count_values(plan.signature)

    def _count_values(self, signature: Signature) -> None:
        self.values_per_row = values_per_row(signature, self._predictors)
        self.has_open_widths = has_open_widths(signature, self._predictors)

    def prefer(self, method: str) -> None:
        """Answer with a method in the place of ``predict``, where ``Methods.plan_by`` allows it.

        To be called before ``warm_up``. Examples are compared with what they were recorded by.
        """
        plan = self.methods.plan_by(method)
        if plan is not self._plan:
            self._recorded_by = self._plan
            self._use(plan)
            self.methods = Methods(self.manifest, self._predictors, plan)

    def answering(self, asked: Collection[str]) -> Bundle:
        """Return this bundle as it makes the asked outputs, which may be methods of its model.

        It is closed with this one. What it adds is not measured yet; see ``measure_calls``.

        Raises:
            InvalidInput: a name is neither an output nor a method.
        """
        names = frozenset(asked)
        view = self._views.get(names)
        if view is None:
            plan = self.methods.plan_for(asked, self.probe.signature, self.identity)
            view = self if plan is self._plan else copy(self)
            if view is not self:
                view._use(plan)
                view._is_measured = not any(step.is_added for step in plan.steps)
                # Without added steps it does no more than this one.
                view.placement = self.placement if view._is_measured else view.placement
            if len(self._views) < MOST_KEPT:
                self._views[names] = view
        return view

    def measure_calls(self) -> None:
        """Find out, once, where calls run that requests asked for; takes calls of the model."""
        if not self._is_measured:
            self._is_measured = True
            self.call_traits = self.methods.measured(self._plan).call_traits
            self.placement = measure(self.predict, self.signature, self.call_traits)

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
            outputs = run_steps(self._plan, inputs, parameters, self.failure)
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
        run = partial(run_steps, failure=self.failure)
        recorded_by = self._recorded_by
        if recorded_by is not None and self.manifest.examples:
            warm_up(self, recorded_by, run, probe)
        self.probe = warm_up(self, self._plan, run, probe, compares=recorded_by is None)
        if self.probe.answered:
            self._announced = self._plan.announced(self.probe.signature)
        self._count_values(self.probe.signature)
        self.placement = measure(self.predict, self.signature, self.call_traits)

    def metadata(self) -> dict[str, object]:
        """Return the manifest's metadata, that of the components and the verification."""
        parts = (self.manifest, self._predictors, self.probe, self.call_traits)
        return facts_of(*parts, self.verification, self.methods.names, self.mismatches)

    def interface(self) -> Interface:
        """Return what its clients rely on."""
        parts = (self.manifest, self._predictors, self._plan, self.probe)
        return interface_of(*parts, self.parameters)

    @property
    def needs_examples(self) -> bool:
        """Whether a component's code may do anything, so that nothing is made up for it."""
        parts = (self.manifest.components.values(), self._predictors.values())
        return any(map(needs_examples, *parts))

    def samples(self, rows: int) -> Sequence[Sequence[NamedTensor]]:
        """Return inputs for calls of so many rows, by position; those of an example first."""
        found = [list(sample.inputs.values()) for sample in samples_of(self._plan, rows)]
        for example in self.manifest.examples[:1]:
            values = validate_values(example.inputs, self.signature, self.identity)
            found.insert(0, list(values.values()))
        return found

    def history(self, points: int) -> History | None:
        """Return the last points of the series that its forecaster was fitted on, if it has one."""
        return history_of(self._predictors, self._plan, points)

    def close(self) -> None:
        """Close every component; there must be no lease left."""
        self._views.clear()
        self._owned.close()

    def failure(self, what: str, cause: str, error: BaseException | None = None) -> PredictionError:
        """Make the caller's error; the traceback is logged with the same incident id."""
        incident, first_line = uuid.uuid4().hex[:12], cause.partition("\n")[0][:300]
        said = (self.model, self.version, what, incident, log_suffix(), first_line)
        LOG.error("%s %s: %s failed, incident %s%s: %s", *said, exc_info=error)
        kind = OutOfMemory if is_out_of_memory(error) else PredictionError
        return kind(self.identity, f"{what}: {first_line}", incident)


def _open_component(
    directory: Path, component: Component, device: str, members: Members | None, trust: CodeTrust
) -> Predictor:
    if component.framework == MODEL:
        return ModelMember(component.model or "", members)
    if component.framework == BUNDLE:
        path = directory / (component.path or "")
        manifest = read_nested_manifest(path, component.name, component.sha256)
        opened = partial(Bundle.open, path, manifest, device=device, members=members, trust=trust)
        return BundleMember(opened(model=component.name, version=manifest.version or "1"))
    return open_component(directory, component, device, trust)
