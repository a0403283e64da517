"""statsmodels' state space: what its compiled code keeps is made anew, and never from a file.

Its filters believe the sizes of the arrays that they get as their state. A model makes them when it
has none, from matrices whose sizes it compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, cast

import numpy as np

from bundleserver.frameworks.pickles.gate.listing import BUILD, own_names
from bundleserver.frameworks.pickles.gate.refusal import Refused
from bundleserver.frameworks.pickles.gate.session import Form, Rule, Session

_PACKAGE = "statsmodels.tsa.statespace"
_INITIALIZATION = f"{_PACKAGE}.initialization.Initialization"
_DEEPEST = 8
_COMPILED = (
    ("_initialization", "Initialization"),
    ("_kalman_filter", "KalmanFilter"),
    ("_kalman_smoother", "KalmanSmoother"),
    ("_representation", "Statespace"),
    ("_simulation_smoother", "SimulationSmoother"),
)
_KEPT = (
    "_initializations", "_kalman_filters", "_kalman_smoothers", "_representations", "_simulators",
    "_statespaces",
)  # fmt: skip


class Dropped:
    """In place of what a model makes anew: it takes any state, and keeps nothing of it."""

    def __init__(self, *args: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        """Forget the state."""


def _dropped(session: Session, args: tuple[object, ...]) -> object:
    made = Dropped()
    session.note(made, frozenset({BUILD}))
    return made


def _renew(session: Session, made: object) -> None:
    """Take from a model what it makes itself, and check how it begins."""
    attributes = cast("dict[str, Any]", getattr(made, "__dict__", {}))
    for name in _KEPT:
        if name in attributes:
            attributes[name] = {}
    tools = import_module(f"{_PACKAGE}.tools")
    for name in attributes:
        if name.startswith("prefix_") and name.endswith("_map"):
            attributes[name] = {**getattr(tools, name)}
        elif name.endswith("results_class"):
            _check_class(attributes[name])
    if _INITIALIZATION in own_names(type(made)):
        _check_beginning(made, attributes.get("k_states"), 0)
    elif attributes.get("initialization") is not None:
        _check_beginning(attributes["initialization"], attributes.get("k_states"), 0)


def _check_class(kind: object) -> None:
    if kind is not None and not (isinstance(kind, type) and kind.__module__.startswith(_PACKAGE)):
        raise Refused("a model of statsmodels makes results of another class than its own")


def _check_beginning(made: object, states: object, depth: int) -> None:
    """Check that each block of the states that a model begins with is inside of all states."""
    attributes = cast("dict[str, Any]", getattr(made, "__dict__", {}))
    blocks = attributes.get("blocks")
    constant: Any = attributes.get("constant")
    covariance: Any = attributes.get("stationary_cov")
    is_sound = (
        _INITIALIZATION in own_names(type(made))
        and depth < _DEEPEST
        and type(states) is int
        and attributes.get("k_states") == states
        and np.shape(constant) == (states,)
        and np.shape(covariance) == (states, states)
        and type(blocks) is dict
    )
    if not is_sound:
        raise Refused("the states that a model begins with are not consistent")
    for places, block in cast("dict[Any, Any]", blocks).items():
        if type(places) is not tuple or not all(
            isinstance(place, (int, np.integer)) and 0 <= place < cast(int, states)
            for place in places
        ):
            raise Refused("the states that a model begins with are not consistent")
        if [*places] != [*range(places[0], places[0] + len(places))]:
            raise Refused("the states that a model begins with are not consistent")
        _check_beginning(block, len(places), depth + 1)


STATE_FORMS: Mapping[str, Form] = {
    f"{_PACKAGE}.{module}.{prefix}{name}": _dropped
    for module, name in _COMPILED
    for prefix in "sdcz"
}
"""Classes that only models call; as values they are those of statsmodels."""

STATE_AUDITS: Mapping[str, Rule] = {
    f"{_PACKAGE}.representation.Representation": _renew,
    _INITIALIZATION: _renew,
}
