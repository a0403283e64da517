"""numpy's random generators, which some models keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from bundleserver.frameworks.pickles.gate.listing import BUILD
from bundleserver.frameworks.pickles.gate.refusal import Refused
from bundleserver.frameworks.pickles.gate.session import Form, Session

_GETS_STATE = frozenset({BUILD})
_DEEPEST = 20
_BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")


def _bit_generator(session: Session, args: tuple[object, ...]) -> object:
    """Make a bit generator of numpy's own."""
    of = args[0] if args else "MT19937"
    found = session.reference_to(of)
    name = found.name.rpartition(".")[2] if found is not None else of
    if len(args) > 1 or name not in _BIT_GENERATORS or type(name) is not str:
        raise Refused("it makes a random generator that is not numpy's")
    if found is not None and not found.name.startswith("numpy.random."):
        raise Refused(f"it makes a random generator of '{found.name}'")
    made = getattr(np.random, name)()
    session.note(made, _GETS_STATE)
    return made


def _random_state(session: Session, args: tuple[object, ...]) -> object:
    made = np.random.RandomState(_bits_of(session, args))
    session.note(made, _GETS_STATE)
    return made


def _generator(session: Session, args: tuple[object, ...]) -> object:
    made = np.random.Generator(_bits_of(session, args))
    session.note(made, _GETS_STATE)
    return made


def _bits_of(session: Session, args: tuple[object, ...]) -> Any:
    bits = args[0] if args else "MT19937"
    return bits if isinstance(bits, np.random.BitGenerator) else _bit_generator(session, args[:1])


def check_random_state(state: object) -> None:
    """Check the places that a random generator reads at next.

    Raises:
        Refused: they are outside of its numbers.
    """
    parts = [state]
    for _ in range(_DEEPEST):
        inner: list[object] = []
        for part in parts:
            if isinstance(part, dict):
                _check_places(part)
                inner += part.values()
            elif type(part) is tuple:
                inner += part
        parts = [part for part in inner if isinstance(part, (dict, tuple))]
    legacy = state if type(state) is tuple and len(state) == 5 else ()
    if parts or (legacy and not (type(legacy[2]) is int and 0 <= legacy[2] <= 624)):
        raise Refused("a random generator has a state that numpy does not write")


def _check_places(part: Mapping[object, object]) -> None:
    for key, most in (("pos", 624), ("buffer_pos", 4)):
        if key in part and not (type(part[key]) is int and 0 <= cast(int, part[key]) <= most):
            raise Refused(f"a random generator reads at {part[key]!r:.20}; it has {most} numbers")


RANDOM_FORMS: Mapping[str, Form] = {
    "numpy.random._pickle.__bit_generator_ctor": _bit_generator,
    "numpy.random._pickle.__randomstate_ctor": _random_state,
    "numpy.random._pickle.__generator_ctor": _generator,
}

RANDOM_CHECKS = {
    "numpy.random.mtrand.RandomState": check_random_state,
    "numpy.random.bit_generator.BitGenerator": check_random_state,
}
