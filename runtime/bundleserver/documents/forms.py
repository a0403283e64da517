"""Forms: the shape of the objects in a document, and the message for a value that breaks it.

A wrong type is never converted. Every message gives the value, what is expected and the nearest
known name. Only this module and the forms themselves use pydantic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from itertools import islice
from typing import Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import WithDefaultSchema

from bundleserver.documents.strict_json import Place, json_path, shown
from bundleserver.errors import Problem

ABSENT: Any = None
"""The default of a :class:`Form` field that may be left out; a written ``null`` is refused."""

_MOST_FAULTS = 2_000

_LONGEST, _MANY = 80, 200  # limits of the search for similar names, whose cost grows with both


class TooManyProblems(Exception):
    """A document has more problems than anybody reads; says how many."""

    def __init__(self, count: int) -> None:
        super().__init__(f"has {count} invalid values, too many to be listed")


class Form(BaseModel):
    """The shape of one object in a document: no key but its fields, no value of another type.

    Each field's ``description`` is a noun phrase: it completes the message "… is 3; expected …",
    and documents the field in the JSON Schema.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class FormSchema(GenerateJsonSchema):
    """The JSON Schema of a form, without generated titles and without the mark of absent keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Leave titles out; they would only repeat the keys."""
        return False

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        """Show a default, unless it is the mark of an absent key."""
        shown = super().default_schema(schema)
        if shown.get("default", ...) is ABSENT:
            shown.pop("default", None)
        return shown


def must(asks: Callable[[Any], bool]) -> AfterValidator:
    """Reject a value that fails a check; the field's description says what is expected."""

    def check(value: object) -> object:
        if not asks(value):
            raise ValueError
        return value

    return AfterValidator(check)


def form_problems(form: type[Form], value: object, at: Place = ()) -> dict[Place, Problem]:
    """Validate one value against a form; problems are keyed by the place of the invalid value.

    Args:
        form: the expected shape.
        value: the parsed JSON value.
        at: its place in the document.

    Raises:
        TooManyProblems: they are too many to be listed.
    """
    try:
        form.model_validate(value)
    except ValidationError as error:
        if error.error_count() > _MOST_FAULTS:
            raise TooManyProblems(error.error_count()) from error
        found: dict[Place, Problem] = {}
        for fault in error.errors(include_url=False, include_context=False):
            place = (*at, *fault["loc"])
            found.setdefault(place, Problem(json_path(place), _sentence(form, fault)))
        return found
    return {}


@cache
def form_schema(form: type[Form]) -> Mapping[str, Any]:
    """Return the JSON Schema of a form; shared, so a caller that changes it copies it first."""
    return form.model_json_schema(schema_generator=FormSchema)


def nearest(name: str, known: Iterable[str]) -> str:
    """Complete a message about an unknown name with the nearest known name, else with all."""
    names = tuple(known)
    return did_you_mean(name, names) or f"; known: {quoted(names)}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Complete a message about an unknown name with the nearest known name, if one is similar."""
    by_folded = {candidate.casefold(): candidate for candidate in islice(known, _MANY)}
    close = get_close_matches(name[:_LONGEST].casefold(), by_folded, n=1)
    return f"; did you mean {shown(by_folded[close[0]])}?" if close else ""


def quoted(names: Iterable[str], most: int = 20) -> str:
    """List names for a message: ``'a', 'b', 'c'``, at most so many."""
    all_names = tuple(names)
    more = f" and {len(all_names) - most} more" if len(all_names) > most else ""
    return (", ".join(map(shown, all_names[:most])) or "none") + more


def _sentence(form: type[Form], fault: ErrorDetails) -> str:
    """Describe an invalid value and what its field expects."""
    place, came = fault["loc"], fault["input"]
    if fault["type"] == "extra_forbidden":
        return "is not a known key" + nearest(str(place[-1]), _node(form, place[:-1])["properties"])
    node = _node(form, place)
    if fault["type"] == "missing":
        return f"is missing; expected {_expected(node)}"
    choices = _choices(node)
    is_near = isinstance(came, str) and len(choices) > 1
    hint = did_you_mean(came, choices) if is_near else ""
    return f"is {shown(came)}; expected {_expected(node)}{hint}"


def _expected(node: Mapping[str, Any]) -> str:
    if "properties" in node:
        return f"an object with the keys {quoted(node['properties'])}"
    choices = _choices(node)
    if choices:
        return f"one of {quoted(choices)}" if len(choices) > 1 else quoted(choices)
    return str(node.get("description", "something else"))


def _choices(node: Mapping[str, Any]) -> Sequence[str]:
    return [node["const"]] if "const" in node else node.get("enum", ())


def _node(form: type[Form], place: Place) -> Mapping[str, Any]:
    """Return the part of a form's JSON Schema that describes a place in the document."""
    schema = form_schema(form)
    node: Mapping[str, Any] = schema
    for part in place:
        inner = node.get("properties", {}).get(part) or node.get("additionalProperties")
        inner = node.get("items") if isinstance(part, int) else inner
        node = inner if isinstance(inner, Mapping) else {}
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    return node
