"""What the payload log logs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LogOptions:
    """What is logged, and how, as the flags of the same names say."""

    directory: Path
    sample: float = 1.0
    columns: tuple[str, ...] = ()
    max_bytes: int = 0
    rotate_seconds: float = 300.0
