"""Logging configuration: ours, uvicorn's and kserve's logs in one format on standard error."""

from __future__ import annotations

import logging.config
from typing import Any

from bundleserver.documents.printable import printable
from bundleserver.errors import ConfigError, Problem
from bundleserver.serving.logs.interpreter import log_what_python_says
from bundleserver.serving.options import ServerOptions

_DATE_FORMAT = "%Y-%m-%d %H:%M:%S"


_MOST_LINES = 200
_LONGEST_LINE = 2_000
_LONGEST_MESSAGE = 8_000


class PrintableRecord(logging.LogRecord):
    """A record of which nothing forges a line or commands a terminal, whatever formats it.

    Names of files, labels and the errors of libraries are escaped, and a traceback is indented, so
    that only what a logger wrote begins a line.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if isinstance(self.args, tuple):
            # A formatter of access logs reads these, and never the message.
            self.args = tuple(printable(a) if isinstance(a, str) else a for a in self.args)
        if self.exc_info and self.exc_info[0] is not None:
            text = logging.Formatter().formatException(self.exc_info)
            lines = text.split("\n")
            if len(lines) > _MOST_LINES:
                lines[_MOST_LINES // 2 : -_MOST_LINES // 2] = ["…"]
            self.exc_text = "\n".join(f"  {printable(line, _LONGEST_LINE)}" for line in lines)

    def getMessage(self) -> str:  # noqa: N802 - logging's own name
        """Return the message on one line."""
        return printable(super().getMessage(), _LONGEST_MESSAGE)


def set_up_logging(options: ServerOptions) -> None:
    """Set up the loggers of this process; a configuration file replaces our configuration."""
    if not options.configure_logging:
        return
    logging.setLogRecordFactory(PrintableRecord)
    if options.log_config_file is None:
        logging.config.dictConfig(_default_config(options))
    else:
        _configure_from(options.log_config_file)
    log_what_python_says()


def _configure_from(file: str) -> None:
    from bundleserver.serving.kserve.sdk import kserve_logging

    try:
        kserve_logging.configure_logging(file)
    except OSError as error:
        raise _unusable(file, f"cannot be read: {error.strerror or error}") from error
    except Exception as error:  # whatever the parsers of three formats and their handlers raise
        # Why a handler cannot be made is the cause of what says so.
        causes = filter(None, (error, error.__cause__))
        why = ": ".join(" ".join(str(it).split()) or type(it).__name__ for it in causes)
        raise _unusable(file, f"is not a logging configuration: {why}") from error


def _unusable(file: str, why: str) -> ConfigError:
    problem = Problem("--log_config_file", f"'{printable(file)}' {why}")
    return ConfigError("serve", [problem])


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
