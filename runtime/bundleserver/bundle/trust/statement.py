"""What a signature says: the files of a directory, and the digest of each or of its pieces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

_MOST_FILES = 100_000
_ALGORITHMS = frozenset({"sha256", "blake2b", "blake3"})


@dataclass(frozen=True)
class Piece:
    """A part of a file with a digest; ``end`` is None for a whole file.

    Attributes:
        algorithm: ``sha256``, ``blake2b`` or ``blake3``.
    """

    start: int
    end: int | None
    algorithm: str
    digest: bytes


@dataclass(frozen=True)
class Statement:
    """What somebody has signed.

    Attributes:
        name: the name that the signer gave the directory.
        files: the pieces of each file, by its path in the directory.
        left_out: paths of which the signer said that they are no part of it; for messages
            only, since what nobody vouches for is refused.
    """

    name: str
    files: Mapping[str, Sequence[Piece]]
    left_out: frozenset[str]

    def leaves_out(self, path: str) -> bool:
        """Ask whether the signer said that a path is no part of what is signed."""
        return any(
            path == left or left == "." or path.startswith(f"{left}/") for left in self.left_out
        )

    def has_below(self, directory: str) -> bool:
        """Ask whether a file below a directory was signed."""
        return any(path.startswith(f"{directory}/") for path in self.files)


def read_statement(
    name: str, serialization: Mapping[str, object], resources: Iterable[tuple[str, str, bytes]]
) -> Statement:
    """Return what a verified payload says.

    Args:
        name: the name of its subject.
        serialization: how the directory was turned into resources.
        resources: identifier, algorithm and digest of each.

    Raises:
        ValueError: it is not a valid statement about a directory.
    """
    is_sharded = serialization.get("method") == "shards"
    pieces: dict[str, list[Piece]] = {}
    for identifier, algorithm, digest in resources:
        path, start, end = _shard(identifier) if is_sharded else (identifier, 0, None)
        kind = algorithm.partition("-sharded-")[0] if is_sharded else algorithm
        if kind not in _ALGORITHMS:
            raise ValueError(f"it lists digests of the kind '{kind}'; expected sha256")
        pieces.setdefault(path, []).append(Piece(start, end, kind, digest))
    if not pieces:
        raise ValueError("it lists no files")
    if len(pieces) > _MOST_FILES:
        raise ValueError(f"it lists more than {_MOST_FILES} files")
    for path, parts in pieces.items():
        _check_path(path, pieces)
        parts.sort(key=lambda piece: piece.start)
        _check_pieces(path, parts)
    left_out = serialization.get("ignore_paths") or ()
    listed = left_out if isinstance(left_out, (list, tuple)) else ()
    return Statement(name, pieces, frozenset(str(PurePosixPath(str(path))) for path in listed))


def _shard(identifier: str) -> tuple[str, int, int]:
    path, start, end = identifier.rsplit(":", 2)
    return path, int(start), int(end)


def _check_path(path: str, files: Mapping[str, object]) -> None:
    pure = PurePosixPath(path)
    if path == ".":
        raise ValueError("it is the signature of a single file, and not of a directory")
    if not path or str(pure) != path or pure.is_absolute() or ".." in pure.parts or "\0" in path:
        raise ValueError(f"it lists '{path}', which is not a path in a directory")
    for parent in pure.parents:
        if str(parent) in files:
            raise ValueError(f"it lists '{parent}' as a file and as a directory")


def _check_pieces(path: str, pieces: Sequence[Piece]) -> None:
    at = 0
    for piece in pieces:
        if piece.start != at or (piece.end is None and len(pieces) > 1):
            raise ValueError(f"it does not list the whole of '{path}'")
        at = piece.end or 0
