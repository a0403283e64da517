"""Functions of ours in place of those that pickles call and that could do too much."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from bundleserver.frameworks.pickles.gate.building import set_items
from bundleserver.frameworks.pickles.gate.listing import (
    BUILD,
    CALL,
    NEW,
    VALUE,
    own_names,
)
from bundleserver.frameworks.pickles.gate.models.distributions import DISTRIBUTIONS, Distribution
from bundleserver.frameworks.pickles.gate.models.functions import CHECKED_FUNCTIONS
from bundleserver.frameworks.pickles.gate.models.statespace import STATE_FORMS, Dropped
from bundleserver.frameworks.pickles.gate.refusal import Refused, kind_of
from bundleserver.frameworks.pickles.gate.session import Form, Session
from bundleserver.frameworks.pickles.gate.values.arrays import ARRAY_FORMS, ArrayClass
from bundleserver.frameworks.pickles.gate.values.joblib_arrays import ArrayRecord
from bundleserver.frameworks.pickles.gate.values.random_states import RANDOM_FORMS
from bundleserver.frameworks.pickles.gate.values.tables import TABLE_FORMS


def _getattr(session: Session, args: tuple[object, ...]) -> object:
    """Return a listed class or function that is inside of a listed class."""
    if len(args) == 2 and type(args[1]) is str and (own_names(type(args[0]))[0], args[1]) in _BOUND:
        return getattr(type(args[0]), args[1]).__get__(args[0])
    if len(args) == 2 and type(args[0]) is Distribution:
        return Distribution()
    owner = session.reference_to(args[0]) if len(args) == 2 else None
    if owner is None or not isinstance(owner.real, type) or type(args[1]) is not str:
        raise Refused("it takes an attribute of what is no listed class")
    return session.find(*_split(owner.name, args[1]))


_ETS = "statsmodels.tsa.exponential_smoothing.ets.ETSModel"
_BOUND = frozenset({(_ETS, "loglike")})
"""Methods of objects that honest models keep; an ETS model has its own likelihood after a fit."""


def _builtin_type(session: Session, args: tuple[object, ...]) -> object:
    """Return the class of methods, as cloudpickle names it."""
    if args != ("MethodType",):
        raise Refused("it names a class of Python's own by cloudpickle")
    return session.find("types", "MethodType")


def _method(session: Session, args: tuple[object, ...]) -> object:
    """Return a method of an object, of which cloudpickle writes the function and the object."""
    function = session.reference_to(args[0]) if len(args) == 2 else None
    owner, _, name = function.name.rpartition(".") if function is not None else ("", "", "")
    if (owner, name) not in _BOUND or own_names(type(args[1]))[0] != owner:
        raise Refused("it makes a method of what is no model that has it")
    return getattr(type(args[1]), name).__get__(args[1])


def _of_a_method(_session: Session, _args: tuple[object, ...]) -> object:
    raise Refused("it calls the function of a method")


def _split(owner: str, name: str) -> tuple[str, str]:
    module, _, qualname = owner.rpartition(".")
    return module, f"{qualname}.{name}"


def _reconstructor(session: Session, args: tuple[object, ...]) -> object:
    """Make a new object as protocols 0 and 1 do."""
    of, base, state = _three(args)
    kind, found = session.class_of(of), session.reference_to(base)
    made_by = cast(Any, kind.real).__new__
    if found is not None and found.real is object and state is None:
        # As NEWOBJ does: some classes have a __new__ of their own, such as scipy's operators.
        return session.new(kind, (), {})
    if found is not None and found.real is dict and made_by is dict.__new__ and type(state) is dict:
        made = session.new(kind, (), {})
        set_items(session, made, state.items())
        return made
    is_named = found is not None and found.real is tuple and hasattr(kind.real, "_fields")
    if is_named and type(state) is tuple:
        # As NEWOBJ does with the fields of a named tuple.
        return _new_object(session, (of, *state))
    raise Refused(f"it makes a '{kind.name}' by a class that makes no such objects")


def _three(args: tuple[object, ...]) -> tuple[object, object, object]:
    if len(args) != 3:
        raise Refused(f"it calls a function with {len(args)} arguments; expected 3")
    return args[0], args[1], args[2]


def _new_object(session: Session, args: tuple[object, ...]) -> object:
    if not args:
        raise Refused("it makes a new object of no class")
    of = session.class_of(args[0])
    _plain(session, args[1:])
    return session.new(of, args[1:], {})


def _new_object_ex(session: Session, args: tuple[object, ...]) -> object:
    of, inner, keywords = _three(args)
    if type(inner) is not tuple or type(keywords) is not dict:
        raise Refused("it makes a new object with arguments that are no tuple and dict")
    return session.new(session.class_of(of), inner, keywords)


def _plain(session: Session, values: tuple[object, ...]) -> None:
    for value in values:
        found = session.reference_to(value)
        if found is not None and VALUE not in found.ways:
            raise Refused(f"'{found.name}' is an argument, but not listed as 'value'")


def _partial(session: Session, args: tuple[object, ...]) -> object:
    """Make a partial of a listed function; what it is called with comes as its state."""
    found = session.reference_to(args[0]) if len(args) == 1 else None
    if found is None or VALUE not in found.ways or not callable(found.real):
        raise Refused("it makes a partial of what is no listed function")
    made = functools.partial(found.real)
    session.hold(made, frozenset({BUILD}))
    return made


def _encode(session: Session, args: tuple[object, ...]) -> bytes:
    """Return bytes, which protocols 0 to 2 write as text."""
    text, encoding = args if len(args) == 2 else (None, None)
    if type(text) is not str or type(encoding) is not str or encoding not in _LATIN:
        raise Refused("it encodes a text with another encoding than latin1")
    return text.encode("latin-1")


_LATIN = ("latin1", "latin-1")


def _bytes(session: Session, args: tuple[object, ...]) -> bytes:
    if args == ():
        return b""
    if len(args) == 1 and type(args[0]) in (bytes, list, tuple):
        return bytes(cast("list[int]", args[0]))
    raise Refused(f"it makes bytes of {[kind_of(value) for value in args]}")


def _bytearray(session: Session, args: tuple[object, ...]) -> object:
    return bytearray(_encode(session, args) if len(args) == 2 else _bytes(session, args))


FORMS: Mapping[str, Form] = {
    "builtins.getattr": _getattr,
    "builtins.bytes": _bytes,
    "builtins.bytearray": _bytearray,
    "copyreg._reconstructor": _reconstructor,
    "copyreg.__newobj__": _new_object,
    "copyreg.__newobj_ex__": _new_object_ex,
    "cloudpickle.cloudpickle._builtin_type": _builtin_type,
    "functools.partial": _partial,
    "types.MethodType": _method,
    "_codecs.encode": _encode,
    **{f"{owner}.{name}": _of_a_method for owner, name in _BOUND},
    **ARRAY_FORMS,
    **RANDOM_FORMS,
    **STATE_FORMS,
    **TABLE_FORMS,
}


FORM_VALUES = frozenset(STATE_FORMS)
"""Names with a form that may be part of an object too: then they are what they name."""

# How Prophet was fitted: the paths of programs, and the means to compile and to run them.
_OF_FITTING = (
    "prophet.models.CmdStanPyBackend",
    "cmdstanpy.cmdstan_args.CmdStanArgs",
    "cmdstanpy.cmdstan_args.Method",
    "cmdstanpy.cmdstan_args.OptimizeArgs",
    "cmdstanpy.cmdstan_args.SamplerArgs",
    "cmdstanpy.compilation.CompilerOptions",
    "cmdstanpy.model.CmdStanModel",
    "cmdstanpy.stanfit.metadata.InferenceMetadata",
    "cmdstanpy.stanfit.mcmc.CmdStanMCMC",
    "cmdstanpy.stanfit.mle.CmdStanMLE",
    "cmdstanpy.stanfit.runset.RunSet",
    "stanio.reshape.Variable",
    "stanio.reshape.VariableType",
)

STAND_INS: Mapping[str, tuple[object, frozenset[str]]] = {
    "joblib.numpy_pickle.NumpyArrayWrapper": (ArrayRecord, frozenset({NEW})),
    # joblib names it where a model was fitted in parallel; it reads the values from the pickle.
    "numpy.memmap": (ArrayClass, frozenset({VALUE})),
    "numpy.core.memmap.memmap": (ArrayClass, frozenset({VALUE})),
    "numpy._core.memmap.memmap": (ArrayClass, frozenset({VALUE})),
    "numpy.ndarray": (ArrayClass, frozenset({VALUE})),
    "numpy.ma.core.MaskedArray": (np.ma.MaskedArray, frozenset()),
    "numpy.ma.MaskedArray": (np.ma.MaskedArray, frozenset()),
    **{name: (real, frozenset({VALUE})) for name, real in CHECKED_FUNCTIONS.items()},
    **dict.fromkeys(_OF_FITTING, (Dropped, frozenset({NEW, CALL, BUILD}))),
    **dict.fromkeys(DISTRIBUTIONS, (Distribution, frozenset({NEW, CALL, BUILD}))),
}
"""Classes, and a few functions, in place of those that a pickle names."""
