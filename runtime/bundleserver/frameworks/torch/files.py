"""The kind of a PyTorch file, from its content and never its suffix; nothing in it runs."""

from __future__ import annotations

import enum
import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from bundleserver.errors import LoadError
from bundleserver.frameworks.archives import open_archive, refuse_bombs
from bundleserver.frameworks.interface import first_line, reading
from bundleserver.frameworks.pickles import ClassName, held_in
from bundleserver.frameworks.pickles.scan import named_classes
from bundleserver.frameworks.regular_files import open_regular


class Kind(enum.Enum):
    """The supported kinds of file; the value is the name for messages."""

    EXPORTED = "a torch.export archive"
    SCRIPT = "a TorchScript file"
    WEIGHTS = "a torch.save file"
    SAFETENSORS = "a safetensors file"


EXPORT = (
    "torch.export.export(model.eval(), (example,), dynamic_shapes=({0: torch.export.Dim('n')},))"
)
"""The line of Python that exports a program, which needs no code of the model, for any n rows."""

HOW_TO_EXPORT = f"torch.export.save({EXPORT}, 'model.pt2')"
"""The line that writes such a program."""

HOW_TO_SAVE = f"export it with {HOW_TO_EXPORT}, or script it with torch.jit.script"

_LEGACY = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The magic number of torch.save files before they were zip archives."""

_FOREIGN = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras)"),
    (b"\x93NUMPY", "a numpy array"),
    (b"\x1f\x8b", "compressed with gzip"),
)

_MOST_PICKLES = 4
_ONNX_SECOND_FIELDS = frozenset({b"\x12", b"\x1a", b"\x22", b"\x3a", b"\x42"})


def kind_of(path: Path) -> Kind:
    """Return the kind of a file.

    Raises:
        LoadError: it cannot be read, is damaged, or is of a kind that is not supported.
    """
    with reading(path), open_regular(path) as file:
        head = file.read(64)
        if head.startswith(b"PK"):
            return _kind_of_zip(path, file)
    if not head:
        raise LoadError(f"'{path}' is empty")
    if is_safetensors(head):
        return Kind.SAFETENSORS
    if _LEGACY in head[:32]:
        return Kind.WEIGHTS
    if holds_pickled_tensors(path):
        return Kind.WEIGHTS
    raise LoadError(
        f"'{path}' is {_foreign(head)}, not a PyTorch file; serve a torch.export archive, a "
        "TorchScript file, or a state dict of torch.save or safetensors"
    )


def is_safetensors(head: bytes) -> bool:
    """Ask whether a file with these first bytes says the length of a header, and begins one."""
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") < 1 << 32


def is_torch_file(path: Path) -> bool:
    """Ask whether a file with a pickle's suffix is one of these kinds."""
    try:
        kind_of(path)
    except LoadError:
        return False
    return True


def is_of_torch(name: ClassName) -> bool:
    """Ask whether a class is torch's, and more than a tensor."""
    return name.module.partition(".")[0] == "torch" and not stores_tensors(name)


def holds_pickled_tensors(path: Path) -> bool:
    """Ask whether pickle, not torch.save, wrote a dict of a module's tensors, or a checkpoint.

    Raises:
        LoadError: the file cannot be read.
    """
    held = held_in(path)
    if not held.is_plain or not any(name.module == "torch._utils" for name in held.named):
        return False
    keys = held.keys.union(*(part.keys for part in held.parts))
    # Tensors under other names are data, such as means.
    is_modules = any("." in key or key in ("weight", "bias") for key in keys)
    return is_modules and all(map(stores_tensors, held.named))


def first_class(path: Path) -> str | None:
    """Return the first class in a torch.save file that is not part of how torch stores tensors.

    None: there is no such class, or the file cannot be read that far.
    """
    try:
        with open_regular(path) as file:
            size = path.stat().st_size
            names = _names_in_zip(file, size) if zipfile.is_zipfile(file) else _names(file, size)
            return next((str(name) for name in names if not stores_tensors(name)), None)
    except Exception:  # noqa: BLE001 - what unpacks a damaged archive may raise anything
        return None


def unreadable(path: Path, kind: Kind, error: Exception) -> LoadError:
    """Say that torch's own reader failed on a file."""
    import torch

    return LoadError(
        f"'{path}' is {kind.value} that torch {torch.__version__} cannot open: "
        f"{first_line(error)}; it is damaged, or written by another version of torch: save it "
        "again with this one"
    )


def _kind_of_zip(path: Path, file: io.BufferedReader) -> Kind:
    try:
        with open_archive(file) as archive:
            names = archive.namelist()
            refuse_bombs(path, os.fstat(file.fileno()).st_size, archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise LoadError(
            f"'{path}' is a damaged zip archive: {str(error).lower()}; copy it again"
        ) from error
    inner = {name.partition("/")[2] for name in names}
    if any(name.startswith("data/aotinductor/") for name in inner):
        raise LoadError(
            f"'{path}' is compiled by AOTInductor for one machine; save the exported program "
            f"instead: {HOW_TO_EXPORT}"
        )
    if "serialized_exported_program.json" in names or any(
        name.startswith("models/") and name.endswith(".json") for name in inner
    ):
        return Kind.EXPORTED
    if "data.pkl" in inner:
        scripted = "constants.pkl" in inner or any(name.startswith("code/") for name in inner)
        return Kind.SCRIPT if scripted else Kind.WEIGHTS
    raise LoadError(f"'{path}' is {_foreign_zip(set(names))} without a PyTorch model")


def _foreign(head: bytes) -> str:
    for magic, what in _FOREIGN:
        if head.startswith(magic):
            return what
    if head[0] == 0x80 and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return "a plain pickle"
    if head[0] == 0x08 and head[2:3] in _ONNX_SECOND_FIELDS:
        return "an ONNX model"
    return "of an unknown kind"


def _foreign_zip(names: set[str]) -> str:
    if "model.weights.h5" in names:
        return "a Keras archive"
    if names and all(name.endswith(".npy") for name in names):
        return "an archive of numpy arrays"
    return "a zip archive"


def _names(file: BinaryIO, size: int) -> Iterator[ClassName]:
    """Name the classes in a legacy file: a number, the protocol, the system, the object."""
    file.seek(0)
    yield from named_classes(file, size, 4)


def _names_in_zip(file: io.BufferedReader, size: int) -> Iterator[ClassName]:
    with open_archive(file) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        for name in names[:_MOST_PICKLES]:
            with archive.open(name) as unpacked:
                yield from named_classes(cast(BinaryIO, unpacked), size)


def stores_tensors(name: ClassName) -> bool:
    """Ask whether a name in a pickle is part of how tensors and plain numbers are stored."""
    module, short = name
    if module in ("torch._utils", "torch.storage", "torch.serialization", "_codecs"):
        return True
    if module == "torch":
        return short.endswith("Storage") or short in ("Size", "device")
    return module in ("collections", "copyreg") or module.startswith("numpy")
