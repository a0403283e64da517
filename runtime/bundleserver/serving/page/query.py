"""The query of a request for the page."""

from __future__ import annotations

from urllib.parse import parse_qs

MOST_QUERY_BYTES = 16 * 1024
"""More than the overview's filter has, whose longest text has 1000 characters."""


class Query:
    """The fields of a request's query."""

    def __init__(self, query: bytes) -> None:
        """Parse a query of at most so many bytes."""
        self._fields = parse_qs(query.decode("latin-1"), errors="replace", max_num_fields=None)

    def text(self, name: str) -> str:
        """Return a field's first value; an empty string if it has none."""
        return self._fields.get(name, [""])[0]

    def number(self, name: str) -> int:
        """Return a field as a whole number; 0 if it is none."""
        text = self.text(name)
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
