"""Frames of HTTP/2, written by hand, for clients that no library would be."""

from __future__ import annotations

import struct

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_HEADERS = 4
CANCEL = b"\0\0\0\x08"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Write one frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


OPENING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0)
"""What a client sends first."""


def infer_head(stream: int) -> bytes:
    """Write the head of a call of ModelInfer."""
    pairs = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/inference.GRPCInferenceService/ModelInfer",
        ":authority": "x",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    head = b"".join(
        b"\0%c%b%c%b" % (len(name), name.encode(), len(value), value.encode())
        for name, value in pairs.items()
    )
    return frame(HEADERS, END_HEADERS, stream, head)


def part_of_message(stream: int, size: int, sent: int = 100) -> bytes:
    """Write the first bytes of a message of so many."""
    return frame(DATA, 0, stream, struct.pack(">BI", 0, size) + bytes(sent))
