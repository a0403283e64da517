"""What Python itself says of running code, through the log.

Python writes warnings, the errors of threads and of destructors to standard error as they are, so
that the code of a model could forge lines there, or command a terminal. The log escapes them.
"""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from types import TracebackType
from typing import Any

LOG = logging.getLogger(__name__)


def log_what_python_says() -> None:
    """Log warnings, and errors that nobody catches, instead of printing them."""
    warnings.showwarning = _warning
    threading.excepthook = _error_of_thread
    sys.unraisablehook = _unraisable
    sys.excepthook = _uncaught


def _warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    LOG.warning("%s: %s", category.__name__, _text(message))


def _error_of_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit:
        name = args.thread.name if args.thread else "?"
        _log(f"the thread '{name}' ended with", args.exc_value, args.exc_traceback)


def _unraisable(args: sys.UnraisableHookArgs) -> None:
    # Never the object's own repr, which may raise, or have any length.
    where = type(args.object).__qualname__ if args.object is not None else "?"
    _log(f"{args.err_msg or 'ignored an error'} ({where}):", args.exc_value, args.exc_traceback)


def _uncaught(_: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    _log("the process ends with", error, at)


def _log(what: str, error: BaseException | None, at: TracebackType | None) -> None:
    exc_info = None if error is None else (type(error), error, at)
    LOG.error("%s %s: %s", what, type(error).__name__, _text(error), exc_info=exc_info)


def _text(said: object) -> str:
    try:
        return str(said)
    except Exception as failure:  # noqa: BLE001  # a model's class may raise in its __str__
        return f"it cannot be shown: {type(failure).__name__}"
