"""The tensors of an archive: plain bytes, and shapes that lie inside them."""

from __future__ import annotations

from typing import Any

import torch
from torch._export.serde import schema
from torch._export.serde.serialize import deserialize_scalar_type

from bundleserver.frameworks.torch.checked.archive import CONSTANTS, WEIGHTS, Archive
from bundleserver.frameworks.torch.checked.problems import NotAllowed, shown
from bundleserver.frameworks.torch.checked.schema import converted

_STRIDED = int(schema.Layout.Strided)
_MOST_TENSORS = 200_000


def read_weights(archive: Archive) -> dict[str, torch.Tensor]:
    """Return the parameters and buffers of an archive, by name.

    Raises:
        NotAllowed: one is not plain bytes.
    """
    return _read(archive, WEIGHTS, "model_weights_config.json", "weight_")


def read_constants(archive: Archive) -> dict[str, torch.Tensor]:
    """Return the constants of an archive, by name.

    Raises:
        NotAllowed: one is not plain bytes.
    """
    return _read(archive, CONSTANTS, "model_constants_config.json", "tensor_")


def _read(archive: Archive, place: str, config: str, prefix: str) -> dict[str, torch.Tensor]:
    where = f"'{place}{config}'"
    payload: Any = converted(schema.PayloadConfig, archive.document(place + config), where)
    if len(payload.config) > _MOST_TENSORS:
        raise NotAllowed(where, f"has more than {_MOST_TENSORS} tensors")
    files: dict[str, torch.Tensor] = {}
    tensors = {}
    for name, entry in payload.config.items():
        told = f"{where}: {shown(name)}"
        if entry.use_pickle or entry.tensor_meta is None or not entry.path_name.startswith(prefix):
            raise NotAllowed(
                told, "is an object that was pickled; only tensors as plain bytes are opened"
            )
        tensors[name] = _tensor(archive, place, entry, files, told)
    return tensors


def _tensor(
    archive: Archive, place: str, entry: Any, files: dict[str, torch.Tensor], told: str
) -> torch.Tensor:
    meta = entry.tensor_meta
    size, stride = _numbers(meta.sizes, told), _numbers(meta.strides, told)
    (offset,) = _numbers([meta.storage_offset], told)
    if meta.device.type != "cpu":
        raise RuntimeError(f"a tensor is of the device '{meta.device.type}'; expected 'cpu'")
    if meta.layout != _STRIDED or len(size) != len(stride):
        raise NotAllowed(told, "is not a dense tensor")
    dtype = deserialize_scalar_type(meta.dtype)
    stored = _stored(archive, place + entry.path_name, dtype, files)
    count = 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 not in size and offset + count > stored.numel():
        raise NotAllowed(told, "is larger than its bytes")
    tensor = torch.as_strided(stored, size, stride, 0 if 0 in size else offset)
    if entry.is_param:
        return torch.nn.Parameter(tensor, requires_grad=meta.requires_grad)
    return tensor


def _stored(
    archive: Archive, name: str, dtype: torch.dtype, files: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Return the numbers of an entry; tensors that share it share its memory."""
    if name not in files:
        raw = torch.empty(archive.size(name), dtype=torch.uint8)
        if raw.numel():
            archive.read_into(name, raw.numpy().data)
        files[name] = raw
    raw = files[name]
    if dtype is torch.bool:
        # Other bytes than 0 and 1 would count as themselves where masks are counted.
        return raw != 0
    if raw.numel() % dtype.itemsize:
        raise NotAllowed(f"the entry '{name}'", f"is not a number of {dtype}")
    return raw.view(dtype)


def _numbers(values: list[Any], told: str) -> list[int]:
    numbers = []
    for value in values:
        if value.type != "as_int" or not 0 <= value.value < 1 << 48:
            raise NotAllowed(told, "has a size that is no number")
        numbers.append(value.value)
    return numbers
