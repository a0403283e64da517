"""The line of curl that sends a form's example, for those who read the page without JavaScript."""

from __future__ import annotations

import json
from shlex import quote
from urllib.parse import quote as quoted_for_url

from bundleserver.serving.page.form import Form, FormInput, Layout
from bundleserver.serving.page.form_examples import value_of

SERVER = "http://localhost:8080"
"""Where a server listens by default; the reader knows another address."""


def example_curl(form: Form) -> str:
    """Return a V1 request of a form's example; an empty string if it has none."""
    if not form.rows:
        return ""
    instances = [_instance(form, row) for row in form.rows]
    # ASCII only: what names have of other characters cannot change how the line looks.
    body = json.dumps({"instances": instances})
    url = f"{SERVER}/v1/models/{quoted_for_url(form.model, safe='', errors='replace')}:predict"
    return f"curl {quote(url)} -H 'content-type: application/json' --data-raw {quote(body)}"


def _instance(form: Form, row: tuple[tuple[str, ...], ...]) -> object:
    pairs = zip(form.inputs, row, strict=True)
    values = {each.name: _value(each, texts) for each, texts in pairs if any(texts)}
    if form.rowwise and len(form.inputs) == 1:
        return values.get(form.inputs[0].name)
    return values


def _value(each: FormInput, texts: tuple[str, ...]) -> object:
    if each.layout is Layout.LIST:
        return [value_of(each.fields[0], text) for text in texts[0].split("\n")]
    parts = [value_of(f, text) for f, text in zip(each.fields, texts, strict=True)]
    if each.layout is Layout.COLUMNS:
        return {field.name: part for field, part in zip(each.fields, parts, strict=True)}
    return parts if each.layout is Layout.VALUES else parts[0]
