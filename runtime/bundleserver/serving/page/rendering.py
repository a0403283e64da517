"""HTML from templates: everything is escaped, bounded, and visible for what it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, Undefined
from markupsafe import Markup

from bundleserver.documents.printable import printable
from bundleserver.serving.rest.http import Answer

HTML = "text/html; charset=utf-8"

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)

HEADERS: Mapping[str, str] = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
    "vary": "accept, authorization",
}
"""The headers of every answer of the page; static files have another ``cache-control``."""

_MOST_TEXT = 2_000
_MOST_JSON = 20_000
_WHOLE_DIGITS = 10**5
"""From here on six digits would not have what is behind the point."""


class Renderer:
    """Fills templates. Called from one thread at a time."""

    def __init__(self, static: Mapping[str, str]) -> None:
        """Set the mark of each static file, for its address."""
        self._environment = environment = Environment(
            loader=PackageLoader("bundleserver.serving.page"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_shown,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        environment.filters |= {
            "segment": segment,
            "milliseconds": milliseconds,
            "number": number,
            "as_written": as_written,
            "pretty": pretty,
            "shape": shape,
        }
        environment.globals["static"] = static

    def page(self, name: str, status: int = 200, **values: object) -> Answer:
        """Make an answer of a template."""
        text = self._environment.get_template(name).render(**values)
        return Answer(text.encode("utf-8", "replace"), status, HEADERS, HTML)


def _shown(value: Any) -> Any:
    """Make a value printable; what the templates have made is left as it is."""
    if hasattr(value, "__html__") or isinstance(value, (int, float, Undefined)):
        return value
    return printable(str(value), _MOST_TEXT)


def segment(name: str) -> Markup:
    """Return a name as a segment of a relative address."""
    # Percent-encoded it has no character that means anything in HTML.
    return Markup(quote(name, safe="", errors="replace"))  # noqa: S704


def milliseconds(seconds: float | None) -> str:
    """Return seconds as milliseconds with three digits; a dash for None."""
    return "\N{EN DASH}" if seconds is None else f"{number(seconds * 1000)} ms"


def number(value: object) -> str:
    """Return a number with three digits that say something, or all of its whole part; or a text."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or value.is_integer():
        return f"{value:,.0f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def as_written(value: object) -> str:
    """Return an integer with all its digits, a fraction with six digits or its whole part."""
    if not isinstance(value, float):
        return json.dumps(value) if isinstance(value, bool) else str(value)
    return repr(value) if abs(value) >= _WHOLE_DIGITS else f"{value:.6g}"


def pretty(value: object) -> str:
    """Return a value as JSON, a long one without its end."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    if len(text) > _MOST_JSON:
        text = f"{text[:_MOST_JSON]}\n… and {len(text) - _MOST_JSON} more characters"
    return Markup("\n").join(printable(line, _MOST_TEXT) for line in text.split("\n"))


def shape(sizes: tuple[int, ...] | None) -> str:
    """Return a shape, n for a size that requests choose; a word if any will do."""
    if sizes is None:
        return "any shape"
    return "[" + ", ".join("n" if size < 0 else str(size) for size in sizes) + "]"
