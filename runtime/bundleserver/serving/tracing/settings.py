"""What OpenTelemetry's environment variables say of traces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bundleserver.documents.printable import printable
from bundleserver.errors import ConfigError
from bundleserver.serving.tracing.variables import Variables

_PROPAGATORS = ("tracecontext", "baggage", "none")
_UNUSED = "OTEL_BSP_EXPORT_TIMEOUT"


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
        warnings: what is probably not what was meant.
    """

    exporters: tuple[str, ...]
    protocol: str = "grpc"
    ratio: float = 1.0
    follows_parent: bool = True
    reads_context: bool = True
    queue: int = 2048
    batch: int = 512
    delay_seconds: float = 5.0
    warnings: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Where spans go, for messages."""
        return " and ".join(self.exporters)


def read_variables(environ: Mapping[str, str]) -> TracingSettings | None:
    """Read the variables; None: nothing is traced.

    An OTLP endpoint alone switches tracing on, as KServe's own servers do it. Nothing is ever sent
    where nobody has named an exporter or an endpoint. Where it is on, every variable is checked,
    also those that only OpenTelemetry's exporters read: some of those would otherwise be found
    wrong at each export, and others go on with a default.

    Raises:
        ConfigError: a value is not valid; names all of them.
    """
    reading = Variables(environ)
    if reading.get("OTEL_SDK_DISABLED") == "true":
        return None
    named = reading.get("OTEL_TRACES_EXPORTER") or ("otlp" if reading.has_endpoint() else "none")
    exporters = reading.exporters(named)
    if not exporters and not reading.problems:
        return None
    sampler, follows = reading.sampler()
    protocol = reading.otlp() if "otlp" in exporters else "grpc"
    reading.check_resource()
    propagators = _propagators(reading)
    batch = reading.count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)
    if reading.get(_UNUSED):
        reading.count(_UNUSED, 30000)
        instead = "OTEL_EXPORTER_OTLP_TIMEOUT limits an export"
        reading.warnings.append(f"{_UNUSED} has no effect; {instead}")
    settings = TracingSettings(
        exporters,
        protocol=protocol,
        ratio=reading.ratio(sampler),
        follows_parent=follows,
        reads_context="tracecontext" in propagators,
        queue=max(batch, reading.count("OTEL_BSP_MAX_QUEUE_SIZE", 2048)),
        batch=batch,
        delay_seconds=reading.count("OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000,
        warnings=tuple(reading.warnings),
    )
    if reading.problems:
        raise ConfigError("traces", reading.problems)
    return settings


def _propagators(reading: Variables) -> list[str]:
    """Return what propagators are named; others than W3C's are ignored, with a warning."""
    named = reading.get("OTEL_PROPAGATORS", "tracecontext,baggage").split(",")
    wanted = [name.strip() for name in named if name.strip()]
    if ignored := [printable(name[:200]) for name in wanted if name not in _PROPAGATORS]:
        said = f"OTEL_PROPAGATORS: {', '.join(ignored)} are not supported, and ignored"
        reading.warnings.append(said)
    return wanted
