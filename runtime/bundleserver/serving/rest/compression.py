"""Compressed request bodies."""

from __future__ import annotations

import zlib

from bundleserver.errors import InvalidInput, RequestTooLarge

_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_RAW_DEFLATE = -15


def decompress(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """Decompress step by step, so that a small body cannot grow over the limit.

    Raises:
        RequestTooLarge: it exceeds the limit when decompressed.
        InvalidInput: it is not valid for its encoding, or the encoding is not supported.
    """
    window_bits = _WINDOW_BITS.get(encoding)
    if window_bits is None:
        raise InvalidInput(
            f"content-encoding '{encoding[:40]}' is not supported; expected gzip, deflate or none"
        )
    if encoding == "deflate" and not _has_zlib_header(body):
        window_bits = _RAW_DEFLATE
    inflated = bytearray()
    while body:
        engine = zlib.decompressobj(window_bits)
        try:
            # A maximum of 0 would mean no maximum; one byte over the limit shows that it exceeds.
            inflated += engine.decompress(body, limit_bytes + 1 - len(inflated))
        except zlib.error as error:
            raise InvalidInput(f"the request body is not valid {encoding}: {error}") from error
        if len(inflated) > limit_bytes:
            raise RequestTooLarge(limit_bytes)
        if not engine.eof:
            raise InvalidInput(f"the request body is not valid {encoding}: it is truncated")
        body = engine.unused_data
    return bytes(inflated)


def _has_zlib_header(body: bytes) -> bool:
    return len(body) > 1 and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0
