"""The tensors of a safetensors file: plain bytes, each described by a header in JSON.

Eight bytes with the header's length, the header, and the tensors' bytes one after the other. The
file is read here, so that no library is needed, and an error says which tensor it is about.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch

from bundleserver.documents.forms import quoted
from bundleserver.errors import LoadError
from bundleserver.frameworks.free_memory import free_memory
from bundleserver.frameworks.giving_up import go_on
from bundleserver.frameworks.interface import first_line, reading
from bundleserver.frameworks.regular_files import open_regular

MOST_HEADER_BYTES = 8 << 20

_LENGTH_BYTES = 8
_PIECE_BYTES = 1 << 20
_LARGEST = 1 << 48
_METADATA = "__metadata__"

DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "BOOL": torch.bool,
        "U8": torch.uint8,
        "I8": torch.int8,
        "I16": torch.int16,
        "U16": torch.uint16,
        "I32": torch.int32,
        "U32": torch.uint32,
        "I64": torch.int64,
        "U64": torch.uint64,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "F32": torch.float32,
        "F64": torch.float64,
        "C64": torch.complex64,
        "F8_E4M3": torch.float8_e4m3fn,
        "F8_E5M2": torch.float8_e5m2,
    }
)
"""The datatypes of the format that torch has too."""


@dataclass(frozen=True)
class _Described:
    """One tensor of a header: ``begin`` and ``end`` count from the first byte of all tensors."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


class _Broken(ValueError):
    """A file that breaks a rule of the format; says which, and of what."""


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file by name, on the CPU, each with its own memory.

    Raises:
        LoadError: the file cannot be read, breaks a rule of the format, or does not fit into the
            free memory.
    """
    with reading(path), open_regular(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        try:
            described = _tensors(_header(file, size), size - file.tell())
        except _Broken as error:
            raise LoadError(
                f"'{path}' is not a valid safetensors file: {error}; it is damaged: copy it again, "
                "or save it again with safetensors.torch.save_file"
            ) from error
        if size > (room := free_memory()):
            raise LoadError(
                f"'{path}' takes at least {size} bytes of memory, and {room} are free; raise the "
                "container's memory limit"
            )
        return {tensor.name: _read(path, file, tensor) for tensor in described}


def _header(file: io.BufferedReader, size: int) -> dict[str, object]:
    """Return the header; the file is at the tensors' first byte then."""
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if length > min(size - _LENGTH_BYTES, MOST_HEADER_BYTES):
        raise _Broken(
            f"its header has {length} bytes, and the file {size}; at most {MOST_HEADER_BYTES} are "
            "read"
        )
    try:
        header = json.loads(file.read(length).decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise _Broken(f"its header cannot be read: {first_line(error)}") from error
    if not isinstance(header, dict):
        raise _Broken("its header is not a valid JSON object")
    return header


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it has a name twice")
    return found


def _tensors(header: Mapping[str, object], size: int) -> list[_Described]:
    """Return what a header describes, in the order of the bytes: all ``size`` of them, once."""
    metadata = header.get(_METADATA, {})
    if not isinstance(metadata, dict):
        raise _Broken(f"its '{_METADATA}' is not a valid JSON object")
    found = [_described(name, said) for name, said in header.items() if name != _METADATA]
    found.sort(key=lambda tensor: (tensor.begin, tensor.end))
    at = 0
    for tensor in found:
        if tensor.begin != at:
            where = "overlaps the one before" if tensor.begin < at else "leaves bytes before it out"
            raise _Broken(f"{_shown(tensor.name)} {where}")
        at = tensor.end
    if at != size:
        raise _Broken(f"its tensors have {at} bytes, and {size} follow the header")
    return found


def _described(name: str, said: object) -> _Described:
    entry = said if isinstance(said, dict) else {}
    dtype = DTYPES.get(str(entry.get("dtype")))
    if dtype is None:
        raise _Broken(
            f"{_shown(name)} has the dtype {str(entry.get('dtype'))[:20]!r}; expected one of "
            f"{quoted(DTYPES)}"
        )
    shape, offsets = _sizes(entry.get("shape")), _sizes(entry.get("data_offsets"))
    if shape is None:
        raise _Broken(f"{_shown(name)} has no valid shape")
    if offsets is None or len(offsets) != 2:
        raise _Broken(f"{_shown(name)} has no valid data_offsets")
    begin, end = offsets
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise _Broken(
            f"{_shown(name)} has {end - begin} bytes; its dtype and its shape "
            f"{str([*shape])[:100]} take {str(math.prod(shape) * dtype.itemsize)[:30]}"
        )
    return _Described(name, dtype, shape, begin, end)


def _sizes(value: object) -> tuple[int, ...] | None:
    """Return a list of numbers of the format; None if it is none. A tensor has few dimensions."""
    if not isinstance(value, list) or len(value) > 64:
        return None
    sizes = tuple(value)
    return sizes if all(type(one) is int and 0 <= one < _LARGEST for one in sizes) else None


def _read(path: Path, file: io.BufferedReader, tensor: _Described) -> torch.Tensor:
    """Read the next tensor of a file."""
    raw = torch.empty(tensor.end - tensor.begin, dtype=torch.uint8)
    left = raw.numpy().data
    while left:
        go_on()
        count = file.readinto(left[:_PIECE_BYTES])
        if not count:
            raise LoadError(f"'{path}' was made shorter while it was read; load it again")
        left = left[count:]
    if tensor.dtype is torch.bool:
        # Other bytes than 0 and 1 would count as themselves where masks are counted.
        return (raw != 0).reshape(tensor.shape)
    return raw.view(tensor.dtype).reshape(tensor.shape)


def _shown(name: str) -> str:
    return f"the tensor '{name[:100]}'"
