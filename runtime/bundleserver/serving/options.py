"""A server's ports, limits, timeouts and logging."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bundleserver.serving.traffic.routing_key import ROUTING_HEADER

MESSAGE_BYTES = 8 * 2**20
"""KServe's size limit of one gRPC message."""

SLOWEST_BYTES_PER_SECOND = 16 * 2**10
"""Minimum average rate of a body, a message or an answer that exceeds its timeout."""

HTTP_PORT, HTTPS_PORT = 8080, 8443
"""KServe's REST ports; its servers use the second one for TLS by default."""


@dataclass(frozen=True)
class ServerOptions:
    """The settings of a ``BundleServer``; each has the name and the default of its flag.

    ``workers`` processes share the ports and the CPUs; each has a thread pool of
    ``max_asyncio_workers`` threads, None for the number of its CPUs. Port 0 selects a free port.
    ``event_loop`` is ``uvloop``, ``asyncio``, or ``auto``: uvloop if it is installed. ``host`` None
    is every address. ``admin`` is ``closed`` or ``open``, ``repository_index`` ``open``
    or ``admin``.
    """

    host: str | None = None
    http_port: int = 8080
    grpc_port: int = 8081
    enable_grpc: bool = True
    enable_docs_url: bool = False
    enable_page: bool = False
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None

    admin: str = "closed"
    admin_token_file: Path | None = None
    repository_index: str = "open"

    routing_header: str = ROUTING_HEADER

    workers: int = 1
    max_asyncio_workers: int | None = None
    max_queue: int = 128
    max_batch_rows: int = 1024
    event_loop: str = "auto"
    max_request_bytes: int = 64 * 2**20
    max_head_bytes: int = 64 * 2**10
    max_body_values: int = 2_500_000
    max_inflight_bytes: int = 512 * 2**20
    max_answer_values: int = 1_000_000
    request_timeout_seconds: float = 60.0
    grpc_max_send_message_length: int = MESSAGE_BYTES
    grpc_max_receive_message_length: int = MESSAGE_BYTES
    grpc_max_concurrent_streams: int = 256
    grpc_max_connection_idle_seconds: float = 300.0
    grpc_max_connection_age_seconds: float = 300.0
    timeout_keep_alive: int = 65
    timeout_receive: float = 60.0
    timeout_send: float = 60.0
    grace_period_seconds: float = 25.0
    lame_duck_seconds: float = 2.0

    log_requests: Path | None = None
    log_sample: float = 1.0
    log_columns: tuple[str, ...] = ()
    log_max_bytes: int = 10 * 2**30
    log_rotate_seconds: float = 300.0

    configure_logging: bool = True
    log_level: str = "info"
    log_config_file: str | None = None
    access_log: bool = False
    access_log_format: str | None = None


def rest_port(options: ServerOptions) -> int:
    """Return the REST port: with TLS the default is ``HTTPS_PORT``."""
    return (
        HTTPS_PORT if options.ssl_certfile and options.http_port == HTTP_PORT else options.http_port
    )


def lame_duck(options: ServerOptions) -> float:
    """Return its seconds: at most a third of the grace period, of which requests get the rest."""
    return min(options.lame_duck_seconds, options.grace_period_seconds / 3)
