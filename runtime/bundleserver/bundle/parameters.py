"""MLflow's ``params`` of a request, merged into its parameters; none may be without effect."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from bundleserver.documents.forms import quoted
from bundleserver.errors import InvalidInput
from bundleserver.frameworks import Predictor
from bundleserver.frameworks.interface import HasParameters

PARAMS: Final = "params"
"""The parameter that has MLflow's."""


def parameters_of(predictors: Iterable[Predictor]) -> tuple[str, ...]:
    """Return the parameters that components have."""
    having = (predictor for predictor in predictors if isinstance(predictor, HasParameters))
    return tuple(name for predictor in having for name in predictor.parameters)


def with_params(
    parameters: Mapping[str, object], known: Collection[str], taker: str
) -> Mapping[str, object]:
    """Merge ``params`` with a request's other parameters.

    Raises:
        InvalidInput: the taker has none of that name, or it is there twice.
    """
    params = parameters.get(PARAMS)
    if not isinstance(params, Mapping) or PARAMS in known:
        return parameters
    for name in params:
        if name not in known:
            taken = f"the parameters {quoted(known)}" if known else "no parameters"
            raise InvalidInput(f"'params' has '{name}'; {taker} has {taken}")
        if name in parameters:
            raise InvalidInput(f"'{name}' is in 'params' and in 'parameters'; send it once")
    return {**{name: v for name, v in parameters.items() if name != PARAMS}, **params}
