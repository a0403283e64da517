"""What a request for a change shows of whoever sends it: its address and its headers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_OWN_SITES = (b"same-origin", b"none")
"""Of a page of this server, and of what a person typed. A sibling of the same site may be anyone's:
the other services of a cluster's domain are."""

_JSON = b"application/json"
_BEARER = b"bearer"


class Asked(NamedTuple):
    """A request for a change: its protocol, where it comes from, and all its headers.

    Names of headers are in lower case. None in place of the headers: nobody kept them, so that the
    request shows nothing.
    """

    protocol: str
    peer: str
    headers: Sequence[tuple[bytes, bytes]] | None

    def values(self, name: bytes) -> list[bytes]:
        """Return every value of one header."""
        return [value for key, value in self.headers or () if key == name]

    def token(self) -> bytes | None:
        """Return its bearer token; None if it has none, or more than one."""
        found = self.values(b"authorization")
        if len(found) != 1:
            return None
        scheme, _, token = found[0].strip(b" \t").partition(b" ")
        return token.strip(b" \t") if scheme.lower() == _BEARER else None

    def foreign_sign(self) -> str | None:
        """Return what a page of another site may have to do with it; None if nothing shows that.

        A browser sends such requests for any page that it has open, without asking anybody, as long
        as they look like a form's. It says so in headers that no page can leave out.
        """
        if self.values(b"origin"):
            return "it has the header Origin, so that a browser sends it for a page"
        if any(value.strip().lower() not in _OWN_SITES for value in self.values(b"sec-fetch-site")):
            return "its header Sec-Fetch-Site is neither same-origin nor none"
        types = self.values(b"content-type")
        if len(types) > 1 or any(_media_type(value) != _JSON for value in types):
            return "its Content-Type is not application/json; send that or none"
        return None


def _media_type(value: bytes) -> bytes:
    return value.partition(b";")[0].strip().lower()
