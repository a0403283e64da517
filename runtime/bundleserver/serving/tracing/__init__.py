"""Traces as OpenTelemetry has them, switched on by its environment variables."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bundleserver import spans
from bundleserver.documents.printable import printable
from bundleserver.errors import ConfigError
from bundleserver.serving.tracing.exporting import Exporting
from bundleserver.serving.tracing.settings import TracingSettings, read_variables
from bundleserver.serving.tracing.tracer import Tracer

LOG = logging.getLogger(__name__)

CLOSE_SECONDS = 1.0
"""How long the end of the process waits for the last spans."""


@dataclass(frozen=True)
class Tracing:
    """What traces this process: ``tracer`` is None where nothing is traced."""

    tracer: Tracer | None = None
    end: Callable[[float], None] = lambda seconds: None

    def close(self) -> None:
        """End it; spans that wait are exported within a second, or not at all."""
        spans.install(None)
        self.end(CLOSE_SECONDS)


def set_up(environ: Mapping[str, str]) -> Tracing:
    """Trace what this process does from now on, if the variables say so.

    Whatever is wrong with them is one warning, and nothing is traced.
    """
    try:
        settings = read_variables(environ)
        if settings is None:
            return Tracing()
        exporting, said = _exporting(settings)
    except ModuleNotFoundError as error:
        why = f"the package of '{error.name}' is not installed"
        return _off(f"{why}; install it with: pip install 'bundleserver[tracing]'")
    except ConfigError as error:
        return _off("; ".join(map(str, error.problems)))
    except Exception as error:  # noqa: BLE001  # a library's own, of a variable that only it reads
        return _off(f"{type(error).__name__}: {error}")
    if said := [*settings.warnings, *said]:
        LOG.warning("traces: %s", "; ".join(said))
    LOG.info("traces go to %s; %g of the requests are sampled", settings.place, settings.ratio)
    tracer = Tracer(
        exporting.take,
        settings.ratio,
        follows_parent=settings.follows_parent,
        reads_context=settings.reads_context,
    )
    spans.install(tracer)
    return Tracing(tracer, exporting.close)


def _exporting(settings: TracingSettings) -> tuple[Exporting, list[str]]:
    """Begin to export; also return what OpenTelemetry finds wrong with its variables."""
    from bundleserver.serving.tracing.library import Exporters

    exporters = Exporters(settings)
    how = {"queue": settings.queue, "batch": settings.batch}
    exporting = Exporting(
        exporters.export, exporters.shut_down, delay_seconds=settings.delay_seconds, **how
    )
    return exporting, exporters.said.all()


def _off(why: str) -> Tracing:
    LOG.warning("traces are off: %s", printable(why))
    return Tracing()
