"""What OpenTelemetry's environment variables say of traces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from bundleserver.documents.printable import printable
from bundleserver.errors import ConfigError, Problem

EXPORTERS = ("otlp", "console", "none")
PROTOCOLS = ("grpc", "http/protobuf")
SAMPLERS = ("always_on", "always_off", "traceidratio")
_PARENT_BASED = "parentbased_"
_PROPAGATORS = ("tracecontext", "baggage", "none")
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOL_NAMES = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


@dataclass(frozen=True)
class TracingSettings:
    """What is traced, and where spans go.

    Attributes:
        exporters: ``otlp`` and ``console``, at least one of them.
        protocol: of OTLP: ``grpc`` or ``http/protobuf``.
        ratio: which share of the requests is sampled that nobody has decided on.
        follows_parent: whether a request's ``traceparent`` decides, where there is one.
        reads_context: whether ``traceparent`` and ``tracestate`` are read at all.
        queue: how many spans wait for their export at most.
        batch: how many are exported at a time.
        delay_seconds: how long a span waits for others.
        ignored: propagators that are not supported.
    """

    exporters: tuple[str, ...]
    protocol: str = "grpc"
    ratio: float = 1.0
    follows_parent: bool = True
    reads_context: bool = True
    queue: int = 2048
    batch: int = 512
    delay_seconds: float = 5.0
    ignored: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Where spans go, for messages."""
        return " and ".join(self.exporters)


def read_variables(environ: Mapping[str, str]) -> TracingSettings | None:
    """Read the variables; None: nothing is traced.

    An OTLP endpoint alone switches tracing on, as KServe's own servers do it. Nothing is ever sent
    where nobody has named an exporter or an endpoint.

    Raises:
        ConfigError: a value is not valid; names all of them.
    """
    variables = {name: value.strip() for name, value in environ.items() if value.strip()}
    if variables.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    named = variables.get("OTEL_TRACES_EXPORTER", "").lower()
    if not named:
        named = "otlp" if any(name in variables for name in _ENDPOINTS) else "none"
    reading = _Reading(variables)
    exporters = reading.exporters(named)
    if not exporters and not reading.problems:
        return None
    sampler, follows = reading.sampler()
    propagators = variables.get("OTEL_PROPAGATORS", "tracecontext,baggage").lower()
    wanted = [name.strip() for name in propagators.split(",") if name.strip()]
    batch = reading.count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)
    settings = TracingSettings(
        exporters,
        protocol=reading.protocol() if "otlp" in exporters else "grpc",
        ratio=reading.ratio(sampler),
        follows_parent=follows,
        reads_context="tracecontext" in wanted,
        queue=max(batch, reading.count("OTEL_BSP_MAX_QUEUE_SIZE", 2048)),
        batch=batch,
        delay_seconds=reading.count("OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000,
        ignored=tuple(printable(name) for name in wanted if name not in _PROPAGATORS),
    )
    if reading.problems:
        raise ConfigError("traces", reading.problems)
    return settings


class _Reading:
    """Reads variables, and keeps what is wrong with them."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.problems: list[Problem] = []
        self._variables = variables

    def exporters(self, named: str) -> tuple[str, ...]:
        names = dict.fromkeys(name.strip() for name in named.split(",") if name.strip())
        for name in names:
            if name not in EXPORTERS:
                self._refuse("OTEL_TRACES_EXPORTER", name, f"one of {', '.join(EXPORTERS)}")
        return () if "none" in names else tuple(names)

    def protocol(self) -> str:
        name, protocol = self._first(_PROTOCOL_NAMES, "grpc")
        if protocol not in PROTOCOLS:
            self._refuse(name, protocol, f"one of {', '.join(PROTOCOLS)}")
        name, endpoint = self._first(_ENDPOINTS, "")
        if endpoint and not _is_endpoint(endpoint, protocol):
            self._refuse(name, endpoint, "a URL such as http://otel-collector:4317")
        return protocol

    def sampler(self) -> tuple[str, bool]:
        name = self._variables.get("OTEL_TRACES_SAMPLER", "parentbased_always_on").lower()
        follows, sampler = name.startswith(_PARENT_BASED), name.removeprefix(_PARENT_BASED)
        if sampler not in SAMPLERS:
            known = ", ".join([*SAMPLERS, *(_PARENT_BASED + one for one in SAMPLERS)])
            self._refuse("OTEL_TRACES_SAMPLER", name, f"one of {known}")
        return sampler, follows

    def ratio(self, sampler: str) -> float:
        if sampler != "traceidratio":
            return 0.0 if sampler == "always_off" else 1.0
        written = self._variables.get("OTEL_TRACES_SAMPLER_ARG", "1")
        try:
            ratio = float(written)
        except ValueError:
            ratio = -1.0
        if not 0 <= ratio <= 1:
            self._refuse("OTEL_TRACES_SAMPLER_ARG", written, "a number from 0 to 1")
        return ratio

    def count(self, name: str, default: int) -> int:
        written = self._variables.get(name, str(default))
        if not (written.isascii() and written.isdigit() and 0 < int(written[:9]) < 10**8):
            self._refuse(name, written, "a whole number from 1 to 99999999")
            return default
        return int(written)

    def _first(self, names: tuple[str, ...], default: str) -> tuple[str, str]:
        return next(
            ((name, self._variables[name]) for name in names if name in self._variables),
            (names[-1], default),
        )

    def _refuse(self, name: str, value: str, expected: str) -> None:
        what = f"{name} is '{printable(value[:200])}'; expected {expected}"
        self.problems.append(Problem("", what))


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
