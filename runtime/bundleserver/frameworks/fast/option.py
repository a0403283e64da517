"""The option of a component that turns faster implementations off."""

from __future__ import annotations

from collections.abc import Mapping

from bundleserver.errors import LoadError
from bundleserver.frameworks.interface import check_options


def read_option(options: Mapping[str, object], where: str) -> bool:
    """Parse the option ``accelerate``, ``"auto"`` (the default) or ``"off"``.

    Raises:
        LoadError: another value, or another option than this one and ``columns``.
    """
    check_options(options, ("accelerate", "columns"), where)
    value = options.get("accelerate", "auto")
    if value not in ("auto", "off"):
        raise LoadError(f"{where}: options.accelerate is {value!r}; expected 'auto' or 'off'")
    return value == "auto"
