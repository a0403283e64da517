"""A partially parsed manifest, so that one invalid value does not hide the other problems."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from bundleserver.documents.forms import Form
from bundleserver.documents.strict_json import Place, json_path, shown
from bundleserver.manifest.forms import ComponentForm, TensorForm

F = TypeVar("F", bound=Form)
Found = Iterator[tuple[Place, str]]
"""Problems as they are found: a place and what is wrong there."""


@dataclass(frozen=True)
class Draft(Generic[F]):
    """One partially parsed object; fields in ``lost`` are invalid and None here."""

    place: Place
    form: F
    lost: frozenset[str | int]


@dataclass(frozen=True)
class Declared:
    """The tensors of ``inputs`` or ``outputs``: by name, and whether all of them are known."""

    drafts: Sequence[Draft[TensorForm]]
    places: Mapping[str, Place]
    given: bool
    complete: bool


class Drafts:
    """The partially parsed objects of a document."""

    def __init__(self, document: Mapping[str, object], faults: Iterable[Place]) -> None:
        self.document = document
        self._lost: dict[Place, set[str | int]] = {}
        for fault in faults:
            for depth, part in enumerate(fault):
                self._lost.setdefault(fault[:depth], set()).add(part)

    def of_object(self, form: type[F], value: object, place: Place) -> Draft[F] | None:
        """Draft one object; None when the value is not an object."""
        if not isinstance(value, dict):
            return None
        lost = self._lost.get(place, set())
        known = {key: value[key] for key in form.model_fields if key in value}
        known.update((key, None) for key in form.model_fields if key in lost)
        return Draft(place, form.model_construct(**known), frozenset(lost))

    def of_list(self, form: type[F], key: str) -> list[Draft[F] | None]:
        """Draft the entries of a top-level array; a value that is not an array is one None."""
        values = self.document.get(key, [])
        if not isinstance(values, list):
            return [None]
        return [self.of_object(form, value, (key, at)) for at, value in enumerate(values)]

    def components(self) -> Mapping[str, Draft[ComponentForm] | None] | None:
        """Draft the components by name; None when there are none."""
        values = self.document.get("components")
        if not isinstance(values, dict) or not values:
            return None
        return {
            name: self.of_object(ComponentForm, value, ("components", name))
            for name, value in values.items()
        }

    def declared(self, key: str) -> Declared:
        """Draft ``inputs`` or ``outputs``."""
        entries = self.of_list(TensorForm, key)
        drafts = [draft for draft in entries if draft is not None]
        named = [draft for draft in drafts if draft.form.name is not None]
        places: dict[str, Place] = {}
        for draft in named:
            places.setdefault(draft.form.name, (*draft.place, "name"))
        return Declared(drafts, places, bool(entries), complete=len(named) == len(entries))


def repeats(named: Iterable[tuple[Place, str]], taken: Mapping[str, Place]) -> Found:
    """Find duplicate names, among themselves or with names that are already taken."""
    seen = dict(taken)
    for place, name in named:
        if seen.setdefault(name, place) != place:
            yield (
                place,
                f"is {shown(name)}, already used by {json_path(seen[name])}; names must be unique",
            )
