"""One flag of ``serve``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Flag:
    """One setting's flag, help text and parser."""

    spelling: str
    text: str
    parse: Callable[[str], object] = str

    @property
    def setting(self) -> str:
        """The name of the setting."""
        return self.spelling.removeprefix("--").replace("-", "_")
