"""Reads OpenTelemetry's variables, and says of each that is not valid what is wrong with it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bundleserver.documents.printable import printable
from bundleserver.errors import Problem

EXPORTERS = ("otlp", "console", "none")
PROTOCOLS = ("grpc", "http/protobuf")
SAMPLERS = ("always_on", "always_off", "traceidratio")
PARENT_BASED = "parentbased_"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

_PREFIXES = ("OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_")
_MOST_SECONDS = 86_400
_MOST_BYTES = 2**20
_COMPRESSIONS = {"grpc": ("gzip",), "http/protobuf": ("none", "gzip", "deflate")}
"""OpenTelemetry's exporter over gRPC does not know ``none``."""

_HEADERS = "name=value, with commas between them, as in authorization=Bearer%20TOKEN"
_NAME = re.compile(r"[0-9A-Za-z_.-]+(?<!-[Bb][Ii][Nn])")
"""Names of headers; those that end in ``-bin`` have bytes over gRPC."""

_VALUE = re.compile(r"[\x20\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e\t]*")
"""What OpenTelemetry reads: printable, without quotes, commas, semicolons and backslashes."""

_SENT = re.compile(r"[\x20-\x7e\t]*")
_USER = re.compile(r"//[^/]*@")


class Variables:
    """Reads variables, and keeps what is wrong with them.

    Those that only OpenTelemetry's exporters read are checked as they stand, since it takes some
    empty ones for values; all others count as not set where they are empty. Values of headers and
    of resource attributes are in no message: they may be secrets.

    Attributes:
        problems: what is not valid.
        warnings: what is valid, and probably not what was meant.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[str] = []
        self._as_given = environ
        self._set = {name: value.strip() for name, value in environ.items() if value.strip()}

    def get(self, name: str, default: str = "") -> str:
        """Return a value in lower case."""
        return self._set.get(name, default).lower()

    def has_endpoint(self) -> bool:
        """Ask whether a place for OTLP is named."""
        return any(name in self._set for name in ENDPOINTS)

    def exporters(self, named: str) -> tuple[str, ...]:
        """Return the exporters of a list; none if one of them is ``none``."""
        names = dict.fromkeys(name.strip() for name in named.split(",") if name.strip())
        for name in names:
            if name not in EXPORTERS:
                self._refuse("OTEL_TRACES_EXPORTER", name, f"one of {', '.join(EXPORTERS)}")
        return () if "none" in names else tuple(names)

    def sampler(self) -> tuple[str, bool]:
        """Return the sampler, and whether it follows a request's parent."""
        name = self.get("OTEL_TRACES_SAMPLER", "parentbased_always_on")
        follows, sampler = name.startswith(PARENT_BASED), name.removeprefix(PARENT_BASED)
        if sampler not in SAMPLERS:
            known = ", ".join([*SAMPLERS, *(PARENT_BASED + one for one in SAMPLERS)])
            self._refuse("OTEL_TRACES_SAMPLER", name, f"one of {known}")
        return sampler, follows

    def ratio(self, sampler: str) -> float:
        """Return the share that a sampler samples."""
        if sampler != "traceidratio":
            return 0.0 if sampler == "always_off" else 1.0
        written = self._set.get("OTEL_TRACES_SAMPLER_ARG", "1")
        ratio = _number(written)
        if not 0 <= ratio <= 1:
            self._refuse("OTEL_TRACES_SAMPLER_ARG", written, "a number from 0 to 1")
        return ratio

    def count(self, name: str, default: int) -> int:
        """Return a whole number of at most eight digits."""
        written = self._set.get(name, str(default))
        digits = written.lstrip("0")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 8):
            self._refuse(name, written, "a whole number from 1 to 99999999")
            return default
        return int(digits)

    def otlp(self) -> str:
        """Return OTLP's protocol, and check what OpenTelemetry's exporters read."""
        name, protocol = self._first("PROTOCOL", "grpc")
        if protocol not in PROTOCOLS:
            self._refuse(name, protocol, f"one of {', '.join(PROTOCOLS)}")
            protocol = "grpc"
        self._check_endpoint(protocol)
        for prefix in _PREFIXES:
            self._check_entries(f"{prefix}HEADERS", _is_header, _HEADERS)
            self._check_seconds(f"{prefix}TIMEOUT")
            for file in ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE"):
                self._check_file(f"{prefix}{file}")
            self._check_choice(f"{prefix}INSECURE", ("true", "false"))
            self._check_choice(f"{prefix}COMPRESSION", _COMPRESSIONS[protocol])
        return protocol

    def check_resource(self) -> None:
        """Check the attributes of what the spans come from."""
        expected = "name=value, with commas between them"
        self._check_entries("OTEL_RESOURCE_ATTRIBUTES", _is_attribute, expected)

    def _check_endpoint(self, protocol: str) -> None:
        name, endpoint = self._first("ENDPOINT", "")
        shown = _USER.sub("//...@", endpoint)
        if not endpoint:
            return
        if not _is_endpoint(endpoint, protocol):
            self._refuse(name, shown, "a URL such as http://otel-collector:4317")
        elif "://" not in endpoint and self._first("INSECURE", "")[1].lower() != "true":
            self.warnings.append(
                f"{name} is '{printable(shown[:200])}' without a scheme, which means TLS; "
                "write http:// before it for a connection without TLS, or else https://"
            )

    def _check_entries(self, name: str, is_valid: Callable[[str], bool], expected: str) -> None:
        entries = self._set[name].split(",") if name in self._set else []
        for number, entry in enumerate(entries, 1):
            if not is_valid(entry):
                which = f"{name}: entry {number} of {len(entries)} is not valid"
                self.problems.append(Problem("", f"{which}; expected {expected}"))

    def _check_seconds(self, name: str) -> None:
        written = self._as_given.get(name)
        if written is not None and not 0 < _number(written) <= _MOST_SECONDS:
            expected = f"a number of seconds above 0, at most {_MOST_SECONDS}"
            self._refuse(name, written, expected)

    def _check_choice(self, name: str, choices: Sequence[str]) -> None:
        written = self._as_given.get(name)
        if written is not None and written.strip().lower() not in choices:
            self._refuse(name, written, f"one of {', '.join(choices)}")

    def _check_file(self, name: str) -> None:
        written = self._set.get(name)
        if written is not None and not _is_pem(Path(written)):
            self._refuse(name, written, "the path of a PEM file that can be read")

    def _first(self, what: str, default: str) -> tuple[str, str]:
        """Return the variable that counts, that of traces before that of all signals."""
        names = [prefix + what for prefix in _PREFIXES]
        found = next((name for name in names if name in self._set), names[-1])
        return found, self._set.get(found, default)

    def _refuse(self, name: str, value: str, expected: str) -> None:
        what = f"{name} is '{printable(value[:200])}'; expected {expected}"
        self.problems.append(Problem("", what))


def _number(written: str) -> float:
    """Return a number; one that is not is -1."""
    try:
        number = float(written)
    except ValueError:
        return -1.0
    return number if math.isfinite(number) else -1.0


def _is_header(entry: str) -> bool:
    """Ask whether a header can be sent; an empty entry is none."""
    name, equals, value = entry.partition("=")
    is_value = _VALUE.fullmatch(value) and _SENT.fullmatch(unquote(value))
    return not entry.strip() or bool(equals and _NAME.fullmatch(name.strip(" \t")) and is_value)


def _is_attribute(entry: str) -> bool:
    name, equals, _ = entry.partition("=")
    return bool(name.strip() and equals)


def _is_pem(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return b"-----BEGIN" in file.read(_MOST_BYTES)
    except OSError:
        return False


def _is_endpoint(endpoint: str, protocol: str) -> bool:
    """Ask whether it is a URL with a host; gRPC takes ``host:port`` too."""
    if protocol == "grpc" and "://" not in endpoint:
        endpoint = f"http://{endpoint}"
    try:
        parts = urlsplit(endpoint)
        _ = parts.port
    except ValueError:
        return False
    has_host = bool(parts.hostname) and parts.hostname == "".join((parts.hostname or "").split())
    return parts.scheme in ("http", "https") and has_host
