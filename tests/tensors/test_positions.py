"""Tables without column names that lack their last columns, however wide they are."""

from __future__ import annotations

import pytest

from bundleserver.tensors import TensorSpec
from bundleserver.tensors.breaking import Interface, find_breaks
from bundleserver.tensors.positions import fewest_columns
from bundleserver.tensors.signature import Signature

WIDE = 100_000
NAMES = tuple(f"column-{place}" for place in range(WIDE))


@pytest.mark.parametrize(
    ("required", "fewest"),
    [((), 4), (("a",), 1), (("b",), 2), (("d", "a"), 4), (("c", "b"), 3), (("a", "b", "c"), 3)],
)
def test_the_last_column_with_an_effect_ends_the_shortest_row(required, fewest):
    """Without any that are named as required all are."""
    spec = TensorSpec("rows", None, (-1, 4), ("a", "b", "c", "d"), required_columns=required)

    assert fewest == fewest_columns(spec)


@pytest.mark.timeout(60)
def test_a_very_wide_table_is_looked_at_once():
    """Compared and counted column by column: each of them beside each takes minutes.

    Both are done while requests wait.
    """
    spec = TensorSpec("rows", None, (-1, WIDE), NAMES, required_columns=NAMES[:-1])
    interface = Interface(Signature((spec,), (), lenient=True))

    assert WIDE - 1 == fewest_columns(spec)
    assert () == find_breaks(interface, interface, "version v1", "version v2")
