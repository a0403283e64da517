"""The command line: its commands and exit codes.

Every error of ours is one line on standard error and exit code 1; an invalid flag or argument is
exit code 2. Flags without a command mean ``serve``, as KServe starts its servers.
"""

from __future__ import annotations

import errno
import logging
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Annotated, NoReturn, cast

import typer
from typer.core import TyperGroup

import bundleserver
from bundleserver.commands import (
    bundles,
    comparing,
    console,
    inspecting,
    predicting,
    publishing,
    registry,
    serving,
    signing,
    validating,
)
from bundleserver.errors import BundleServerError
from bundleserver.serving.logs.interpreter import log_what_python_says

LOG = logging.getLogger(__name__)

# As a base, since typer has had the class in two places.
_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__bases__[0])
_OWN_FLAGS = ("--help", "-h", "--version", "--install-completion", "--show-completion")


class _Ended(KeyboardInterrupt):
    """A signal has ended the command; as Ctrl-C, it is nothing that a model's code raised."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.code = 128 + number


class _Commands(TyperGroup):
    """All commands; flags without a command are passed to ``serve``."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # typer calls its own Context by two names
        if args and args[0].startswith("-") and args[0] not in _OWN_FLAGS:
            args = ["serve", *args]
        with _printable_usage_errors():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]  # as above
        try:
            with _printable_usage_errors():
                return super().invoke(ctx)
        except _Ended as ended:
            raise SystemExit(ended.code) from None
        except BundleServerError as error:
            console.say_error(error)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            place = f"{error.filename}: " if error.filename else ""
            console.say_error(f"{place}{error.strerror or error}")
        raise typer.Exit(1)


@contextmanager
def _printable_usage_errors() -> Iterator[None]:
    """Escape what typer says of arguments, before it prints it."""
    try:
        yield
    except _UsageError as error:
        error.message = console.one_line(error.message)
        raise


app = typer.Typer(
    name="bundleserver",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Serve a directory of model files as one versioned model, and manage such directories.",
    epilog="See bundleserver COMMAND --help for details. Flags without a command are passed to "
    "serve: python -m bundleserver --model_name fraud --model_dir /mnt/models",
)
app.command(
    "serve",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(serving.serve)
for _name, _command in (
    ("init", bundles.init),
    ("validate", validating.validate),
    ("inspect", inspecting.inspect),
    ("predict", predicting.predict),
    ("compare", comparing.compare),
    ("publish", publishing.publish),
    ("promote", publishing.promote),
    ("rollback", publishing.rollback),
    ("split", publishing.split),
    ("sign", signing.sign),
    ("verify", signing.verify),
    ("push", registry.push),
    ("pull", registry.pull),
    ("schema", bundles.schema),
):
    app.command(_name)(_command)


def _say_version(asked: bool) -> None:
    if asked:
        console.say(f"bundleserver {bundleserver.__version__}")
        raise typer.Exit


@app.callback()
def _start(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_say_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Accept the flags before a command; ``--version`` has already exited."""
    if context.invoked_subcommand == "serve":
        return
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            # Whoever started the command with nohup wants it to go on.
            if signal.getsignal(number) is signal.SIG_IGN:
                continue
            former = signal.signal(number, _end)
            context.call_on_close(partial(signal.signal, number, former))


def _end(number: int, _: object) -> NoReturn:
    """End a command as Ctrl-C does: what it has begun to write is removed."""
    for other in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise _Ended(number)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its exit code."""
    if logging.lastResort is not None:
        # One line per warning of a library, until logging is set up.
        logging.lastResort.setFormatter(console.OneLineFormatter())
    log_what_python_says()
    try:
        app(args=list(sys.argv[1:] if arguments is None else arguments), prog_name="bundleserver")
    except Exception as error:  # the last resort: whatever a file or a server made a library raise
        if logging.getLogger("bundleserver").handlers:
            LOG.critical("unexpected error", exc_info=error)  # of a server, with its traceback
        else:
            console.say_unexpected(error)
        raise SystemExit(1) from None
