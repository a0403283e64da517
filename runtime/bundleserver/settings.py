"""The settings of ``serve``: KServe's with KServe's names and defaults, and ours.

``commands/flags`` has the flag of each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

from bundleserver.bundle.trust import SignaturePolicy
from bundleserver.errors import ConfigError, Problem
from bundleserver.frameworks.trust import PicklePolicy
from bundleserver.serving.connection.access_log import format_problem
from bundleserver.serving.stopping import TERMINATION_LOG
from bundleserver.sources.registry.uri import ModelUri, alias_problem
from bundleserver.versions import VersionPolicy
from bundleserver.versions.lifecycle import SwapPolicy


@dataclass(frozen=True)
class Settings:
    """Every setting of ``serve``; ``Settings()`` has the defaults.

    Raises:
        ConfigError: settings are invalid; lists all of them.
    """

    model_name: str | None = None
    """None: subdirectories that are models are served under their own names."""
    model_dir: Path = Path("/mnt/models")
    model_uri: str | None = None
    """A model in the registry at MLFLOW_TRACKING_URI, instead of ``model_dir``."""
    labels: tuple[str, ...] = ()
    cache_dir: Path | None = None
    """None: in the temporary directory."""
    cache_versions: int = 3
    cache_max_bytes: int | None = None
    version_policy: VersionPolicy = field(default=VersionPolicy())
    poll_interval_seconds: float = 5.0
    version_mismatch: str = "warn"
    probe: str = "enforce"
    breaking_signature: str = "warn"
    predict_proba: bool = False
    """Models that have probabilities answer with them, as KServe's scikit-learn server does."""

    profile: str | None = None
    """``production``: other defaults, for whoever trusts nobody; see ``commands/profiles.py``."""
    pickle_policy: PicklePolicy = PicklePolicy.ANY
    pickle_allow: Path | None = None
    """The operator's own names, one in a line, beside the built-in list of ``listed``."""
    bundle_code: str = "allow"
    require_manifest: bool = False
    trusted_keys: Path | None = None
    signatures: SignaturePolicy | None = None
    """None: ``enforce`` with ``trusted_keys``, else ``off``."""

    swap_policy: SwapPolicy = SwapPolicy.AVAILABILITY
    load_threads: int = 4
    load_timeout_seconds: float = 600.0
    """0: no limit."""
    strict_readiness: bool = False
    first_load_failure: str = "wait"
    """``exit``: a server that has never been ready ends once its first load has failed for good."""
    termination_log: Path = TERMINATION_LOG
    """Where the reason of its end is written, if there is such a file."""
    device: str = "cpu"

    traffic: tuple[tuple[str, float], ...] | None = None
    """Names and weights; None: as in ``serving.json``, else the default version gets all."""
    routing_header: str = "X-Routing-Key"

    host: str | None = None
    """None: every address."""
    http_port: int = 8080
    grpc_port: int = 8081
    enable_grpc: bool = True
    enable_docs_url: bool = False
    enable_page: bool = False
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None

    admin: str = "closed"
    """Who may load and unload by request without a token: ``closed`` is nobody, ``open`` is all."""
    admin_token_file: Path | None = None
    """With a token, it decides."""
    repository_index: str = "open"
    """``admin``: only those who may load and unload may read the index."""

    workers: int = 1
    """Worker processes on the same ports; each loads the models itself."""
    heartbeat_seconds: float = 10.0
    """How long a worker process may hang before it is replaced; 0: for ever."""
    max_asyncio_workers: int | None = None
    # 0: no limit, as of the other limits.
    max_queue: int = 128
    max_batch_rows: int = 1024
    """0 and 1 disable batching."""
    max_request_bytes: int = 64 * 2**20
    max_head_bytes: int = 64 * 2**10
    max_body_values: int = 2_500_000
    max_inflight_bytes: int = 512 * 2**20
    max_answer_values: int = 1_000_000
    """Values of all outputs of one request, over members and instances; 0: no limit."""
    request_timeout_seconds: float = 60.0
    """0: no timeout."""
    grpc_max_send_message_length: int = 8 * 2**20
    grpc_max_receive_message_length: int = 8 * 2**20
    grpc_max_concurrent_streams: int = 256
    """0: no limit."""
    grpc_max_connection_idle_seconds: float = 300.0
    grpc_max_connection_age_seconds: float = 300.0
    """0: connections are never renewed."""
    timeout_keep_alive: int = 65
    timeout_receive: float = 60.0
    """0: no timeout."""
    timeout_send: float = 60.0
    # Kubernetes kills the process after 30 s by default.
    grace_period_seconds: float = 25.0
    lame_duck_seconds: float = 2.0
    """0: new connections are refused at once. At most a third of the grace period is used."""

    log_requests: Path | None = None
    """The directory of the payload log; None: there is none."""
    log_sample: float = 1.0
    log_columns: tuple[str, ...] = ()
    """Inputs, or columns of inputs, to log; ``all`` for every one."""
    log_max_bytes: int = 10 * 2**30
    """0: no limit."""
    log_rotate_seconds: float = 300.0

    log_level: str = "info"
    configure_logging: bool = True
    log_config_file: str | None = None
    access_log: bool = False
    access_log_format: str | None = None

    # KServe's, without effect.
    max_threads: int = 4
    nthread: int | None = None
    framework: str | None = None
    event_loop: str = "auto"
    enable_latency_logging: bool = True
    predictor_host: str | None = None
    protocol: str = "v1"
    predictor_protocol: str = "v1"
    predictor_use_ssl: bool = False
    predictor_request_timeout_seconds: int = 600
    predictor_request_retries: int = 0
    enable_predictor_health_check: bool = False

    def __post_init__(self) -> None:
        problems = [*self._range_problems(), *self._value_problems(), *self._registry_problems()]
        if problems:
            raise ConfigError("settings", problems)

    def _range_problems(self) -> Iterator[Problem]:
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            # In this form NaN is out of range too.
            if value is not None and not least <= value <= most:
                yield Problem(name, f"is {value}; expected a number from {least} to {most}")

    def _value_problems(self) -> Iterator[Problem]:
        if self.enable_grpc and self.http_port == self.grpc_port != 0:
            what = f"is {self.grpc_port}, the port of REST; expected another port"
            yield Problem("grpc_port", what)
        if bool(self.ssl_certfile) != bool(self.ssl_keyfile):
            missing = "ssl_keyfile" if self.ssl_certfile else "ssl_certfile"
            yield Problem(missing, "is missing; HTTPS requires a certificate and its private key")
        if not _HEADER.fullmatch(self.routing_header):
            what = f"is '{self.routing_header}'; expected a header name such as X-User-Id"
            yield Problem("routing_header", what)
        if 0 < self.heartbeat_seconds < 1:
            what = f"is {self.heartbeat_seconds}; expected 0 for never, or at least 1"
            yield Problem("heartbeat_seconds", what)
        if self.model_name is not None and (not self.model_name or "/" in self.model_name):
            yield Problem("model_name", f"is '{self.model_name}'; expected a name without '/'")

        if self.host == "":
            what = "is ''; expected an address such as 127.0.0.1; without the flag it is every one"
            yield Problem("host", what)
        yield from self._trust_problems()
        yield from self._log_problems()
        if self.access_log_format is not None:
            problem = format_problem(self.access_log_format)
            if problem is not None:
                yield Problem("access_log_format", problem)

    def _trust_problems(self) -> Iterator[Problem]:
        if self.pickle_allow is not None and self.pickle_policy is not PicklePolicy.LISTED:
            what = (
                f"has an effect with --pickle_policy=listed only; it is {self.pickle_policy.value}"
            )
            yield Problem("pickle_allow", what)
        asked = self.signatures or SignaturePolicy.OFF
        if asked is not SignaturePolicy.OFF and self.trusted_keys is None:
            what = f"is {asked.value}, which requires --trusted_keys; without, say --signatures=off"
            yield Problem("signatures", what)

    def _log_problems(self) -> Iterator[Problem]:
        defaults = {one.name: one.default for one in fields(self)}
        for name in ("log_sample", "log_columns", "log_max_bytes", "log_rotate_seconds"):
            if self.log_requests is None and getattr(self, name) != defaults[name]:
                yield Problem(name, "has an effect with --log_requests=DIR only")
        if "all" in self.log_columns and len(self.log_columns) > 1:
            what = f"is '{','.join(self.log_columns)}'; expected either names or 'all'"
            yield Problem("log_columns", what)
        if 0 < self.log_max_bytes < 64 * 2**20:
            what = f"is {self.log_max_bytes}; expected 0 for no limit, or at least 64MiB"
            yield Problem("log_max_bytes", what)

    def _registry_problems(self) -> Iterator[Problem]:
        if self.model_uri is not None:
            try:
                ModelUri.parse(self.model_uri)
            except ValueError as error:
                yield Problem("model_uri", str(error))
        elif self.labels:
            yield Problem("labels", "requires --model_uri; labels are aliases in a registry")
        for label in self.labels:
            if problem := alias_problem(label):
                yield Problem("labels", problem)


_HEADER = re.compile(r"[A-Za-z0-9_-]{1,64}")
# Beyond these a value is a mistake: a thread pool of a million, a timeout for ever.
_DAY, _BYTES, _COUNT, _THREADS = 86400, 2**50, 10**9, 4096
_RANGES: dict[str, tuple[float, float]] = {
    "poll_interval_seconds": (0.05, _DAY),
    "http_port": (0, 65535),
    "grpc_port": (0, 65535),
    "workers": (1, 1024),
    "max_threads": (1, _COUNT),
    "nthread": (-_COUNT, _COUNT),
    "max_asyncio_workers": (1, _THREADS),
    "load_threads": (1, _THREADS),
    "load_timeout_seconds": (0, _DAY),
    "cache_versions": (0, _COUNT),
    "cache_max_bytes": (1, _BYTES),
    "max_queue": (0, _COUNT),
    "max_batch_rows": (0, _COUNT),
    "max_request_bytes": (0, _BYTES),
    "max_head_bytes": (0, _BYTES),
    "max_body_values": (0, _BYTES),
    "max_inflight_bytes": (0, _BYTES),
    "grpc_max_connection_idle_seconds": (0, _DAY),
    "grpc_max_connection_age_seconds": (0, _DAY),
    "max_answer_values": (0, _BYTES),
    "request_timeout_seconds": (0, _DAY),
    # 0 is no limit, as is gRPC's own -1.
    "grpc_max_send_message_length": (-1, 2**31 - 1),
    "grpc_max_receive_message_length": (-1, 2**31 - 1),
    "heartbeat_seconds": (0, _DAY),
    "grpc_max_concurrent_streams": (0, 2**31 - 1),
    "timeout_keep_alive": (0, _DAY),
    "timeout_receive": (0, _DAY),
    "timeout_send": (0, _DAY),
    "grace_period_seconds": (0, _DAY),
    "lame_duck_seconds": (0, _DAY),
    "log_sample": (0, 1),
    "log_max_bytes": (0, _BYTES),
    "log_rotate_seconds": (0.1, 3600),
    "predictor_request_timeout_seconds": (-_COUNT, _COUNT),
    "predictor_request_retries": (-_COUNT, _COUNT),
}
