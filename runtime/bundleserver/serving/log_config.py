"""Logging configuration: ours, uvicorn's and kserve's logs in one format on standard error."""

from __future__ import annotations

import logging.config

from bundleserver.serving.options import ServerOptions

_DATE_FORMAT = "%Y-%m-%d %H:%M:%S"


def set_up_logging(options: ServerOptions) -> None:
    """Set up the loggers of this process; a configuration file replaces our configuration."""
    if not options.configure_logging:
        return
    if options.log_config_file is None:
        logging.config.dictConfig(_default_config(options))
    else:
        from bundleserver.serving.kserve.sdk import kserve_logging

        kserve_logging.configure_logging(options.log_config_file)


def _default_config(options: ServerOptions) -> dict[str, object]:
    level = options.log_level.upper()
    # With several worker processes each line has the process id.
    process = " %(process)d" if options.workers > 1 else ""
    lines = {"handlers": ["lines"], "level": level, "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "lines": {
                "format": f"%(asctime)s.%(msecs)03d %(levelname)s{process} %(name)s: %(message)s",
                "datefmt": _DATE_FORMAT,
            },
            "access": {
                "()": "uvicorn.logging.AccessFormatter",
                "fmt": "%(asctime)s.%(msecs)03d %(name)s %(levelprefix)s %(client_addr)s "
                '%(process)s - "%(request_line)s" %(status_code)s',
                "datefmt": _DATE_FORMAT,
            },
            "message": {"format": "%(message)s"},
        },
        "handlers": {
            "lines": {"class": "logging.StreamHandler", "formatter": "lines"},
            "access": {
                "class": "logging.StreamHandler",
                "formatter": "access",
                "stream": "ext://sys.stdout",
            },
            "own access": {
                "class": "logging.StreamHandler",
                "formatter": "message",
                "stream": "ext://sys.stdout",
            },
        },
        "loggers": {
            "bundleserver": lines,
            # With --access_log_format, whatever the log level.
            "bundleserver.access": {
                "handlers": ["own access"],
                "level": "INFO",
                "propagate": False,
            },
            "kserve": lines,
            "uvicorn": lines,
            "uvicorn.access": {"handlers": ["access"], "level": level, "propagate": False},
        },
    }
