"""Compressed bodies cost linear time, and are the same however they are cut."""

from __future__ import annotations

import asyncio
import gzip
import random
import zlib

import pytest

from bundleserver.errors import InvalidInput, RequestCancelled, RequestTooLarge, TooManyBytes
from bundleserver.serving.inflight import Held, InflightBytes
from bundleserver.serving.rest.compression import MOST_MEMBERS, Decompression, decompress

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


class Counting:
    """zlib's engine, which adds up what it is given, and what it copies of that."""

    work = 0

    def __init__(self, window_bits):
        self._engine = ENGINE(window_bits)

    def decompress(self, piece, most):
        part = self._engine.decompress(piece, most)
        Counting.work += len(piece) + len(self.unused_data) + len(self.unconsumed_tail)
        return part

    def __getattr__(self, name):
        return getattr(self._engine, name)


ENGINE = zlib.decompressobj


@pytest.mark.parametrize("content", [b"", b"abc" * 100])
def test_many_members_are_linear_work(monkeypatch, content):
    """The rest of a body is not copied for each member, however much it is."""
    monkeypatch.setattr(zlib, "decompressobj", Counting)
    works = []
    for count in (100_000, 1_000_000):
        monkeypatch.setattr(Counting, "work", 0)
        with pytest.raises(InvalidInput):
            decompress(gzip.compress(content, mtime=0) * count, "gzip", MANY)
        works.append(Counting.work)

    assert works[0] == works[1] <= (MOST_MEMBERS + 1) * 2 * 2**16


@pytest.mark.parametrize("size", [2**20, 2**24])
def test_a_well_compressed_body_is_linear_work(monkeypatch, size):
    """What one piece inflates to in many steps is not copied for each of them."""
    monkeypatch.setattr(zlib, "decompressobj", Counting)
    monkeypatch.setattr(Counting, "work", 0)

    assert size == len(decompress(gzip.compress(bytes(size)), "gzip", MANY))
    assert size > Counting.work


@pytest.mark.parametrize("size", [10, 2**16, 2**20 + 1, 5 * 2**20])
def test_what_there_is_of_a_content_is_counted(size):
    """The body and its content are held together, at each step no more than there is."""
    body, bodies = gzip.compress(bytes(size)), InflightBytes(2**30)
    held = Held(bodies)
    held.grow_to(len(body))

    decompress(body, "gzip", MANY, held)

    assert len(body) + size == bodies.held
    held.give_back()
    assert 0 == bodies.held


def test_a_content_ends_where_there_is_no_room():
    """No more is inflated than one step beyond what bodies in flight have left."""
    steps, bodies = [], InflightBytes(10 * 2**20)
    bodies.take(6 * 2**20)

    class Told(Held):
        def grow_to(self, size):
            steps.append(size)
            super().grow_to(size)

    held = Told(bodies)
    with pytest.raises(TooManyBytes):
        decompress(gzip.compress(bytes(2**25)), "gzip", MANY, held)

    assert max(steps) < 6 * 2**20
    held.give_back()
    assert 6 * 2**20 == bodies.held


def test_nothing_is_inflated_for_who_has_gone():
    """What was given back takes no more, so that nothing stays counted."""
    bodies = InflightBytes(2**30)
    held = Held(bodies)
    held.give_back()

    with pytest.raises(RequestCancelled):
        decompress(gzip.compress(bytes(2**25)), "gzip", MANY, held)
    assert 0 == bodies.held


def test_large_contents_that_begin_again_hold_nothing_meanwhile():
    """A body that waits for its turn is counted with what it has then: itself."""
    bodies, seen = InflightBytes(2**30), []
    body = gzip.compress(bytes(2**24))
    held = Held(bodies)
    held.grow_to(len(body))

    class Watched(Decompression):
        def __init__(self):
            super().__init__()
            run = self._threads.run

            def watched(size, *more):
                seen.append(bodies.held)
                return run(size, *more)

            self._threads.run = watched

    content = asyncio.run(Watched().run(body, "gzip", MANY, held=held))

    assert [len(body)] * 3 == seen
    assert 2**24 == len(content)
    assert len(body) + 2**24 == bodies.held
