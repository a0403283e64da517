"""Where log lines go: KServe's set-up, and our own loggers beside it in a shorter format."""

from __future__ import annotations

import copy
import logging

from bundleserver.serving.options import ServerOptions
from bundleserver.serving.sdk import kserve_logging


def set_up_logging(options: ServerOptions) -> None:
    """Set up the loggers of this process; a configuration file replaces everything of ours."""
    if not options.configure_logging:
        _leave_alone()
    elif options.log_config_file is not None:
        kserve_logging.configure_logging(options.log_config_file)
    else:
        kserve_logging.configure_logging(_default_config(options.log_level))


def _default_config(level: str) -> dict[str, object]:
    config: dict[str, dict[str, dict[str, object]]] = copy.deepcopy(
        kserve_logging.KSERVE_LOG_CONFIG
    )
    config["formatters"]["bundleserver"] = {
        "format": "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s",
        "datefmt": config["formatters"]["kserve"]["datefmt"],
    }
    config["handlers"]["bundleserver"] = {
        **config["handlers"]["kserve"],
        "formatter": "bundleserver",
    }
    config["loggers"]["bundleserver"] = {"handlers": ["bundleserver"], "propagate": False}
    for logger in config["loggers"].values():
        logger["level"] = level.upper()
    return dict(config)


def _leave_alone() -> None:
    """Keep kserve's server, which sets up logging where it sees no handler, from doing so."""
    logger = logging.getLogger(kserve_logging.KSERVE_LOGGER_NAME)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
