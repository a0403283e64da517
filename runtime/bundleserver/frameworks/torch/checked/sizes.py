"""What the arguments of an operator have to be for its kernel not to leave its arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from bundleserver.frameworks.torch.checked.recurrent import RECURRENT

_SCALES = (1e-6, 1e6)


def _has(value: Tensor | None, *shape: int) -> bool:
    return value is None or tuple(value.shape) == shape


def _batch_norm(given: Mapping[str, Any]) -> bool:
    values = given["input"]
    names = ("weight", "bias", "running_mean", "running_var")
    parts = [given.get(name) for name in names]
    has_statistics = all(part is not None for part in parts[2:])
    is_training = given.get("training", False)
    return (
        values.dim() >= 2
        and all(_has(part, values.shape[1]) for part in parts)
        and (has_statistics or (is_training and parts[2] is parts[3] is None))
    )


def _group_norm(given: Mapping[str, Any]) -> bool:
    values, rows, channels = given["input"], given["N"], given["C"]
    return (
        values.dim() >= 2
        and tuple(values.shape[:2]) == (rows, channels)
        and rows * channels * given["HxW"] == values.numel()
        and given["group"] >= 1
        and channels % given["group"] == 0
        and all(_has(given.get(name), channels) for name in ("weight", "bias"))
    )


def _weight_norm(given: Mapping[str, Any]) -> bool:
    values, lengths, dim = given["v"], given["g"], given["dim"]
    if dim not in (0, values.dim() - 1):
        return bool(dim == -1)
    shape = [1] * values.dim()
    if values.dim():
        shape[dim] = values.shape[dim]
    return tuple(lengths.shape) == tuple(shape) and values.dtype == lengths.dtype


def _attention(given: Mapping[str, Any]) -> bool:
    query, key, value = given["query"], given["key"], given["value"]
    mask = given.get("attn_mask", given.get("attn_bias"))
    if not query.dim() == key.dim() == value.dim() == 4 or 0 in (*query.shape, *key.shape):
        return False
    size = (*query.shape[:2], query.shape[2], key.shape[2])
    return (
        tuple(query.shape[:2]) == tuple(key.shape[:2]) == tuple(value.shape[:2])
        and key.shape[2] == value.shape[2]
        and query.shape[3] == key.shape[3] == value.shape[3]
        and query.dtype == key.dtype == value.dtype
        and (mask is None or (mask.dtype == query.dtype and _is_broadcast(mask, size)))
    )


def _is_broadcast(mask: Tensor, size: tuple[int, ...]) -> bool:
    return mask.dim() in (2, 4) and all(
        one in (1, other) for one, other in zip(mask.shape, size[-mask.dim() :], strict=True)
    )


def _are_dims(dims: list[int], values: Tensor) -> bool:
    return (
        0 < len(dims) == len({*dims})
        and all(0 <= dim < values.dim() for dim in dims)
        and 0 not in values.shape
    )


def _fourier(given: Mapping[str, Any]) -> bool:
    values, dims = given["self"], given["dim"]
    if not _are_dims(dims, values) or given["normalization"] not in (0, 1, 2):
        return False
    last = given.get("last_dim_size")
    is_whole = values.is_complex() or last is None
    return is_whole and (last is None or (last >= 1 and values.shape[dims[-1]] == last // 2 + 1))


def _bag(given: Mapping[str, Any]) -> bool:
    weight, indices, offsets = given["weight"], given["indices"], given["offsets"]
    if weight.dim() != 2 or indices.dim() != 1 or offsets.dim() != 1 or not offsets.numel():
        return False
    count, each = indices.numel(), given.get("per_sample_weights")
    steps = offsets.to(torch.int64)
    return (
        given.get("mode", 0) in (0, 1, 2)
        and indices.dtype == offsets.dtype
        and (each is None or (_has(each, count) and each.dtype == weight.dtype))
        and bool((steps[0] == 0) & (steps[-1] <= count) & (steps[1:] >= steps[:-1]).all())
        and (not count or bool((indices.min() >= 0) & (indices.max() < weight.shape[0])))
    )


def _shuffled(given: Mapping[str, Any]) -> bool:
    values, groups = given["self"], given["groups"]
    return bool(values.dim() >= 3 and groups >= 1 and values.shape[1] % groups == 0)


def _root_mean(given: Mapping[str, Any]) -> bool:
    shape = tuple(given["normalized_shape"])
    return (
        0 < len(shape) <= given["input"].dim()
        and tuple(given["input"].shape[-len(shape) :]) == shape
        and _has(given.get("weight"), *shape)
    )


def _scaled(given: Mapping[str, Any]) -> bool:
    """Check the factors of an interpolation, which become places in its input."""
    lowest, highest = _SCALES
    factors: list[Any] = []
    for name, value in given.items():
        if name.startswith("scale"):
            factors += value if isinstance(value, (list, tuple)) else [value]
    return all(one is None or lowest <= one <= highest for one in factors)


def _pairs(given: Mapping[str, Any]) -> bool:
    one, other = given["x1"], given["x2"]
    return bool(one.dim() == other.dim() >= 2 and one.shape[-1] == other.shape[-1])


def _bits(given: Mapping[str, Any]) -> bool:
    """Refuse other bytes than 0 and 1 as truth: masks are counted by them."""
    return given.get("dtype") is not torch.bool


def _divided(given: Mapping[str, Any]) -> bool:
    """Check a division of integers, of which one has no result and ends the process."""
    values, by = given["self"], given["other"]
    if given.get("rounding_mode") != "trunc" or not _is_integer(values):
        return True
    lowest = torch.iinfo(values.dtype).min
    is_minus = by == -1 if not isinstance(by, Tensor) else bool((by == -1).any())
    return not (is_minus and bool((values == lowest).any()))


def _multiple(given: Mapping[str, Any]) -> bool:
    return all(
        not _is_integer(one) or not bool((one == torch.iinfo(one.dtype).min).any())
        for one in (given["self"], given["other"])
    )


def _is_integer(value: Any) -> bool:
    if not isinstance(value, Tensor) or value.dtype is torch.bool:
        return False
    return not value.is_floating_point() and not value.is_complex()


def _finite(given: Mapping[str, Any]) -> bool:
    return bool(given["self"].isfinite().all())


_INTERPOLATIONS = (
    "_upsample_bicubic2d_aa", "_upsample_bilinear2d_aa", "_upsample_nearest_exact1d",
    "_upsample_nearest_exact2d", "_upsample_nearest_exact3d", "upsample_bicubic2d",
    "upsample_bilinear2d", "upsample_linear1d", "upsample_nearest1d", "upsample_nearest2d",
    "upsample_nearest3d", "upsample_trilinear3d",
)  # fmt: skip

CHECKS: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    **dict.fromkeys(_INTERPOLATIONS, _scaled),
    **RECURRENT,
    "_cdist_forward": _pairs,
    "_embedding_bag": _bag,
    "_embedding_bag_forward_only": _bag,
    "_fft_c2c": _fourier,
    "_fft_c2r": _fourier,
    "_fft_r2c": _fourier,
    "_fused_rms_norm": _root_mean,
    "_native_batch_norm_legit": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "_pdist_forward": lambda given: given["self"].dim() == 2,
    "_scaled_dot_product_efficient_attention": _attention,
    "_scaled_dot_product_flash_attention": _attention,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_weight_norm": _weight_norm,
    "_weight_norm_interface": _weight_norm,
    "div": _divided,
    "div_": _divided,
    "divide": _divided,
    "divide_": _divided,
    "embedding_bag": _bag,
    "lcm": _multiple,
    "lcm_": _multiple,
    "linalg_eig": _finite,
    "linalg_eigvals": _finite,
    "native_batch_norm": _batch_norm,
    "native_channel_shuffle": _shuffled,
    "native_group_norm": _group_norm,
    "view": _bits,
    "view_copy": _bits,
}
"""What is asked of the arguments of an operator of ATen, by its name."""
