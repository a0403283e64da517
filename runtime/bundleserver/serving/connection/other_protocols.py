"""Requests for another protocol: an offer to change to one is passed over, others are refused.

llhttp stops at the head of a request that offers to change ("Upgrade: h2c", as every JDK sends it),
and leaves its body unread. The request is parsed again without its offer, by a new parser that
reads on where the head ended. So its body is framed by the same rules as any other.
"""

from __future__ import annotations

from collections.abc import Iterable

from bundleserver.serving.rest.http import Answer, error_answer

_VERSIONS = ("1.1", "1.0")
_CLOSE = {"connection": "close"}
_REFUSALS = {
    # What follows it is meant for somebody else, and is no request.
    b"CONNECT": error_answer(405, "CONNECT is not supported: this server is not a proxy", _CLOSE),
    # The beginning of HTTP/2 without an offer.
    b"PRI": error_answer(505, "HTTP/2 is not supported; use HTTP/1.1", _CLOSE),
}


class OtherVersion(Exception):
    """A head is of a version of HTTP that is not spoken here; ``answer`` ends the connection.

    A request of 0.9 has no version at all, and no headers that a proxy could have looked at.
    """

    def __init__(self, version: str) -> None:
        super().__init__(version)
        message = f"HTTP/{version.removesuffix('.0')} is not supported; use HTTP/1.1"
        self.answer = error_answer(505, message, _CLOSE)


def check_version(version: str) -> None:
    """Refuse a head by its version.

    Raises:
        OtherVersion: it is neither 1.0 nor 1.1.
    """
    if version not in _VERSIONS:
        raise OtherVersion(version)


def refusal_of(method: bytes) -> Answer | None:
    """Return the answer to a method that changes the protocol, after which a connection ends."""
    return _REFUSALS.get(method)


def head_without_offer(
    method: bytes, target: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """Encode a parsed head again, without its offer; the parser has refused line breaks in it."""
    lines = [b"%b %b HTTP/%b" % (method, target, version.encode())]
    lines += [b"%b: %b" % header for header in headers if header[0] != b"upgrade"]
    return b"\r\n".join([*lines, b"", b""])
