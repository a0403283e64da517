"""The suffix and the stem of a model's file, whatever compressed it."""

from __future__ import annotations

from pathlib import PurePath

_COMPRESSED = frozenset({".bz2", ".gz", ".lz4", ".lzma", ".xz", ".z"})
_PACKED = _COMPRESSED | {".tar", ".zip", ".zst"}


def suffix_of(name: str) -> str:
    """Return the suffix that says what a file is, in lower case: ``.pkl`` of ``model.pkl.gz``.

    A compressed suffix alone is one that joblib writes: ``model.z`` is a ``.joblib`` file.
    """
    path = PurePath(name.lower())
    if path.suffix not in _PACKED:
        return path.suffix
    return PurePath(path.stem).suffix or (".joblib" if path.suffix in _COMPRESSED else path.suffix)


def stem_of(name: str) -> str:
    """Return a file's name without its suffixes: ``model`` of ``model.pth.tar``."""
    path = PurePath(name)
    return PurePath(path.stem).stem if path.suffix.lower() in _PACKED else path.stem


def says_only_compressed(name: str) -> bool:
    """Ask whether a file's name says that it is compressed, and not what it is."""
    path = PurePath(name.lower())
    return path.suffix in _COMPRESSED and not PurePath(path.stem).suffix
