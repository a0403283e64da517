"""The code that ships with a bundle, as what its files may use while they are opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bundleserver.frameworks.isolated_code import IsolatedCode


@dataclass(frozen=True)
class OwnCode:
    """The modules of one open bundle.

    Attributes:
        modules: its modules, from a copy of what was verified.
        directory: the bundle's directory as its own code is given it: the copy of the code, and
            links to all other files.
        shown: the bundle's directory, for messages.
    """

    modules: IsolatedCode
    directory: Path
    shown: Path
