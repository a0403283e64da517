"""Names of files that are no models: those of uploads in progress, backups, and others' markers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from pathlib import PurePath

from bundleserver.bundle.links import File
from bundleserver.bundle.trust.verification import SIGNATURE_NAME
from bundleserver.frameworks import is_model_file_name
from bundleserver.manifest import MANIFEST_NAME
from bundleserver.versions.serving_config import CONFIG_NAME

ABANDONED_AFTER_SECONDS = 60.0
"""An upload whose file has not changed for so long is not waited for any more."""

_UPLOADED = frozenset(
    {
        ".aria2",
        ".crdownload",
        ".download",
        ".filepart",
        ".gstmp",
        ".incomplete",
        ".opdownload",
        ".part",
        ".partial",
        ".temp",
        ".tmp",
        ".uploading",
    }
)
# What rsync and boto write before they rename it: '.model.pkl.x1Y2z3' and 'model.pkl.0aF3b9C2'.
_OF_RSYNC = re.compile(r"\.(?P<name>.+)\.[A-Za-z0-9]{6}")
_OF_BOTO = re.compile(r"(?P<name>.+)\.[0-9A-Fa-f]{8}")

_BACKUPS = (".bak", ".lock", ".orig", ".swo", ".swp", "~")
_OURS = frozenset({CONFIG_NAME, MANIFEST_NAME, SIGNATURE_NAME})
# KServe's agent says so that a download is complete: 'SUCCESS.' and a digest.
_MARKER = re.compile(r"SUCCESS(\..*)?")

_OTHER_FORMATS = frozenset(
    {
        ".bin",
        ".bst",
        ".cbm",
        ".engine",
        ".gguf",
        ".h5",
        ".hdf5",
        ".keras",
        ".mar",
        ".mlmodel",
        ".model",
        ".pb",
        ".plan",
        ".pmml",
        ".rds",
        ".safetensors",
        ".skops",
        ".tflite",
        ".ubj",
        ".xgb",
    }
)
_DOCUMENTS = frozenset(
    {".cfg", ".csv", ".html", ".ini", ".ipynb", ".log", ".md", ".pdf", ".png", ".py", ".rst"}
    | {".sh", ".svg", ".toml", ".txt", ".xml", ".yaml", ".yml"}
)


def is_partial(name: str) -> bool:
    """Ask whether a file of that name is probably an upload that is not complete yet."""
    if PurePath(name.lower()).suffix in _UPLOADED:
        return True
    found = _OF_RSYNC.fullmatch(name) or _OF_BOTO.fullmatch(name)
    return found is not None and is_model_file_name(found["name"])


def is_foreign(name: str) -> bool:
    """Ask whether somebody may have put a file of that name there as a model, or part of one."""
    is_hidden = name.startswith((".", "_", "#"))
    is_other = name in _OURS or _MARKER.fullmatch(name) is not None
    return not (is_hidden or is_other or name.lower().endswith(_BACKUPS) or is_partial(name))


def is_probably_a_model(name: str) -> bool:
    """Ask whether a foreign file is by its name a model, of a format that nothing here opens."""
    path = PurePath(name.lower())
    if not is_foreign(name) or path.suffix in _DOCUMENTS:
        return False
    return path.suffix in _OTHER_FORMATS or "model" in path.stem or path.name == "mlmodel"


def in_progress(files: Iterable[File]) -> tuple[str, ...]:
    """Return the files that are being uploaded; one that has rested for a minute was abandoned."""
    now = time.time()
    return tuple(
        name
        for name, _, changed_ns, _ in files
        if is_partial(name) and abs(now - changed_ns / 1e9) < ABANDONED_AFTER_SECONDS
    )
