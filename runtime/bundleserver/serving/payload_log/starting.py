"""The start of a payload log: what must be right before, and how it is put together."""

from __future__ import annotations

import os
import secrets
from importlib.util import find_spec
from pathlib import Path

from prometheus_client import CollectorRegistry

from bundleserver.errors import ConfigError, FrameworkError, Problem
from bundleserver.serving.models import ServingManager
from bundleserver.serving.options import ServerOptions
from bundleserver.serving.payload_log.files import make_folders
from bundleserver.serving.payload_log.log import PayloadLog
from bundleserver.serving.payload_log.log_options import LogOptions
from bundleserver.serving.payload_log.metrics import LogMetrics

FLAG = "--log_requests"


def check_log(directory: Path, models: Path | None) -> None:
    """Create the directory of a payload log, and refuse one that cannot be written.

    Args:
        directory: of the log.
        models: the directory of models, if there is one.

    Raises:
        ConfigError: it lies in the directory of models or around it, or no file can be created.
        FrameworkError: pyarrow is not installed.
    """
    check_pyarrow()
    if models is not None and directory.resolve().is_relative_to(models.resolve()):
        what = (
            f"'{directory}' lies in --model_dir, where it would be taken for a model; "
            "expected another directory"
        )
        raise ConfigError("serve", [Problem(FLAG, what)])
    if models is not None and models.resolve().is_relative_to(directory.resolve()):
        what = (
            f"'{directory}' has --model_dir in it, so readers of the log would find the files of "
            "models; expected another directory"
        )
        raise ConfigError("serve", [Problem(FLAG, what)])
    trial = directory / f".{secrets.token_hex(8)}.tmp"
    try:
        make_folders(directory)
        os.close(os.open(trial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        trial.unlink()
    except OSError as error:
        what = (
            f"'{directory}' cannot be written: {error.strerror or error}; expected a directory "
            f"of the user {os.getuid()}, such as an emptyDir or a volume with an fsGroup"
        )
        raise ConfigError("serve", [Problem(FLAG, what)]) from error


def make_log(
    options: ServerOptions, manager: ServingManager, registry: CollectorRegistry
) -> PayloadLog | None:
    """Make the payload log of a server, which is not started yet; None without ``--log_requests``.

    Raises:
        FrameworkError: pyarrow is not installed.
    """
    if options.log_requests is None:
        return None
    check_pyarrow()
    from bundleserver.serving.payload_log.writing import Writer

    logged = LogOptions(
        options.log_requests,
        options.log_sample,
        options.log_columns,
        options.log_max_bytes,
        options.log_rotate_seconds,
    )
    metrics = LogMetrics(registry)
    return PayloadLog(logged, Writer(logged, manager, metrics), metrics)


def check_pyarrow() -> None:
    """Require pyarrow.

    Raises:
        FrameworkError: it is not installed.
    """
    if find_spec("pyarrow") is None:
        raise FrameworkError(
            f"{FLAG} requires the package 'pyarrow', which is not installed; install it with: "
            "pip install 'bundleserver[batch]'"
        )
