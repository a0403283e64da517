"""A bundle: a directory of model files, opened as one logical model over named tensors."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path

from bundleserver.bundle import integrity
from bundleserver.bundle.examples import check_output, validate_values
from bundleserver.bundle.members import BundleMember, Members, ModelMember
from bundleserver.bundle.placement import Placement, measure
from bundleserver.bundle.plan import Plan, make_plan
from bundleserver.errors import (
    BundleError,
    BundleServerError,
    IntegrityError,
    InvalidInput,
    PredictionError,
    Problem,
    WarmUpError,
)
from bundleserver.frameworks import LoadContext, Predictor, framework_named, frameworks
from bundleserver.frameworks.interface import HasMetadata, is_from_the_keyboard
from bundleserver.manifest import BUNDLE, MANIFEST_NAME, MODEL, Component, Manifest
from bundleserver.tensors import Array, NamedTensor

LOG = logging.getLogger(__name__)


def read_manifest(directory: Path, known: Collection[str] | None = None) -> Manifest | None:
    """Decode a directory's manifest; None if it has none.

    ``known`` are the frameworks that its components may have; None allows any, for whoever does
    not open them.

    Raises:
        ManifestError: the manifest is not valid.
        IntegrityError: the file exists, but cannot be read.
    """
    path = directory / MANIFEST_NAME
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        reason = error.strerror or str(error)
        raise IntegrityError(f"{path} cannot be read", [Problem("", reason)]) from error
    return Manifest.from_json(data, str(path), known)


def read_nested_manifest(path: Path, component: str) -> Manifest:
    """Decode the manifest of a component that is a bundle itself.

    Raises:
        ManifestError, IntegrityError: it cannot be used.
        BundleError: it does not exist.
    """
    manifest = read_manifest(path, frameworks())
    if manifest is None:
        raise BundleError(
            f"component '{component}' is a bundle, but {path / MANIFEST_NAME} does not exist; "
            f"create it with: bundleserver init {path}"
        )
    return manifest


class Bundle:
    """One loaded version of one model: its components, its plan and its signature.

    ``predict`` is called from the thread pool and the event loop, several at a time; whoever opened
    the bundle closes it after the last call.

    Attributes:
            identity: its name in messages.
        signature: its inputs and outputs.
        call_traits: the traits of its calls.
        placement: where its calls run; measured by ``warm_up``.
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
    ) -> Bundle:
        """Open every component of a verified directory and plan its steps.

        Args:
            directory: the bundle's files, checked by ``opening.verify``.
            manifest: its manifest, from the file or inferred.
            model: the model's name, for messages.
            version: the version, for messages.
            device: the device for frameworks that support it: ``cpu``, ``cuda``, ``auto``.
            members: acquires other models of this process for components of kind ``model``.

        Raises:
            FrameworkError: a framework is unknown.
            BundleError: a file cannot be opened, or the components cannot be combined.
        """
        with ExitStack() as opened:
            predictors: dict[str, Predictor] = {}
            for name, component in manifest.components.items():
                predictor = _open_component(directory, component, device, members)
                opened.callback(predictor.close)
                predictors[name] = predictor
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
            InvalidInput: a component refuses a value.
            NotReady: another model that it calls is not ready.
            PredictionError: a component's own code raised; the log has the traceback.
        """
        tensors: dict[str, tuple[NamedTensor, ...]] = {}
        declared = self.signature.inputs
        if len(declared) == 1 and declared[0].name not in inputs:
            # Several tensors with other names are the columns of the single input.
            tensors[declared[0].name] = tuple(inputs.values())
        else:
            for name, tensor in inputs.items():
                tensors[name] = (tensor,)
        for step in self._plan.steps:
            if len(step.inputs) == 1:
                inputs_of_step = tensors.get(step.inputs[0], ())
            else:
                inputs_of_step = tuple(t for name in step.inputs for t in tensors.get(name, ()))
            try:
                results = step.call(inputs_of_step, parameters)
            except BundleServerError:
                raise
            except BaseException as error:  # a framework's own code may raise anything, and exit
                if is_from_the_keyboard(error):
                    raise
                raise self.failure(step.what, f"{type(error).__name__}: {error}", error) from error
            if len(results) < len(step.outputs):
                cause = f"got {len(results)} outputs; expected {len(step.outputs)}"
                raise self.failure(step.what, cause)
            for name, values in zip(step.outputs, results, strict=False):
                tensors[name] = (NamedTensor(name, values),)
        outputs: dict[str, Array] = {}
        for spec in self.signature.outputs:
            try:
                outputs[spec.name] = spec.coerce(tensors[spec.name][0].values)
            except (TypeError, ValueError) as error:
                raise self.failure(f"output '{spec.name}'", str(error)) from error
        return outputs

    def warm_up(self) -> None:
        """Run the manifest's examples, compare their outputs, and measure the cost of calls.

        Raises:
            WarmUpError: an example fails, or its outputs differ.
        """
        for index, example in enumerate(self.manifest.examples):
            where = f"examples[{index}]"
            try:
                inputs = validate_values(example.inputs, self.signature, self.identity)
                outputs = self.predict(inputs, example.parameters)
            except (InvalidInput, PredictionError) as error:
                raise WarmUpError(f"{where} of {self.identity} failed: {error}") from error
            for name, recorded in example.outputs.items():
                if name not in outputs:
                    known = ", ".join(f"'{output}'" for output in outputs)
                    raise WarmUpError(
                        f"{where} has the output '{name}'; {self.identity} has the outputs {known}"
                    )
                check_output(
                    f"{where} of {self.identity}", name, outputs[name], recorded, example.rtol
                )
        self.placement = measure(self.predict, self.signature, self.call_traits)

    def metadata(self) -> dict[str, object]:
        """Return the manifest's metadata and that of the components as JSON values."""
        known: dict[str, object] = {
            **self.manifest.metadata,
            "digest": integrity.bundle_digest(self.manifest),
            "inferred": self.manifest.inferred,
            "rows_independent": self.call_traits.batchable,
            "components": {
                name: {
                    "framework": component.framework,
                    **(predictor.metadata if isinstance(predictor, HasMetadata) else {}),
                }
                for (name, component), predictor in zip(
                    self.manifest.components.items(), self._predictors.values(), strict=True
                )
            },
        }
        if self.manifest.requirements.packages:
            known["requirements"] = dict(self.manifest.requirements.packages)
        return known

    def close(self) -> None:
        """Close every component; there must be no lease left."""
        self._owned.close()

    def failure(self, what: str, cause: str, error: BaseException | None = None) -> PredictionError:
        """Make the caller's error; the traceback is logged with the same incident id."""
        incident = uuid.uuid4().hex[:12]
        first_line = cause.partition("\n")[0][:300]
        LOG.error(
            "%s %s: %s failed, incident %s: %s",
            self.model,
            self.version,
            what,
            incident,
            first_line,
            exc_info=error,
        )
        return PredictionError(self.identity, f"{what}: {first_line}", incident)


def _open_component(
    directory: Path, component: Component, device: str, members: Members | None
) -> Predictor:
    if component.framework == MODEL:
        return ModelMember(component.model or "", members)
    path = directory / (component.path or "")
    if component.framework == BUNDLE:
        manifest = read_nested_manifest(path, component.name)
        version = manifest.version or "1"
        bundle = Bundle.open(
            path, manifest, model=component.name, version=version, device=device, members=members
        )
        return BundleMember(bundle)
    context = LoadContext(component.options, device)
    return framework_named(component.framework).load(path, context)
