"""Validation across the parts of a manifest: names that exist, counts that agree.

Every valid part is checked, whatever else is wrong; consequences of an invalid part are not
reported.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import islice

from bundleserver.documents.forms import did_you_mean, form_problems, nearest, quoted
from bundleserver.documents.strict_json import Place, json_path, shown
from bundleserver.errors import Problem
from bundleserver.manifest.drafts import Declared, Draft, Drafts, Found, repeats
from bundleserver.manifest.forms import (
    BUNDLE,
    COMPONENT_NAME,
    MODEL,
    CodeFileForm,
    ComponentForm,
    ExampleForm,
    ManifestForm,
    StepForm,
)
from bundleserver.manifest.packages import PACKAGE_NAME
from bundleserver.manifest.tensor_flow import Flow
from bundleserver.operations import OPERATIONS, Operation

_MOST = 1_000  # of the problems between parts; each may be one of a million


def manifest_problems(
    document: Mapping[str, object], frameworks: Collection[str] | None = None
) -> dict[Place, Problem]:
    """List every problem of a manifest: of single objects, and between them.

    Other frameworks than these are problems too; None knows no frameworks, and allows any.
    """
    found = form_problems(ManifestForm, document)
    drafts = Drafts(document, found)
    problems = [*islice(_cross_problems(drafts), _MOST)]
    if frameworks is not None:
        problems += _framework_problems(drafts, frameworks)
    for place, what in problems:
        found.setdefault(place, Problem(json_path(place), what))
    return found


def _cross_problems(drafts: Drafts) -> Found:
    components = drafts.components()
    inputs, outputs = drafts.declared("inputs"), drafts.declared("outputs")
    steps = drafts.of_list(StepForm, "steps")
    yield from _component_problems(components or {})
    yield from _code_problems([d for d in drafts.of_list(CodeFileForm, "code") if d is not None])
    yield from _tensor_problems(inputs, {})
    # Without steps a forecaster's ``ds`` may be both an input and an output.
    yield from _tensor_problems(outputs, inputs.places if steps else {})
    for step in steps:
        if step is not None:
            yield from _step_problems(step, components)
    yield from Flow(inputs, steps).problems(outputs)
    for example in drafts.of_list(ExampleForm, "examples"):
        if example is not None:
            yield from _key_problems(example, "inputs", example.form.inputs, inputs)
            yield from _key_problems(example, "outputs", example.form.outputs, outputs)
    yield from _package_problems(drafts.document.get("requirements"))


def _component_problems(components: Mapping[str, Draft[ComponentForm] | None]) -> Found:
    for name, draft in components.items():
        if not re.fullmatch(COMPONENT_NAME, name):
            expected = "expected a letter or '_', then letters, digits, '_' and '-'"
            yield ("components", name), f"is not a valid component name; {expected}"
        if draft is None or "framework" in draft.lost:
            continue
        if draft.form.framework == MODEL:
            yield from _key_rule(draft, "model", ("path", "sha256", "size"))
        else:
            yield from _key_rule(draft, "path", ("model",))


def _code_problems(files: Sequence[Draft[CodeFileForm]]) -> Found:
    """Find files that are listed twice, or as the directory of another one."""
    named = [((*draft.place, "path"), draft.form.path) for draft in files if draft.form.path]
    yield from repeats(named, {})
    parts = [path.split("/") for _, path in named]
    directories = {"/".join(each[:depth]) for each in parts for depth in range(1, len(each))}
    for place, path in named:
        if path in directories:
            yield place, f"is {shown(path)}, which is the directory of other files of the code"


def _framework_problems(drafts: Drafts, frameworks: Collection[str]) -> Found:
    names = sorted({*frameworks, BUNDLE, MODEL})
    for draft in (drafts.components() or {}).values():
        if draft is None or "framework" in draft.lost or draft.form.framework in names:
            continue
        name = draft.form.framework
        what = f"is {shown(name)}; expected one of {quoted(names)}{did_you_mean(name, names)}"
        yield (*draft.place, "framework"), what


def _key_rule(draft: Draft[ComponentForm], needed: str, refused: Sequence[str]) -> Found:
    kind = f"a component with framework {shown(draft.form.framework)}"
    if needed not in draft.lost and getattr(draft.form, needed) is None:
        yield (*draft.place, needed), f"is missing; {kind} requires a {needed}"
    for key in refused:
        if key not in draft.lost and getattr(draft.form, key) is not None:
            yield (*draft.place, key), f"is not allowed for {kind}, which requires a {needed}"


def _tensor_problems(declared: Declared, taken: Mapping[str, Place]) -> Found:
    names = [((*d.place, "name"), d.form.name) for d in declared.drafts if d.form.name is not None]
    yield from repeats(names, taken)
    for draft in declared.drafts:
        columns, shape = draft.form.columns or [], draft.form.shape
        places = [(*draft.place, "columns", at) for at in range(len(columns))]
        yield from repeats(zip(places, columns, strict=True), {})
        if columns and shape is not None and (not shape or shape[-1] not in (-1, len(columns))):
            last = f"the last dimension is {shape[-1]}" if shape else "the shape has no dimension"
            yield (*draft.place, "columns"), f"has {len(columns)} names; {last}"


def _step_problems(
    step: Draft[StepForm], components: Mapping[str, Draft[ComponentForm] | None] | None
) -> Found:
    form = step.form
    named = [
        key for key in ("component", "op") if key in step.lost or getattr(form, key) is not None
    ]
    if len(named) != 1:
        count = "both 'component' and 'op'" if named else "neither 'component' nor 'op'"
        yield step.place, f"has {count}; expected exactly one of them"
    if form.component is not None and components is not None and form.component not in components:
        yield (
            (*step.place, "component"),
            f"is {shown(form.component)}, which is not a component"
            f"{nearest(form.component, components)}",
        )
    if named == ["component"] and form.params:
        yield (
            (*step.place, "params"),
            "is only allowed with 'op'; use the component's 'options' instead",
        )
    if named == ["op"] and form.method is not None:
        yield (*step.place, "method"), "is only allowed with 'component'; use 'params' instead"
    if named == ["op"] and form.op is not None:
        yield from _operation_problems(step, OPERATIONS[form.op])


def _operation_problems(step: Draft[StepForm], operation: Operation) -> Found:
    form, lost = step.form, step.lost
    return operation.problems(
        step.place,
        None if "params" in lost else form.params,
        None if "inputs" in lost else len(form.inputs),
        None if "outputs" in lost else len(form.outputs),
    )


def _key_problems(
    example: Draft[ExampleForm], key: str, values: Mapping[str, object] | None, declared: Declared
) -> Found:
    """Find undeclared tensors in an example, and declared inputs that it lacks."""
    if values is None or not declared.given:
        return
    place = (*example.place, key)
    for name in values:
        if name not in declared.places and declared.complete:
            known = nearest(name, declared.places)
            yield (*place, name), f"is not a declared {key[:-1]}{known}"
    for name in declared.places:
        if key == "inputs" and name not in values:
            yield (*place, name), "is missing; an example must have every declared input"


def _package_problems(requirements: object) -> Found:
    packages = requirements.get("packages") if isinstance(requirements, dict) else None
    for name in packages if isinstance(packages, dict) else ():
        if not re.fullmatch(PACKAGE_NAME, name):
            expected = "expected letters and digits, and '.', '_' or '-' between them"
            yield ("requirements", "packages", name), f"is not a valid package name; {expected}"
