"""The flags of what people see of a server: its logs, traces and pages."""

from __future__ import annotations

from bundleserver.commands.flags.flag import Flag
from bundleserver.commands.flags.values import one_of, parse_bool

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
