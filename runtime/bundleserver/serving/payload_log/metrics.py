"""Prometheus metrics of the payload log."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class LogMetrics:
    """Counts what is logged and what is not. Called from any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._dropped = Counter(
            "bundleserver_log_dropped",
            "Sampled requests that are not in the payload log, by reason.",
            ("reason",),
            registry=registry,
        )
        self.rows = Counter(
            "bundleserver_log_rows", "Rows in files of the payload log.", registry=registry
        )
        self.bytes = Counter(
            "bundleserver_log_bytes", "Bytes of files of the payload log.", registry=registry
        )
        self.removed = Counter(
            "bundleserver_log_removed_bytes",
            "Bytes of old files that were removed for --log_max_bytes.",
            registry=registry,
        )
        self.failing = Gauge(
            "bundleserver_log_failing",
            "1 while files of the payload log cannot be written.",
            registry=registry,
        )
        for reason in ("queue_full", "disk", "unreadable", "kinds", "stopping"):
            self._dropped.labels(reason)

    def dropped(self, reason: str, requests: int = 1) -> None:
        """Count requests that were to be logged and are not."""
        self._dropped.labels(reason).inc(requests)
