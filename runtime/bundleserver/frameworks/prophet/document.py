"""Prophet's JSON read within limits and in steps, so that other threads go on meanwhile.

``json`` keeps the interpreter until it has read all of a text, which takes seconds for the samples
of a large model. And what a small document says may cost any memory with the first prediction.
"""

from __future__ import annotations

import json
import json.decoder
import json.scanner
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

MOST_BYTES = 128 << 20
"""The most bytes of a file."""

MOST_VALUES = 5_000_000
"""The most values of a document."""

MOST_HISTORY_VALUES = 4_000_000
"""The most values of a table in it, which pandas reads in one step; a year of minutes has 2.6
million."""

_MOST_TERMS = 10_000
_MOST_SAMPLES = 10_000
_MOST_HOLIDAYS = 1_000_000
_MOST_NESTED = 200_000
"""The most arrays and objects: each makes garbage collections longer, which stop all threads."""

_PIECE = 1 << 20


class Unreasonable(ValueError):
    """What a document says would cost any amount of memory or time."""


def parse(text: str) -> object:
    """Return the document in a JSON text, or in the JSON string that is the text.

    Raises:
        ValueError: it is not JSON, is nested too deep, or has too many values.
    """
    content: object = text
    # model_to_json returns a string; after json.dump, it is a JSON string within JSON.
    while isinstance(content, str):
        _count(content, MOST_VALUES)
        try:
            content = _Stepwise().decode(content)
        except RecursionError as error:
            raise Unreasonable("it is nested too deep") from error
    for value in content.values() if isinstance(content, dict) else ():
        if isinstance(value, str):
            _count(value, MOST_HISTORY_VALUES)
    return content


def check_model(model: Any) -> None:
    """Refuse a model whose predictions would cost more than any fitted one's.

    Raises:
        Unreasonable: says what of it.
        AttributeError, KeyError, TypeError, ValueError: it is no model.
    """
    terms = sum(_whole(season["fourier_order"]) for season in model.seasonalities.values())
    _limit("terms of its seasonalities", terms, _MOST_TERMS)
    _limit("uncertainty_samples", _whole(model.uncertainty_samples or 0), _MOST_SAMPLES)
    _limit("changepoints", model.changepoints_t.size, _MOST_TERMS)
    if model.holidays is not None:
        _limit("days of holidays", _holidays(model.holidays), _MOST_HOLIDAYS)
    if model.country_holidays is not None:
        _check_country(model.country_holidays)
    if model.history is not None and len(model.history):
        _check_scale(model)


def _check_scale(model: Any) -> None:
    """Refuse another scale of time than that of the history: the trend's changes grow with it."""
    dates = pd.to_datetime(model.history["ds"])
    span, scale = dates.max() - dates.min(), pd.Timedelta(model.t_scale)
    if not scale / 2 <= span <= scale * 2 or abs(dates.min() - model.start) > scale:
        raise Unreasonable("its t_scale and start are not those of its history")


def _check_country(country: object) -> None:
    """Refuse a name that is no country: Prophet calls whatever ``holidays`` has under it."""
    import holidays

    found = getattr(holidays, country, None) if isinstance(country, str) else None
    # Countries are loaded when they are asked for; until then the package has such a loader.
    is_loader = type(found).__module__ == "holidays.registry"
    is_country = isinstance(found, type) and issubclass(found, holidays.HolidayBase)
    # Prophet itself says what is wrong with a country that this version of holidays lacks.
    if found is not None and not (is_loader or is_country):
        raise Unreasonable(f"its country_holidays {str(country)[:40]!r} is no country")


def _holidays(holidays: pd.DataFrame) -> int:
    count = len(holidays)
    for name in ("lower_window", "upper_window"):
        if name in holidays:
            count += int(pd.to_numeric(holidays[name]).fillna(0).abs().sum())
    return count


def _whole(value: object) -> int:
    if isinstance(value, (int, float)):
        return int(value)
    raise TypeError(f"{value!r} is no number")


def _limit(what: str, count: int, most: int) -> None:
    if not 0 <= count <= most:
        raise Unreasonable(f"it has {count} {what}; expected at most {most}")


def _count(text: str, most: int) -> None:
    count = sum(map(text.count, ",[{"))
    if count > most:
        raise Unreasonable(
            f"it has {count} values; expected at most {most}: save the model as a pickle"
        )


class _Stepwise(json.JSONDecoder):
    """Python's own decoder in Python, which gives way to other threads; for one text."""

    def __init__(self) -> None:
        super().__init__()
        scanner: Any = json.scanner
        self.parse_object: Any = self._object
        self.parse_array = self._array
        self.scan_once: Any = scanner.py_make_scanner(self)
        self._nested = 0

    def _object(self, start: tuple[str, int], *rest: Any) -> tuple[object, int]:
        self._count()
        decode: Callable[..., tuple[object, int]] = json.decoder.JSONObject  # type: ignore[attr-defined]
        return decode(start, *rest)

    def _array(self, start: tuple[str, int], *rest: Any) -> tuple[object, int]:
        """Decode an array; one of numbers in C, if it is not so long that others would wait."""
        self._count()
        text, begin = start
        end = text.find("]", begin, begin + _PIECE)
        piece = text[begin:end] if end >= 0 else "["
        if not any(opening in piece for opening in '[{"'):
            return json.loads(f"[{piece}]"), end + 1
        decode: Callable[..., tuple[object, int]] = json.decoder.JSONArray  # type: ignore[attr-defined]
        return decode(start, *rest)

    def _count(self) -> None:
        self._nested += 1
        _limit("arrays and objects", self._nested, _MOST_NESTED)


def of_writer(content: object) -> str:
    """Say which Prophet wrote a document, for a message."""
    writer = content.get("__prophet_version") if isinstance(content, Mapping) else None
    return "" if writer is None else f" (written by prophet {str(writer)[:40]})"
