"""Arrays, containers and numbers of a hostile pickle: nothing is shared, endless or half made."""

from __future__ import annotations

import decimal
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundleserver.frameworks.pickles.gate import open_stream
from bundleserver.frameworks.pickles.gate.refusal import Refused
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy


class Calls:
    """An object whose unpickling calls a function."""

    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> object:
        return self.call[0], self.call[1:]


def opened(data: bytes) -> object:
    """Open a pickle through the gate."""
    return open_stream(io.BytesIO(data), CodeTrust(PicklePolicy.LISTED))


MANY = b"cbuiltins\nrange\n(I0\nI10000000\ntR"
ENDLESS = {
    "set_of_range": b"cbuiltins\nset\n(" + MANY + b"tR.",
    "frozenset_of_range": b"cbuiltins\nfrozenset\n(" + MANY + b"tR.",
    "deque_of_range": b"ccollections\ndeque\n(" + MANY + b"tR.",
    "counter_of_range": b"ccollections\nCounter\n(" + MANY + b"tR.",
    "dict_of_range": b"ccollections\nOrderedDict\n(" + MANY + b"tR.",
    "default_dict_of_range": b"ccollections\ndefaultdict\n(N" + MANY + b"tR.",
    "long_range": b"cbuiltins\nrange\n(I0\nI1000000000000\ntR.",
    "int_of_decimal": b"cbuiltins\nint\n(cdecimal\nDecimal\n(S'1e9999'\ntRtR.",
    "exponent": b"cdecimal\nDecimal\n(S'1e99999999'\ntR.",
    "long_number": b"cbuiltins\nint\n(S'" + b"9" * 4000 + b"'\ntR.",
    "number_of_a_list": b"cbuiltins\nint\n((ltR.",
    "key_in_a_call": b"\x80\x02cbuiltins\nset\n])" + b"2\x86" * 40 + b"a\x85R.",
    "pairs_of_no_pairs": b"ccollections\nOrderedDict\n((lS'ab'\natR.",
    "set_of_an_array": b"cbuiltins\nset\n(" + pickle.dumps(np.arange(9), 2)[2:-1] + b"tR.",
}


@pytest.mark.parametrize("name", ENDLESS)
def test_no_call_counts_or_iterates_without_a_bound(name: str) -> None:
    """Containers are made of values in the pickle, numbers of short ones, keys of plain ones."""
    with pytest.raises(Refused):
        opened(ENDLESS[name])


def test_containers_and_numbers_of_plain_values_are_made() -> None:
    """What honest pickles hold opens in every protocol."""
    values: list[Any] = [
        {1, "a", (2, (3, "b"))}, frozenset({1.5}), decimal.Decimal("1E+3"), range(5),
        slice(1, None), complex(1, 2), {np.float64(1): 2, np.str_("a"): 3, int: 4},
    ]  # fmt: skip
    for protocol in range(6):
        made = opened(pickle.dumps(values, protocol))
        assert values == made
        assert list(map(type, values)) == list(map(type, made))
        assert list(map(type, values[-1])) == list(map(type, made[-1]))


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("count", [10, 5000])
def test_no_two_arrays_share_their_values(protocol: int, count: int) -> None:
    """An array that was checked does not change by another one, or by the bytes of both."""
    array = np.arange(count, dtype="f8")
    maker, args, *state = array.__reduce_ex__(protocol)
    if protocol == 5:
        args = (bytearray(args[0]), *args[1:])
    else:
        state = [(*state[0][:4], state[0][4])]
    made = opened(
        pickle.dumps([Forged(maker, args, *state), Forged(maker, args, *state)], protocol)
    )
    made[0][:] = 7
    assert np.array_equal(array, made[1])


class Forged:
    """An object with another state than its own."""

    def __init__(self, *parts: object) -> None:
        self.parts = parts

    def __reduce__(self) -> object:
        return self.parts


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
DTYPE = b"cnumpy\ndtype\n(S'V8'\n\x89\x88tR"
HALF_MADE = {
    "in_a_list": b"(l" + ARRAY + b"a.",
    "in_a_dict": b"(dS'a'\n" + ARRAY + b"s.",
    "in_a_tuple": b"(" + ARRAY + b"t.",
    "in_an_object": b"csklearn.pipeline\nPipeline\n)\x81(dS'a'\n" + ARRAY + b"sb.",
    "as_result": ARRAY + b".",
    "dtype_in_an_array": ARRAY + b"(I1\n(I1\nt" + DTYPE + b"\x89S'12345678'\ntb.",
    "dtype_in_a_number": b"cnumpy.core.multiarray\nscalar\n(" + DTYPE + b"S'12345678'\ntR.",
    "in_itself": ARRAY + b"q\x00(I1\n(I1\ntcnumpy\ndtype\n(S'O8'\n\x89\x88tR"
    b"(I3\nS'|'\nNNNI-1\nI-1\nI63\ntb\x89(lh\x00atb.",
}


@pytest.mark.parametrize("name", HALF_MADE)
def test_an_array_or_datatype_is_part_of_nothing_before_it_has_its_state(name: str) -> None:
    """What was checked with one length or datatype does not get another one later."""
    with pytest.raises(Refused, match="before that has its values"):
        opened(HALF_MADE[name])


def test_a_name_of_an_older_scikit_learn_means_its_own_module(tmp_path: Path) -> None:
    """Another module with the short name of a compiled one is not imported."""
    (tmp_path / "_loss.py").write_text("raise SystemExit('imported')\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        made = opened(b"c_loss\nCyHalfBinomialLoss\n)R.")
    assert type(made).__name__ == "CyHalfBinomialLoss"
