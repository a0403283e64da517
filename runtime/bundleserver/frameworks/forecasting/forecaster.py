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


def max_horizon_option(options: Mapping[str, object], where: str) -> int:
    """Parse the options of a forecaster's component, of which ``max_horizon`` is the only one.

    Raises:
        LoadError: an option is unknown or not an integer of at least 1.
    """
    check_options(options, ("max_horizon",), where)
    value = options.get("max_horizon", DEFAULT_MAX_HORIZON)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise LoadError(f"{where}: options.max_horizon is {value!r}; expected a positive integer")
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
