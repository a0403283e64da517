"""What clients rely on, taken from an open bundle, and recorded in the manifest at publishing.

So the next version is compared with this one although nobody opens it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from pydantic import TypeAdapter, ValidationError

from bundleserver.bundle.integrity import bundle_digest
from bundleserver.bundle.steps import Plan
from bundleserver.bundle.warming.probe import ProbeResult
from bundleserver.frameworks import Predictor
from bundleserver.frameworks.interface import HasMeaning, HasMetadata
from bundleserver.manifest import Manifest
from bundleserver.operations import OPERATIONS
from bundleserver.tensors import TensorSpec
from bundleserver.tensors.breaking import Interface

RECORDED = "bundleserver_interface"
"""The key of a manifest's metadata that has it; nobody is shown it."""

_MOST_RECORDED = 1 << 20
_FORM = TypeAdapter(Interface)


def interface_of(
    manifest: Manifest,
    predictors: Mapping[str, Predictor],
    plan: Plan,
    probe: ProbeResult,
    parameters: tuple[str, ...],
) -> Interface:
    """Return what clients of an open bundle rely on.

    Datatypes and shapes of outputs are those that were seen; of one that has not answered only the
    declared ones are known.
    """
    seen = probe.signature if probe.answered else plan.signature
    announced = {spec.name: spec.datatype for spec in probe.signature.inputs}
    inputs = tuple(
        spec if spec.datatype else replace(spec, likely=announced.get(spec.name))
        for spec in plan.signature.inputs
    )
    outputs = tuple(TensorSpec(spec.name, spec.datatype, spec.shape) for spec in seen.outputs)
    forecasters = [
        predictor.metadata
        for predictor in predictors.values()
        if not plan.signature.rowwise and isinstance(predictor, HasMetadata)
    ]
    horizons = [h for facts in forecasters if isinstance(h := facts.get("max_horizon"), int)]
    steps = [str(facts["step"]) for facts in forecasters if facts.get("step")]
    return Interface(
        replace(plan.signature, inputs=inputs, outputs=outputs),
        dict(_methods(manifest, predictors, plan, [spec.name for spec in outputs])),
        min(horizons, default=None),
        steps[0] if steps else None,
        parameters,
        dict(_meanings(predictors, plan)),
    )


def record(manifest: Manifest, interface: Interface) -> Manifest:
    """Return a manifest that has an interface, for :func:`recorded_in`; a huge one is left out."""
    bare = _without(manifest)
    document = _FORM.dump_python(interface, mode="json", exclude_defaults=True)
    found = {"of": _described(bare), **document}
    if len(_FORM.dump_json(interface)) > _MOST_RECORDED:
        return bare
    return replace(bare, metadata={**bare.metadata, RECORDED: found})


def recorded_in(manifest: Manifest) -> Interface | None:
    """Return the recorded interface; None if there is none, or the manifest was edited since."""
    found = manifest.metadata.get(RECORDED)
    if not isinstance(found, Mapping) or found.get("of") != _described(_without(manifest)):
        return None
    try:
        return _FORM.validate_python(dict(found))
    except ValidationError:
        return None


def shown_metadata(manifest: Manifest) -> dict[str, object]:
    """Return a manifest's metadata without the record."""
    return {key: value for key, value in manifest.metadata.items() if key != RECORDED}


def _without(manifest: Manifest) -> Manifest:
    return replace(manifest, metadata=shown_metadata(manifest))


def _described(manifest: Manifest) -> str:
    """Return the digest of what a manifest says of its files and their use."""
    return bundle_digest(
        Manifest(
            components=manifest.components,
            inputs=manifest.inputs,
            steps=manifest.steps,
            outputs=manifest.outputs,
        )
    )


def _meanings(predictors: Mapping[str, Predictor], plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield what options make of the values of inputs and outputs."""
    taken = {spec.name for spec in plan.signature.inputs}
    made = {spec.name for spec in plan.signature.outputs}
    for step in plan.written:
        if step.op is not None:
            meaning = OPERATIONS[step.op].meaning_of(step.params)
        else:
            predictor = predictors[step.component or ""]
            meaning = predictor.meaning if isinstance(predictor, HasMeaning) else None
        if meaning is None:
            continue
        for name in step.inputs if meaning.of_inputs else ():
            if name in taken:
                yield f"input '{name}'", meaning.text
        names = step.outputs or tuple(spec.name for spec in plan.signature.outputs)
        if names and names[0] in made:
            yield f"output '{names[0]}'", meaning.text


def _methods(
    manifest: Manifest, predictors: Mapping[str, Predictor], plan: Plan, outputs: list[str]
) -> Iterator[tuple[str, tuple[str, str]]]:
    made: dict[str, tuple[str, str]] = {}
    last = ("", "")
    for step in plan.written:
        if step.op is not None:
            last = ("an operation", step.op)
        else:
            component = step.component or ""
            methods = predictors[component].methods
            name = step.method or next(iter(methods))
            # Some have a method under two names.
            same = next(other for other in methods if methods[other] is methods[name])
            last = (manifest.components[component].framework, same)
        made |= dict.fromkeys(step.outputs, last)
    for name in outputs:
        yield name, made.get(name, last)
