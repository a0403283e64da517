"""The line of curl that sends a form's example, for those who read the page without JavaScript."""

from __future__ import annotations

import json
from shlex import quote
from urllib.parse import quote as quoted_for_url

from bundleserver.serving.page.form import Field, Form, FormInput, Layout
from bundleserver.serving.page.form_examples import Row, value_of

SERVER = "http://localhost:8080"
"""Where a server listens by default; the reader knows another address."""


def example_curl(form: Form) -> str:
    """Return a V1 request of a form's example; an empty string if it has none, or a part of one."""
    if not form.rows or any(_lacks(form, row) for row in form.rows):
        return ""
    instances = [_instance(form, row) for row in form.rows]
    # ASCII only: what names have of other characters cannot change how the line looks.
    body = json.dumps({"instances": instances})
    url = f"{SERVER}/v1/models/{quoted_for_url(form.model, safe='', errors='replace')}:predict"
    return f"curl {quote(url)} -H 'content-type: application/json' --data-raw {quote(body)}"


def _lacks(form: Form, row: Row) -> bool:
    """Ask whether a row has no text where there must be one."""
    pairs = zip(form.inputs, row, strict=True)
    fields = (pair for each, texts in pairs for pair in zip(each.fields, texts, strict=True))
    return any(
        text == "" and not (field.optional or field.nullable or field.kind == "string")
        for field, text in fields
    )


def _instance(form: Form, row: Row) -> object:
    pairs = zip(form.inputs, row, strict=True)
    values = {each.name: _value(each, texts) for each, texts in pairs if not _is_out(each, texts)}
    if form.rowwise and len(form.inputs) == 1:
        return values.get(form.inputs[0].name, {})
    return values


def _is_out(each: FormInput, texts: tuple[str | None, ...]) -> bool:
    """Ask whether an input is left out."""
    may = each.optional or (each.layout is not Layout.COLUMNS and each.fields[0].optional)
    return may and all(text == "" for text in texts)


def _value(each: FormInput, texts: tuple[str | None, ...]) -> object:
    if each.layout is Layout.LIST:
        return [value_of(each.fields[0], text) for text in (texts[0] or "").split("\n")]
    parts = [
        (field, None if _is_null(field, text) else value_of(field, text))
        for field, text in zip(each.fields, texts, strict=True)
    ]
    if each.layout is Layout.COLUMNS:
        pairs = zip(parts, texts, strict=True)
        return {f.name: part for (f, part), text in pairs if not (f.optional and text == "")}
    values = [part for _, part in parts]
    return values if each.layout is Layout.VALUES else values[0]


def _is_null(field: Field, text: str | None) -> bool:
    return text == "" and (field.optional or field.kind != "string")
