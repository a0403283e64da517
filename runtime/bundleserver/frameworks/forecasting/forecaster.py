"""What the forecasters of all libraries share: their option, their methods and their cache."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from bundleserver.errors import LoadError
from bundleserver.frameworks.forecasting.cache import ForecastCache
from bundleserver.frameworks.forecasting.contract import ForecastRequest, read_request
from bundleserver.tensors import Array, NamedTensor
from bundleserver.tensors.signature import Signature

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


class CachingForecaster(ABC):
    """A fitted forecaster; methods ``forecast`` and ``predict``, which are the same.

    Any thread may call it; what was computed once for a request is not computed again.
    """

    def __init__(
        self, signature: Signature, max_horizon: int, step: str | None, *, prefixes: bool
    ) -> None:
        """Say what it takes, how far it goes and by which step, where it has dates.

        ``prefixes`` as in ``ForecastCache``.
        """
        self.methods: Mapping[str, Signature] = MappingProxyType(
            {"forecast": signature, "predict": signature}
        )
        facts: dict[str, object] = {"max_horizon": max_horizon}
        self.metadata: Mapping[str, object] = facts if step is None else {**facts, "step": step}
        self._max_horizon = max_horizon
        self._cache = ForecastCache(prefixes=prefixes)

    def call(
        self, method: str, inputs: Sequence[NamedTensor], parameters: Mapping[str, object]
    ) -> Sequence[Array]:
        """Forecast; inputs are matched by name.

        Raises:
            InvalidInput: the request does not fit the contract or the model.
        """
        request = read_request(inputs, parameters, self.methods[method], self._max_horizon)
        return self._cache.answer(request, lambda: self._forecast(request))

    def remembers(
        self, method: str, inputs: Sequence[NamedTensor], parameters: Mapping[str, object]
    ) -> bool:
        """Ask whether ``call`` would answer from memory.

        Raises:
            InvalidInput: as ``call`` does.
        """
        asked = read_request(inputs, parameters, self.methods[method], self._max_horizon)
        return self._cache.has(asked)

    def close(self) -> None:
        """Let go of what was forecast."""
        self._cache.clear()

    @abstractmethod
    def _forecast(self, request: ForecastRequest) -> Sequence[Array]:
        """Answer a checked request by the library: mean, lower, upper and the dates, if any."""
