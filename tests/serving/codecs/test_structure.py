"""Values are counted as a parser would find them, before there is one."""

from __future__ import annotations

import json
import random

import pytest

from bundleserver.errors import TooManyValues
from bundleserver.serving.codecs import structure
from bundleserver.serving.codecs.json_body import decode, decode_object
from bundleserver.serving.codecs.simd_numbers import IS_INSTALLED

TEXTS = ("", "a", '"', "\\", '\\"', "[{,:", "]}", "é\n", "\\\\,")


def weight_of(document):
    """Add up what a parser found, as the law says it."""
    if isinstance(document, list):
        return 2 + sum(map(weight_of, document)) + max(0, len(document) - 1)
    if isinstance(document, dict):
        return 2 + sum(map(weight_of, document.values())) + max(0, 2 * len(document) - 1)
    return 0


def some(chance, depth=0):
    """Make a document with texts that look like structure."""
    kind = chance.randrange(2 if depth > 4 else 4)
    if kind == 0:
        return chance.choice(TEXTS)
    if kind == 1:
        return chance.choice((1.5, None, True, -3))
    values = [some(chance, depth + 1) for _ in range(chance.randrange(5))]
    return values if kind == 2 else {chance.choice(TEXTS) + str(n): v for n, v in enumerate(values)}


@pytest.mark.parametrize("piece_bytes", [1, 2, 3, 7, 2**18])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_what_is_within_texts_is_no_value(monkeypatch, piece_bytes, ascii_only):
    """Whatever the texts have, and wherever a document is cut, the count is that of its values."""
    monkeypatch.setattr(structure, "_PIECE_BYTES", piece_bytes)
    chance = random.Random(7)  # noqa: S311  # a fixed seed is the point

    for _ in range(60):
        document = some(chance)
        body = json.dumps(document, ensure_ascii=ascii_only).encode()
        weight = 1 + weight_of(document)
        if weight > 1:
            with pytest.raises(TooManyValues):
                structure.check_values(body, weight - 1)
        structure.check_values(body, weight)


@pytest.mark.parametrize("unit", ["[]", "{}", '{"a":1}', "[[[]]]", '""', "null", "[null]"])
def test_too_many_values_are_refused_of_whatever_kind(unit):
    """A document over the limit is refused, and its message says the limit and its flag."""
    body = b'{"instances":[%b]}' % b",".join([unit.encode()] * 3000)

    with pytest.raises(TooManyValues, match=r"at most 2000; .* --max_body_values"):
        decode(body, lambda document: document, 2000)
    assert 3000 == len(decode_object(body, 0)["instances"])


@pytest.mark.skipif(not IS_INSTALLED, reason="all numbers become Python's without simdjson")
def test_long_arrays_of_numbers_are_no_values():
    """Numbers that simdjson decodes are not counted, as they cost no object each."""
    from bundleserver.serving.codecs import v1

    body = b'{"instances":[%b]}' % b",".join([b"[1.5,2]"] * 3000)

    asked = decode(body, lambda document: v1.decode_request(document, "m", None), 100)

    assert (3000, 2) == asked.rows.values.shape
    assert [1.5, 2] == list(asked.rows)[2999]
