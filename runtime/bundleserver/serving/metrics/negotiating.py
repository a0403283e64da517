"""What a client takes, by its headers ``Accept`` and ``Accept-Encoding``."""

from __future__ import annotations

import re
from collections.abc import Iterator

_PART = re.compile(r'(?:[^,"]|"(?:\\.|[^"\\])*")+')
_PARAMETER = re.compile(r';(?:[^;"]|"(?:\\.|[^"\\])*")*')
_QUALITY = re.compile(r";\s*q\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*")
_OPEN_METRICS = "application/openmetrics-text"
_TEXT = ("text/plain", "text/*", "*/*")
_GZIP = ("gzip", "x-gzip", "*")


def is_open_metrics(accept: str) -> bool:
    """Ask whether an ``Accept`` header names OpenMetrics, and likes text no better."""
    found = _qualities(accept)
    quality = found.get(_OPEN_METRICS, 0.0)
    return quality > 0 and quality >= _quality(found, _TEXT)


def takes_gzip(accept_encoding: str) -> bool:
    """Ask whether an ``Accept-Encoding`` header takes gzip, and plain bytes no better."""
    found = _qualities(accept_encoding)
    quality = _quality(found, _GZIP)
    return quality > 0 and quality >= found.get("identity", 0.0)


def _quality(found: dict[str, float], names: tuple[str, ...]) -> float:
    """Return the quality of the first name that is there: the most specific one comes first."""
    return next((found[name] for name in names if name in found), 0.0)


def _qualities(header: str) -> dict[str, float]:
    """Return the quality of each name, in lower case; of one that comes often the highest."""
    found: dict[str, float] = {}
    for name, quality in _parts(header.lower()):
        found[name] = max(quality, found.get(name, 0.0))
    return found


def _parts(header: str) -> Iterator[tuple[str, float]]:
    for part in _PART.findall(header):
        name = part.partition(";")[0].strip()
        quality = 1.0
        for parameter in _PARAMETER.findall(part):
            if parameter[1:].partition("=")[0].strip() == "q":
                # What is no quality asks for nothing.
                valid = _QUALITY.fullmatch(parameter)
                quality = float(valid[1]) if valid else 0.0
        yield name, quality
