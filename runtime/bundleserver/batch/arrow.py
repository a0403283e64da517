"""pyarrow, which an extra brings: asked for before a module that needs it is imported."""

from __future__ import annotations

from importlib.util import find_spec

from bundleserver.errors import FrameworkError


def require_arrow() -> None:
    """Say which extra brings pyarrow, if it is not installed.

    Raises:
        FrameworkError: it is not installed.
    """
    if find_spec("pyarrow") is None:
        raise FrameworkError(
            "tables need the package 'pyarrow', which is not installed; "
            "pip install 'bundleserver[batch]'"
        )
