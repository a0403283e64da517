"""What breaks the clients of a version when another one answers in its place.

A break makes a request fail that was answered, or an answer be read wrongly. A new optional column
or input and a further output at the end are none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bundleserver.tensors import TensorSpec
from bundleserver.tensors.input_breaks import MOST_SAID, InputBreaks, quoted
from bundleserver.tensors.signature import Signature


@dataclass(frozen=True)
class Interface:
    """What the clients of a version rely on.

    Attributes:
        signature: its inputs as requests are validated, with the announced datatype as ``likely``
            where any is valid; its outputs as they were seen.
        methods: the framework and the method that make each output.
        horizon: the most steps of a forecast.
        step: the step of a forecast.
        parameters: the parameters that its components have.
        meanings: how the values of inputs and outputs are to be read, as options say it.
    """

    signature: Signature
    methods: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    horizon: int | None = None
    step: str | None = None
    parameters: tuple[str, ...] = ()
    meanings: Mapping[str, str] = field(default_factory=dict)


def find_breaks(before: Interface, after: Interface, was: str, now: str) -> tuple[str, ...]:
    """Return what breaks clients when ``after`` takes the place of ``before``, each a sentence.

    Args:
        before: what answers.
        after: what would answer in its place.
        was: what answers, for the sentences: ``version v1``.
        now: likewise: ``version v2``.
    """
    old, new = before.signature, after.signature
    if old.rowwise != new.rowwise:
        return (f"{was} {_kind(old)}, and {now} {_kind(new)}",)
    found = [*InputBreaks(old, new, was, now).all(), *_outputs(before, after, was, now)]
    found += _of_meanings(before, after, was, now)
    found += _of_forecasts(before, after, was, now)
    if gone := [name for name in before.parameters if name not in after.parameters]:
        found.append(f"{now} lacks the parameters {quoted(gone)} of {was}")
    if len(found) > MOST_SAID:
        found[MOST_SAID:] = [f"and {len(found) - MOST_SAID} more"]
    return tuple(found)


def not_compared(before: Interface, after: Interface) -> tuple[str, ...]:
    """Return what cannot be compared, as it is not known of one of the two.

    Unlike any width or datatype that is declared, what is not known may still be refused.
    """
    old, new = before.signature, after.signature
    came = {spec.name: spec for spec in new.inputs}
    if len(old.inputs) == len(new.inputs) == 1:
        came = {old.inputs[0].name: new.inputs[0]}  # whatever it is called
    inputs = {spec: came.get(spec.name, spec) for spec in old.inputs}
    made = {spec.name: spec for spec in new.outputs}
    outputs = {spec: made.get(spec.name, spec) for spec in old.outputs}
    found = [(f"input '{one.name}'", *_unknown(one, inputs[one])) for one in inputs]
    found += [(f"output '{one.name}'", *_unknown(one, outputs[one])) for one in outputs]
    return tuple(f"{' and '.join(parts)} of {what}" for what, *parts in found if parts)


def _unknown(*pair: TensorSpec) -> Iterator[str]:
    """Yield what is not known of one of a pair; any datatype is, where the shape is known."""
    if any(spec.shape is None for spec in pair):
        yield "the shape"
    if any(spec.shape is None and spec.datatype is None for spec in pair):
        yield "the datatype"


def _kind(signature: Signature) -> str:
    return "answers row by row" if signature.rowwise else "forecasts"


def _outputs(before: Interface, after: Interface, was: str, now: str) -> Iterator[str]:
    names = [spec.name for spec in after.signature.outputs]
    places = {name: place for place, name in enumerate(names)}
    came = {spec.name: spec for spec in after.signature.outputs}
    for index, old in enumerate(before.signature.outputs):
        what, new = f"output '{old.name}'", came.get(old.name)
        if new is None:
            yield f"{now} lacks the {what} of {was}; its outputs: {quoted(names)}"
            continue
        if (place := places[old.name]) != index:
            yield f"{what} is number {index} in {was}, and number {place} in {now}"
        if old.datatype and new.datatype and old.datatype != new.datatype:
            yield f"{what} is {old.datatype} in {was}, and {new.datatype} in {now}"
        if old.shape is not None and new.shape is not None and _is_other(old.shape, new.shape):
            yield f"{what} is {list(old.shape)} in {was}, and {list(new.shape)} in {now}"
        made, makes = before.methods.get(old.name), after.methods.get(old.name)
        # Other frameworks have other names for the same.
        if made and makes and made[0] == makes[0] and made[1] != makes[1]:
            yield f"{what} is made by '{made[1]}' in {was}, and by '{makes[1]}' in {now}"


def _of_meanings(before: Interface, after: Interface, was: str, now: str) -> Iterator[str]:
    others: dict[tuple[str, str], list[str]] = {}
    for what, text in before.meanings.items():
        if (new := after.meanings.get(what, text)) != text:
            others.setdefault((text, new), []).append(what)
    for (old, new), names in others.items():
        yield f"{', '.join(names[:MOST_SAID])}: {old} in {was}, and {new} in {now}"


def _of_forecasts(before: Interface, after: Interface, was: str, now: str) -> Iterator[str]:
    if before.horizon is not None and after.horizon is not None and before.horizon > after.horizon:
        yield f"{was} forecasts {before.horizon} steps at most, and {now} {after.horizon}"
    if before.step is not None and after.step is not None and before.step != after.step:
        yield f"a step of 'horizon' is '{before.step}' in {was}, and '{after.step}' in {now}"


def _is_other(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Ask whether outputs of two shapes certainly differ."""
    pairs = zip(old, new, strict=False)
    return len(old) != len(new) or any(-1 not in pair and pair[0] != pair[1] for pair in pairs)
