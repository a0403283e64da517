"""A request of KServe's ``/v1/timeseries/forecast``, decoded and validated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bundleserver.errors import InvalidInput
from bundleserver.serving.codecs import json_body
from bundleserver.serving.codecs.json_body import optional_object
from bundleserver.serving.codecs.tensor_json import came, kind_of
from bundleserver.serving.codecs.time_steps import Frequency, Moment

MOST_QUANTILES = 99


@dataclass(frozen=True)
class Series:
    """One series of a request; ``start`` is the time of its first value, if it is given."""

    name: str
    values: list[object]
    frequency: Frequency
    start: Moment | None

    @property
    def end(self) -> Moment | None:
        """The first time step after the series."""
        return self.start.after(self.frequency, len(self.values)) if self.start else None


@dataclass(frozen=True)
class ForecastRequest:
    """A decoded request."""

    model: str
    series: tuple[Series, ...]
    horizon: int
    quantiles: tuple[float, ...]
    metadata: Mapping[str, object]

    @property
    def levels(self) -> tuple[float | None, ...]:
        """The interval levels that the quantiles require; None without an interval."""
        return tuple(sorted({level_of(q) for q in self.quantiles if q != 0.5})) or (None,)


def decode_body(body: bytes, most_values: int) -> ForecastRequest:
    """Decode a request; its document has so many values, 0: any number.

    Raises:
        InvalidInput, TooManyValues: it is not valid.
    """
    return decode_request(json_body.decode_object(body, most_values))


def decode_request(document: Mapping[str, object]) -> ForecastRequest:
    """Validate a request against KServe's types.

    Raises:
        InvalidInput: a value is missing, of the wrong kind, or not supported.
    """
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise InvalidInput(
            f"'inputs' {came(document, 'inputs')}; expected an array of one or more series"
        )
    options = document.get("options")
    if not isinstance(options, dict):
        raise InvalidInput(
            f"'options' {came(document, 'options')}; expected an object with a 'horizon'"
        )
    return ForecastRequest(
        model=_text(document, "model", ""),
        series=tuple(_series(item, f"inputs[{i}]") for i, item in enumerate(inputs)),
        horizon=_horizon(options),
        quantiles=_quantiles(options),
        metadata=optional_object(document, "metadata", ""),
    )


def level_of(q: float) -> float:
    """Return the level of the central interval with this quantile; for 0.1 and 0.9 it is 0.8."""
    return round(abs(2 * q - 1), 12)


def _series(item: object, where: str) -> Series:
    if not isinstance(item, dict):
        raise InvalidInput(f"{where} is {kind_of(item)}; expected an object with a 'series'")
    kind = item.get("type")
    if kind != "univariate_time_series":
        raise InvalidInput(
            f"{where}.type {came(item, 'type')}; expected 'univariate_time_series', the only "
            "supported type"
        )
    start = item.get("start_timestamp")
    return Series(
        name=_text(item, "name", f"{where}."),
        values=_values(item, where),
        frequency=Frequency.parse(item.get("frequency"), f"{where}.frequency"),
        start=None if start is None else Moment.parse(start, f"{where}.start_timestamp"),
    )


def _values(item: Mapping[str, object], where: str) -> list[object]:
    values = item.get("series")
    if not isinstance(values, list) or not values:
        raise InvalidInput(f"{where}.series {came(item, 'series')}; expected an array of numbers")
    for position, value in enumerate(values):
        if type(value) not in (int, float, type(None)):
            raise InvalidInput(
                f"{where}.series[{position}] is {kind_of(value)}; expected a number or null"
            )
    return values


def _horizon(options: Mapping[str, object]) -> int:
    horizon = options.get("horizon")
    if isinstance(horizon, bool) or not isinstance(horizon, int) or horizon < 1:
        raise InvalidInput(
            f"options.horizon {came(options, 'horizon')}; expected an integer of at least 1"
        )
    return horizon


def _quantiles(options: Mapping[str, object]) -> tuple[float, ...]:
    quantiles = options.get("quantiles")
    if quantiles is None:
        return ()
    if not isinstance(quantiles, list) or len(quantiles) > MOST_QUANTILES:
        count = len(quantiles) if isinstance(quantiles, list) else 0
        size = f"has {count} values" if count else f"is {kind_of(quantiles)}"
        raise InvalidInput(
            f"options.quantiles {size}; expected an array of at most {MOST_QUANTILES} numbers"
        )
    for q in quantiles:
        if not isinstance(q, float) or not 0 < q < 1:
            raise InvalidInput(
                f"options.quantiles has {kind_of(q)}; expected numbers between 0 and 1"
            )
    return tuple(quantiles)


def _text(document: Mapping[str, object], key: str, where: str) -> str:
    value = document.get(key)
    if isinstance(value, str) and value:
        return value
    raise InvalidInput(f"{where}{key} {came(document, key)}; expected a string")
