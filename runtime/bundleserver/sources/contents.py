"""Files whose names do not tell: what is in them says whether they are models."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from bundleserver.bundle.inferring.mlmodel_files import MLMODEL
from bundleserver.errors import BundleServerError
from bundleserver.frameworks import framework_of_file, is_model_file_name
from bundleserver.frameworks.file_names import suffix_of
from bundleserver.manifest import MANIFEST_NAME
from bundleserver.versions.serving_config import CONFIG_NAME

_ANY_TEXT = ".txt"
"""The suffix of requirements and notes, too, which lie beside models and models' directories."""


def is_model_file(name: str) -> bool:
    """Ask whether a file of that name may be a model, or says that its directory is one."""
    special = name in (MANIFEST_NAME, CONFIG_NAME)
    return name == MLMODEL or (is_model_file_name(name) and not special)


def is_model_in(directory: Path, name: str) -> bool:
    """Ask whether a file of a directory may be a model; of text the content tells."""
    return is_model_file(name) and (suffix_of(name) != _ANY_TEXT or is_a_model(directory / name))


def is_a_model(path: Path) -> bool:
    """Ask whether a framework opens a file, by its content."""
    try:
        facts = path.stat()
    except OSError:
        return False
    return _has_framework(path, facts.st_size, facts.st_mtime_ns, facts.st_ino)


@lru_cache(maxsize=256)
def _has_framework(path: Path, size: int, changed_ns: int, inode: int) -> bool:
    try:
        return framework_of_file(path) is not None
    except BundleServerError:
        return False
