"""Forms: the shape of the objects in a document, and what a value that breaks it is told.

A wrong type is never converted. Every sentence says what came, what may come and the nearest known
name. pydantic is seen here and by the forms themselves, nowhere else.
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

_LONGEST, _MANY = 80, 200  # comparing more than this would keep a server busy, and help nobody


class Form(BaseModel):
    """The shape of one object in a document: no key but its fields, no value of another type.

    Each field's ``description`` is a noun phrase: it ends the sentence "… is 3; expected …", and
    documents the field in the JSON Schema.
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
    """Refuse a value for which the answer is no; the field's description says what is expected."""

    def check(value: object) -> object:
        if not asks(value):
            raise ValueError
        return value

    return AfterValidator(check)


def form_problems(form: type[Form], value: object, at: Place = ()) -> dict[Place, Problem]:
    """Check one value against a form; each problem stands under the place of the value it is about.

    Args:
        form: the shape that is expected.
        value: what came, as JSON gave it.
        at: where the value stands in its document.
    """
    try:
        form.model_validate(value)
    except ValidationError as error:
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
    """Finish a sentence about an unknown name: with the nearest known one, or with all of them."""
    names = tuple(known)
    return did_you_mean(name, names) or f"; known: {quoted(names)}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Finish a sentence about an unknown name with the nearest known one, if one is near."""
    by_folded = {candidate.casefold(): candidate for candidate in islice(known, _MANY)}
    close = get_close_matches(name[:_LONGEST].casefold(), by_folded, n=1)
    return f"; did you mean {shown(by_folded[close[0]])}?" if close else ""


def quoted(names: Iterable[str]) -> str:
    """List names for a sentence: ``'a', 'b', 'c'``, the first twenty of them."""
    listed = [shown(name) for name in names]
    more = f" and {len(listed) - 20} more" if len(listed) > 20 else ""
    return (", ".join(listed[:20]) or "none") + more


def _sentence(form: type[Form], fault: ErrorDetails) -> str:
    """Say what a value is and what it may be, in the words of its field."""
    place, came = fault["loc"], fault["input"]
    if fault["type"] == "extra_forbidden":
        return "is no known key" + nearest(str(place[-1]), _node(form, place[:-1])["properties"])
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
    """Find the part of a form's JSON Schema that describes a place in the document."""
    schema = form_schema(form)
    node: Mapping[str, Any] = schema
    for part in place:
        inner = node.get("properties", {}).get(part) or node.get("additionalProperties")
        inner = node.get("items") if isinstance(part, int) else inner
        node = inner if isinstance(inner, Mapping) else {}
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    return node
