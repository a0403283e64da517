"""How far and in which steps a forecaster answers: its one option, and what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping

from bundleserver.errors import LoadError

DEFAULT_MAX_HORIZON = 10_000
"""The longest answer of one request, where the option ``max_horizon`` says nothing else."""


def max_horizon_option(options: Mapping[str, object], where: str) -> int:
    """Read the options of a forecaster's component, of which ``max_horizon`` is the only one.

    Raises:
        LoadError: an option is unknown or not a whole number of at least 1.
    """
    unknown = sorted(set(options) - {"max_horizon"})
    if unknown:
        raise LoadError(
            f"{where}: option '{unknown[0]}' is unknown; a forecaster has 'max_horizon'"
        )
    value = options.get("max_horizon", DEFAULT_MAX_HORIZON)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise LoadError(
            f"{where}: option 'max_horizon' is {value!r}; it should be a whole number of at least 1"
        )
    return value


def forecast_facts(max_horizon: int, step: str | None) -> dict[str, object]:
    """Say in a component's metadata how far it forecasts, and by which step where it has dates."""
    facts: dict[str, object] = {"max_horizon": max_horizon}
    return facts if step is None else {**facts, "step": step}
