"""Ways in which a published version is broken; the server has to refuse each of them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

MANIFEST = "manifest.json"


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.name != MANIFEST)


def _document(directory: Path) -> dict[str, object]:
    return json.loads((directory / MANIFEST).read_text())


def _other_bytes(directory: Path) -> None:
    path = _files(directory)[-1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(bytes(content))


def _truncated(directory: Path) -> None:
    """Cut the files, with the digests of what is left."""
    document = _document(directory)
    for component in document["components"].values():
        path = directory / component["path"]
        content = path.read_bytes()[:-40]
        path.write_bytes(content)
        component |= {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    (directory / MANIFEST).write_text(json.dumps(document))


def _fifo_manifest(directory: Path) -> None:
    (directory / MANIFEST).unlink()
    os.mkfifo(directory / MANIFEST)


def _fifo_file(directory: Path) -> None:
    path = _files(directory)[-1]
    path.unlink()
    os.mkfifo(path)


def _endless_manifest(directory: Path) -> None:
    (directory / MANIFEST).unlink()
    (directory / MANIFEST).symlink_to("/dev/zero")


def _no_file(directory: Path) -> None:
    _files(directory)[-1].unlink()


def _other_example(directory: Path) -> None:
    document = _document(directory)
    outputs = document["examples"][0]["outputs"]
    outputs["y"] = [-1e6 for _ in outputs["y"]]
    (directory / MANIFEST).write_text(json.dumps(document))


def _unknown_framework(directory: Path) -> None:
    document = _document(directory)
    document["components"]["model"]["framework"] = "sklern"
    (directory / MANIFEST).write_text(json.dumps(document))


BREAKS: dict[str, Callable[[Path], None]] = {
    "bad digest": _other_bytes,
    "truncated pickle": _truncated,
    "FIFO as manifest": _fifo_manifest,
    "FIFO as file": _fifo_file,
    "/dev/zero as manifest": _endless_manifest,
    "no file": _no_file,
    "other example": _other_example,
    "unknown framework": _unknown_framework,
}
