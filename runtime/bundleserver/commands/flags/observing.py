"""The flags of what people see of a server: its logs, traces and pages."""

from __future__ import annotations

from pathlib import Path

from bundleserver.commands.flags.flag import Flag
from bundleserver.commands.flags.values import (
    one_of,
    parse_bool,
    parse_bytes,
    parse_float,
    parse_labels,
)

PAGES: tuple[Flag, ...] = (
    Flag("--enable_page", "serve a read-only page for browsers at /", parse_bool),
)

LOGGING: tuple[Flag, ...] = (
    Flag(
        "--log_level",
        "debug, info, warning or error",
        one_of("debug", "info", "warning", "error"),
    ),
    Flag("--configure_logging", "set up KServe's and uvicorn's logging", parse_bool),
    Flag("--log_config_file", "logging configuration file, YAML or JSON"),
    Flag("--access_log", "log each request", parse_bool),
    Flag(
        "--access_log_format",
        "log each request as one line in this format, such as '%(h)s \"%(r)s\" %(s)s %(L)s'",
    ),
)

PAYLOAD_LOG: tuple[Flag, ...] = (
    Flag(
        "--log_requests",
        "directory for requests and their outputs, as Parquet files by model, version and hour",
        Path,
    ),
    Flag("--log_sample", "share of the requests that are logged, from 0 to 1", parse_float),
    Flag(
        "--log_columns",
        "inputs that are logged too: names of inputs or of their columns, such as amount,age, "
        "or all; default: none",
        parse_labels,
    ),
    Flag(
        "--log_max_bytes",
        "size of the directory beyond which its oldest files are removed; 0: no limit",
        parse_bytes,
    ),
    Flag("--log_rotate_seconds", "seconds until a file is complete", parse_float),
)
