"""Compressed bodies cost linear time, and are the same however they are cut."""

from __future__ import annotations

import gzip
import random
import time
import zlib

import pytest

from bundleserver.errors import InvalidInput, RequestTooLarge
from bundleserver.serving.rest.compression import MOST_MEMBERS, decompress

MANY = 2**26
CONTENT = random.Random(3).randbytes(300_000) + b"x" * 5_000_000  # noqa: S311  # a fixed seed is the point


def raw_deflate(data):
    """Compress without zlib's own head and end."""
    engine = zlib.compressobj(wbits=-15)
    return engine.compress(data) + engine.flush()


@pytest.mark.parametrize("content", [b"", b"a", CONTENT, b"x" * 2**20, b"x" * (2**20 + 1)])
@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", raw_deflate)],
)
def test_what_was_compressed_comes_out(content, encoding, compress):
    """Whatever its length, a content is what was compressed, up to its own length."""
    body = compress(content)

    assert content == decompress(body, encoding, MANY)
    assert content == decompress(body, encoding, len(content))
    if content:
        with pytest.raises(RequestTooLarge):
            decompress(body, encoding, len(content) - 1)


@pytest.mark.parametrize("content", [b"", b"abc", CONTENT[:70_000]])
def test_members_follow_each_other(content):
    """Up to so many members are one content; one more is refused with the number in the message."""
    body = gzip.compress(content, 1) * MOST_MEMBERS

    assert content * MOST_MEMBERS == decompress(body, "gzip", 2**27)
    with pytest.raises(InvalidInput, match=f"more than {MOST_MEMBERS} gzip members"):
        decompress(body + gzip.compress(content), "gzip", 2**27)


@pytest.mark.parametrize("cut", [1, 4, 9, 200, 70_000])
def test_a_truncated_body_is_invalid(cut):
    """A body that ends before its content does is refused as such."""
    with pytest.raises(InvalidInput, match="is truncated"):
        decompress(gzip.compress(CONTENT)[:-cut], "gzip", MANY)


def test_a_million_members_cost_no_time():
    """The rest of a body is not copied for each member."""
    body = gzip.compress(b"", mtime=0) * 1_000_000
    begun = time.process_time()

    with pytest.raises(InvalidInput):
        decompress(body, "gzip", MANY)
    assert time.process_time() - begun < 1
