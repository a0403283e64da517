"""Time steps for forecasts: KServe's frequencies, and ISO 8601 times."""

from __future__ import annotations

import calendar
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from types import MappingProxyType

from bundleserver.errors import InvalidInput
from bundleserver.serving.codecs.tensor_json import kind_of

_SECONDS: Mapping[str, int] = MappingProxyType(
    {
        "S": 1,
        "second": 1,
        "T": 60,
        "minute": 60,
        "H": 3600,
        "hour": 3600,
        "D": 86_400,
        "day": 86_400,
        "W": 604_800,
        "week": 604_800,
    }
)
_MONTHS: Mapping[str, int] = MappingProxyType(
    {"M": 1, "month": 1, "Q": 3, "quarter": 3, "Y": 12, "year": 12}
)

# pandas' names of the same in all its versions; business days count as days.
_OF_PANDAS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("s", "S"), "S"),
        **dict.fromkeys(("min", "T"), "T"),
        **dict.fromkeys(("h", "H"), "H"),
        **dict.fromkeys(("D", "B", "C"), "D"),
        "W": "W",
        **dict.fromkeys(("M", "ME", "MS", "BM", "BME", "BMS"), "M"),
        **dict.fromkeys(("Q", "QE", "QS", "BQ", "BQE", "BQS"), "Q"),
        **dict.fromkeys(("A", "AS", "Y", "YE", "YS", "BY", "BYE", "BYS"), "Y"),
    }
)
_STEP = re.compile(r"([1-9][0-9]*)?([A-Za-z]+)(-.*)?")


@dataclass(frozen=True)
class Frequency:
    """The step of a series, by KServe's name."""

    name: str

    @classmethod
    def of_step(cls, step: str) -> Frequency | None:
        """Convert a pandas step (``D``, ``24h``, ``QS-OCT``); None if KServe has no name for it."""
        parts = _STEP.fullmatch(step)
        unit = _OF_PANDAS.get(parts[2]) if parts else None
        if parts is None or unit is None:
            return None
        count = int(parts[1] or 1)
        seconds, months = cls(unit).length
        length = (seconds * count, months * count)
        names = (name for name in _OF_PANDAS.values() if cls(name).length == length)
        return next((cls(name) for name in names), None)

    @classmethod
    def parse(cls, name: object, where: str) -> Frequency:
        """Decode a frequency.

        Raises:
            InvalidInput: it is not one of KServe's names.
        """
        known = [*_SECONDS, *_MONTHS]
        if isinstance(name, str) and name in known:
            return cls(name)
        word = name[:40].lower() if isinstance(name, str) else ""
        near = difflib.get_close_matches(word, known, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise InvalidInput(f"{where} is {kind_of(name)}; expected one of {', '.join(known)}{hint}")

    @property
    def length(self) -> tuple[int, int]:
        """The seconds and the months of one step; one of them is 0."""
        return _SECONDS.get(self.name, 0), _MONTHS.get(self.name, 0)


@dataclass(frozen=True)
class Moment:
    """A date and time; formatted with ``Z`` if it was given so."""

    time: datetime
    is_zulu: bool = False

    @classmethod
    def parse(cls, text: object, where: str) -> Moment:
        """Decode ISO 8601.

        Raises:
            InvalidInput: it is anything else.
        """
        problem = f"{where} is {kind_of(text)}; expected ISO 8601, as 2025-12-09T10:00:00Z"
        if not isinstance(text, str):
            raise InvalidInput(problem)
        is_zulu = text[-1:] in ("Z", "z")
        try:
            # Python 3.10 does not support the Z.
            time = datetime.fromisoformat(text[:-1] + "+00:00" if is_zulu else text)
        except ValueError as error:
            raise InvalidInput(problem) from error
        return cls(time, is_zulu)

    def after(self, frequency: Frequency, steps: int) -> Moment:
        """Return the time some steps later; a month's last days stay within the month.

        Raises:
            InvalidInput: it is past the year 9999.
        """
        try:
            if frequency.name in _SECONDS:
                moved = self.time + timedelta(seconds=_SECONDS[frequency.name] * steps)
            else:
                moved = _add_months(self.time, _MONTHS[frequency.name] * steps)
        except (OverflowError, ValueError) as error:
            raise InvalidInput(
                f"{steps} steps of a {frequency.name} from {self} are past year 9999"
            ) from error
        return Moment(moved, self.is_zulu)

    @property
    def plain(self) -> str:
        """The time in UTC, without an offset, as in forecasters' indexes."""
        time = self.time
        if time.tzinfo is not None:
            time = time.astimezone(timezone.utc).replace(tzinfo=None)
        return time.isoformat()

    def __str__(self) -> str:
        text = self.time.isoformat()
        return text.removesuffix("+00:00") + "Z" if self.is_zulu else text


def _add_months(time: datetime, months: int) -> datetime:
    year, month = divmod(time.year * 12 + time.month - 1 + months, 12)
    last_day = calendar.monthrange(year, month + 1)[1]
    return time.replace(year=year, month=month + 1, day=min(time.day, last_day))
