"""The base of all forecasters: their option, their methods and their cache."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from bundleserver.errors import LoadError
from bundleserver.frameworks.forecasting.cache import ForecastCache
from bundleserver.frameworks.forecasting.contract import ForecastRequest, parse_request
from bundleserver.frameworks.interface import check_options
from bundleserver.tensors import Array, NamedTensor
from bundleserver.tensors.signature import Signature

DEFAULT_MAX_HORIZON = 10_000
"""The default of the option ``max_horizon``: the most steps of one request."""


def max_horizon_option(
    options: Mapping[str, object],
    where: str,
    others: tuple[str, ...] = (),
    default: int = DEFAULT_MAX_HORIZON,
) -> int:
    """Parse the option ``max_horizon``; of others only the names are checked.

    Raises:
        LoadError: an option is unknown, or it is not an integer of at least 1.
    """
    check_options(options, ("max_horizon", *others), where)
    return int_option(options, "max_horizon", default, 1, where)


def int_option(
    options: Mapping[str, object], name: str, default: int, least: int, where: str
) -> int:
    """Parse an option that is an integer.

    Raises:
        LoadError: it is not, or it is less than the least.
    """
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        kind = "a positive integer" if least else "0 or a positive integer"
        raise LoadError(f"{where}: options.{name} is {value!r}; expected {kind}")
    return value


class CachingForecaster(ABC):
    """A fitted forecaster with a cache; ``forecast`` and ``predict`` are the same method.

    Any thread may call it.
    """

    def __init__(
        self, model: Any, signature: Signature, max_horizon: int, step: str | None, prefixes: bool
    ) -> None:
        """Wrap a model whose dates, if any, follow each other by ``step``.

        ``prefixes`` as in ``ForecastCache``.
        """
        self._model = model
        self.methods: Mapping[str, Signature] = MappingProxyType(
            {"forecast": signature, "predict": signature}
        )
        grid = {} if step is None else {"step": step}
        self.metadata: Mapping[str, object] = {"max_horizon": max_horizon, **grid}
        self.parameters = ("level", "history_start")
        self._max_horizon = max_horizon
        self._cache = ForecastCache(prefixes=prefixes)

    def call(
        self, method: str, inputs: Sequence[NamedTensor], parameters: Mapping[str, object]
    ) -> Sequence[Array]:
        """Forecast; inputs are matched by name.

        Raises:
            InvalidInput: the request is not valid for the contract or the model.
        """
        request = parse_request(inputs, parameters, self.methods[method], self._max_horizon)
        return self._cache.answer(request, lambda: self._forecast(request))

    def is_cached(
        self, method: str, inputs: Sequence[NamedTensor], parameters: Mapping[str, object]
    ) -> bool:
        """Ask whether ``call`` would be a cache hit.

        Raises:
            InvalidInput: as ``call`` does.
        """
        request = parse_request(inputs, parameters, self.methods[method], self._max_horizon)
        return self._cache.has(request)

    def close(self) -> None:
        """Release the model and the cached forecasts."""
        self._model = None
        self._cache.clear()

    @abstractmethod
    def _forecast(self, request: ForecastRequest) -> Sequence[Array]:
        """Compute mean, lower, upper and the dates, if any, of a validated request."""
