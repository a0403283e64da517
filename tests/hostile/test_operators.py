"""Operators that a checked program may call: none believes the sizes that it is told."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bundleserver.errors import LoadError
from bundleserver.frameworks.torch.checked import open_checked, with_checks
from bundleserver.frameworks.torch.checked.calls import checked_call
from bundleserver.frameworks.torch.checked.operators import _aten
from bundleserver.frameworks.torch.checked.sizes import CHECKS

CALLS = json.loads(Path(__file__).with_name("operator_calls.json").read_text())
"""One valid call of each overload, made by torch's own samples."""

ATEN = torch.ops.aten
GROUPS = 4
SECONDS = 60
SLOW = ("adaptive", "arange", "bincount", "combinations", "conv", "fft_", "mvlgamma")
SLOW += ("repeat_interleave", "replication", "special_l", "tensor_split")
"""Those that compute for long with a large number, which is no matter of memory."""

ROOM = 2 << 30
"""The memory that a call may take beyond what the process has."""

COMPUTES_ALONE = frozenset(
    {
        "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "_addmm_activation", "_aminmax",
        "_assert_async", "_assert_scalar", "_assert_tensor_metadata", "_conj", "_conj_physical",
        "_convolution", "_convolution_mode", "_euclidean_dist", "_functional_assert_async",
        "_functional_assert_scalar", "_is_all_true", "_is_any_true", "_linalg_det",
        "_linalg_eigh", "_linalg_slogdet", "_linalg_solve_ex", "_linalg_svd",
        "_local_scalar_dense", "_log_softmax", "_logcumsumexp", "_neg_view", "_pad_circular",
        "_pad_enum", "_prelu_kernel", "_safe_softmax", "_scaled_dot_product_attention_math",
        "_shape_as_tensor", "_softmax", "_stack", "_to_copy", "_trilinear", "_unsafe_view",
    }
)  # fmt: skip
"""Private operators that torch.export writes, and that compare the sizes which they use."""


def value(one: Any) -> Any:
    """Return an argument as torch takes it."""
    if isinstance(one, list):
        return [value(each) for each in one]
    if not isinstance(one, dict):
        return one
    if "c" in one:
        return complex(*one["c"])
    if "dtype" in one:
        return getattr(torch, one["dtype"])
    kind = getattr(torch, one["d"])
    if "v" in one:
        return torch.tensor(one["v"], dtype=torch.int64).to(kind).reshape(one["t"])
    return torch.linspace(0.1, 0.9, torch.Size(one["t"]).numel()).to(kind).reshape(one["t"])


def resized(tensor: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """Return a tensor of other sizes, with as many numbers as those need."""
    count = torch.Size(sizes).numel()
    flat = tensor.flatten() if tensor.numel() else torch.zeros(1, dtype=tensor.dtype)
    return flat.repeat(count // flat.numel() + 1)[:count].reshape(sizes)


def changed(one: Any) -> Iterator[Any]:
    """Yield other arguments in place of one."""
    if isinstance(one, torch.Tensor):
        sizes = list(one.shape)
        for at, size in enumerate(sizes):
            for other in (0, 1, size + 1, size * 700):
                if one.numel() * other < 300_000:
                    yield resized(one, [*sizes[:at], other, *sizes[at + 1 :]])
        yield from (resized(one, other) for other in (sizes[1:], [1, *sizes], [1], []))
        yield one.to(torch.int64)
        if one.numel() and one.dtype == torch.int64:
            for far in (-(1 << 40), 1 << 40, -(1 << 63)):
                yield torch.full_like(one, far)
        if one.is_floating_point():
            yield torch.full_like(one, float("nan"))
    elif type(one) is int:
        yield from (-1, 0, 2, 500, -(1 << 40), 1 << 62)
    elif type(one) is float:
        yield from (0.0, -1.0, 1e-30, 1e30, float("nan"))
    elif isinstance(one, list):
        yield from ([], one[:-1], [*one, *one[-1:]])
        for at, each in enumerate(one[:6]):
            for other in changed(each):
                yield [*one[:at], other, *one[at + 1 :]]


def overload(name: str) -> Any:
    """Return an operator by its name with that of its overload."""
    operator, _, which = name.partition(".")
    return getattr(getattr(ATEN, operator), which)


def tried(name: str) -> None:
    """Call an operator as a file might: some of all changes of its arguments."""
    call = checked_call(overload(name))
    args, keywords = CALLS[name]
    chooses = random.Random(name)  # noqa: S311 - the same changes in every run
    for at, one in enumerate(args):
        others = list(changed(value(one)))
        for other in chooses.sample(others, min(12, len(others))):
            given = [other if place == at else value(each) for place, each in enumerate(args)]
            try:
                call(*given, **{key: value(each) for key, each in keywords.items()})
            except Exception:  # noqa: BLE001, S112 - a refusal is what should come
                continue


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's processes")
@pytest.mark.parametrize("group", range(GROUPS))
def test_no_operator_of_the_list_crashes_with_other_sizes(group: int) -> None:
    """A call with wrong sizes, places and numbers is an error, or a result: never a crash."""
    names = [name for name in sorted(CALLS)[group::GROUPS] if not name.startswith(SLOW)]
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        torch.set_num_threads(1)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        room = pages * resource.getpagesize() + ROOM
        resource.setrlimit(resource.RLIMIT_AS, (room, room))
        for name in names:
            os.write(writes, f"{name}\n".encode())
            tried(name)
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as told:
        last = (told.read().split() or [""])[-1]
    _, status = os.waitpid(child, 0)
    assert 0 == status, f"'{last}' ended its process with the signal {status & 127}"


def test_private_operators_are_checked_or_named_here() -> None:
    """A kernel that torch keeps to itself is on the list only for a reason."""
    private = {name for name in _aten() if name.startswith("_") and not name.startswith("__")}

    assert set() == private - CHECKS.keys() - COMPUTES_ALONE
    assert set() == CHECKS.keys() - _aten()


X = torch.randn(2, 6, 4)
WRONG = {
    "batch norm": (ATEN._native_batch_norm_legit_no_training.default, X, *[X[0, 0, :1]] * 4, 0, 0),
    "batch norm without statistics": (
        ATEN._native_batch_norm_legit.no_stats, X, X[0, 0, :1], None, False, 0.1, 1e-5,
    ),
    "group norm": (ATEN.native_group_norm.default, X, None, None, 9, 600, 4000, 2, 1e-5),
    "weight norm": (ATEN._weight_norm_interface.default, X[0], X[0, :1, :1], 0),
    "public weight norm": (ATEN._weight_norm.default, X[0], X[0, :1, :1], 0),
    "attention": (
        ATEN._scaled_dot_product_flash_attention_for_cpu.default, X[None], X[None], X[None, :, :3],
    ),
    "offsets": (
        ATEN.embedding_bag.default, X[0], torch.tensor([0, 1]), torch.tensor([0, -99999]),
    ),
    "places in a bag": (
        ATEN._embedding_bag_forward_only.default, X[0], torch.tensor([0, 6]), torch.tensor([0]),
    ),
    "transform": (ATEN._fft_r2c.default, X, [-7], 0, True),
    "transform back": (ATEN._fft_c2r.default, X.cfloat(), [2], 0, 90_000),
    "truth of other bytes": (ATEN.view.dtype, X.to(torch.uint8), torch.bool),
    "gru": (ATEN.gru.input, X, X[:1, :, :4], [X[0, :3]] * 4, True, 1, 0.0, False, False, False),
    "scale": (ATEN.upsample_nearest1d.default, X, [90], 1e-30),
}  # fmt: skip


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_a_kernel_that_believes_sizes_is_not_reached(call: tuple[Any, ...]) -> None:
    """What would read behind its arrays is refused before the call."""
    with pytest.raises(RuntimeError, match="do not fit"):
        checked_call(call[0])(*call[1:])


@pytest.mark.parametrize("name", ["mul", "lshift", "add", "floordiv"])
def test_sizes_do_not_grow_by_arithmetic(name: str) -> None:
    """Numbers of a program stay those of 64 bits, and texts and lists are none."""
    import operator

    call = checked_call(getattr(operator, name))
    assert getattr(operator, name)(8, 2) == call(8, 2)
    for given in (("a", 1 << 40), ([1], [2]), (1 << 65, 1)):
        with pytest.raises(RuntimeError):
            call(*given)


class Network(nn.Module):
    """What decomposes to kernels with checks."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Sequential(nn.Conv1d(6, 8, 1), nn.BatchNorm1d(8), nn.GroupNorm(2, 8))
        self.cell = nn.LSTM(4, 5, 2, batch_first=True, bidirectional=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.interpolate(self.front(x), scale_factor=2.0)[..., :4]
        y = nn.functional.scaled_dot_product_attention(y[None], y[None], y[None])[0]
        return self.cell(y)[0] + torch.fft.irfft(torch.fft.rfft(y), n=10)


@pytest.mark.parametrize("is_decomposed", [False, True])
def test_honest_programs_answer_the_same_with_checks(is_decomposed: bool, tmp_path: Path) -> None:
    """Whole or decomposed, a network passes its checks."""
    network = Network().eval()
    program = torch.export.export(network, (X,))
    torch.export.save(
        program.run_decompositions() if is_decomposed else program, tmp_path / "m.pt2"
    )

    module = open_checked(tmp_path / "m.pt2").module()
    with_checks(module)

    with torch.no_grad():
        torch.testing.assert_close(network(X), module(X))


class Calls(nn.Module):
    """Calls one operator."""

    def __init__(self, call: Any) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.call(x)


def test_an_operator_off_the_list_is_refused(tmp_path: Path) -> None:
    """A view of memory that nobody compares is no operator of a checked program."""
    call = Calls(lambda x: ATEN._reshape_alias.default(x, [48], [1]).clone())
    torch.export.save(torch.export.export(call, (X,)), tmp_path / "m.pt2")

    with pytest.raises(LoadError, match="_reshape_alias"):
        open_checked(tmp_path / "m.pt2")
