"""A bundle: a directory of model files, opened as one logical model over named tensors."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from threading import current_thread, main_thread

from bundleserver.bundle import integrity
from bundleserver.bundle.examples import check_output
from bundleserver.bundle.members import BundleMember, Members, ModelMember
from bundleserver.bundle.placement import Placement, measure
from bundleserver.bundle.plan import Plan, PlannedStep, make_plan
from bundleserver.errors import (
    BundleError,
    BundleServerError,
    IntegrityError,
    InvalidInput,
    ManifestError,
    PredictionError,
    Problem,
    WarmUpError,
)
from bundleserver.frameworks import LoadContext, Predictor, framework_named, frameworks
from bundleserver.frameworks.interface import HasMetadata
from bundleserver.manifest import BUNDLE, MANIFEST_NAME, MODEL, Component, Example, Manifest
from bundleserver.tensors import Array, NamedTensor, TensorSpec, array_from_rows

LOG = logging.getLogger(__name__)


def read_manifest(directory: Path) -> Manifest | None:
    """Read a directory's manifest; None when it has none.

    Raises:
        ManifestError: the manifest breaks its format.
        IntegrityError: the file is there and cannot be read.
    """
    path = directory / MANIFEST_NAME
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        reason = error.strerror or str(error)
        raise IntegrityError(f"{path} cannot be read", [Problem("", reason)]) from error
    return Manifest.from_json(data, str(path))


def read_nested_manifest(path: Path, component: str) -> Manifest:
    """Read the manifest of a component that is a bundle itself.

    Raises:
        ManifestError, IntegrityError: it cannot be used.
        BundleError: there is none.
    """
    manifest = read_manifest(path)
    if manifest is None:
        raise BundleError(
            f"component '{component}' is a bundle, but {path / MANIFEST_NAME} does not exist; "
            f"write it with: bundleserver init {path}"
        )
    return manifest


def check_frameworks(directory: Path, manifest: Manifest) -> None:
    """Make sure that every component has a framework which is known here.

    Raises:
        ManifestError: one has not; lists the known ones.
    """
    problems = manifest.problems_with_frameworks(frameworks())
    if problems:
        raise ManifestError(str(directory / MANIFEST_NAME), problems)


class Bundle:
    """One version of one model, open: its components, its plan and its signature.

    ``predict`` is called from worker threads and the event loop, several at a time; whoever opened
    the bundle closes it after the last call.

    Attributes:
        identity: how messages name it.
        signature: what the bundle takes and gives.
        call_traits: what calls of ``predict`` are like.
        placement: where they run; measured by ``warm_up``.
        is_cached: asks whether a call would be answered from memory; None where none ever is.
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
        """Open every component of a verified directory and decide how they run together.

        Args:
            directory: where the files are; ``opening.verify`` has passed on it.
            manifest: what the files are; written or inferred.
            model: the model's name, for messages.
            version: the version's label, for messages.
            device: where tensors go, for frameworks that have devices: ``cpu``, ``cuda``, ``auto``.
            members: lends other models of this process to components of kind ``model``.

        Raises:
            ManifestError: a framework is unknown.
            BundleError: a file cannot be opened, or the parts do not fit.
        """
        check_frameworks(directory, manifest)
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
            inputs: what ``signature.bind_tensors`` or ``bind_rows`` returned.
            parameters: the request's parameters, such as a forecast's ``level``.

        Returns:
            One array per output; for a rowwise bundle their first axis is the batch.

        Raises:
            InvalidInput: a component refuses a value.
            NotReady: a member model does not answer now.
            PredictionError: a component's own code raised; the log has the traceback.
        """
        tensors: dict[str, tuple[NamedTensor, ...]] = {}
        declared = self.signature.inputs
        if len(declared) == 1 and declared[0].name not in inputs:
            # Several under other names are the columns of the one input.
            tensors[declared[0].name] = tuple(inputs.values())
        else:
            for name, tensor in inputs.items():
                tensors[name] = (tensor,)
        for step in self._plan.steps:
            if len(step.inputs) == 1:
                taken = tensors.get(step.inputs[0], ())
            else:
                taken = tuple(t for name in step.inputs for t in tensors.get(name, ()))
            try:
                results = step.call(taken, parameters)
            except BundleServerError:
                raise
            except BaseException as error:  # a framework's own code may raise anything, and exit
                if isinstance(error, KeyboardInterrupt) and current_thread() is main_thread():
                    raise  # Ctrl-C
                raise self.failure(step.what, f"{type(error).__name__}: {error}", error) from error
            if len(results) < len(step.outputs):
                raise self._too_few(step, len(results))
            for name, values in zip(step.outputs, results, strict=False):
                tensors[name] = (NamedTensor(name, values),)
        outputs: dict[str, Array] = {}
        for spec in self.signature.outputs:
            try:
                outputs[spec.name] = spec.hold(tensors[spec.name][0].values)
            except (TypeError, ValueError) as error:
                raise self.failure(f"output '{spec.name}'", str(error)) from error
        return outputs

    def warm_up(self) -> None:
        """Run the manifest's examples, compare what comes out, and measure what a call costs.

        Raises:
            WarmUpError: an example fails or gives another answer.
        """
        for index, example in enumerate(self.manifest.examples):
            where = f"examples[{index}]"
            try:
                outputs = self.predict(self._bind_example(example), example.parameters)
            except (InvalidInput, PredictionError) as error:
                raise WarmUpError(f"{where} of {self.identity} fails: {error}") from error
            for name, recorded in example.outputs.items():
                if name not in outputs:
                    known = ", ".join(f"'{output}'" for output in outputs)
                    raise WarmUpError(
                        f"{where} records output '{name}'; {self.identity} has {known}"
                    )
                check_output(
                    f"{where} of {self.identity}", name, outputs[name], recorded, example.rtol
                )
        self.placement = measure(self.predict, self.signature, self.call_traits)

    def metadata(self) -> dict[str, object]:
        """Return the manifest's metadata and what else is known of this version, ready for JSON."""
        known: dict[str, object] = {
            **self.manifest.metadata,
            "digest": integrity.bundle_digest(self.manifest),
            "inferred": self.manifest.inferred,
            "rows_independent": self.call_traits.batchable,
            "components": {
                name: {"framework": component.framework} | _metadata_of(self._predictors[name])
                for name, component in self.manifest.components.items()
            },
        }
        if self.manifest.requirements.packages:
            known["requirements"] = dict(self.manifest.requirements.packages)
        return known

    def close(self) -> None:
        """Close every component; no request may borrow the bundle any more."""
        self._owned.close()

    def _too_few(self, step: PlannedStep, count: int) -> PredictionError:
        names = len(step.outputs)
        return self.failure(step.what, f"it gave {count} outputs; the manifest names {names}")

    def failure(self, what: str, cause: str, error: BaseException | None = None) -> PredictionError:
        """Make the caller's error; the log has the traceback under the same number."""
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

    def _bind_example(self, example: Example) -> dict[str, NamedTensor]:
        specs = {spec.name: spec for spec in self.signature.inputs}
        tensors = []
        for name, value in example.inputs.items():
            spec = specs.get(name, TensorSpec(name))
            rows = value if isinstance(value, list) else [value]
            tensors.append(NamedTensor(name, array_from_rows(rows, spec, self.identity)))
        return self.signature.bind_tensors(tensors, self.identity)


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


def _metadata_of(predictor: Predictor) -> dict[str, object]:
    return dict(predictor.metadata) if isinstance(predictor, HasMetadata) else {}
