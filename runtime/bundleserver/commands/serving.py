"""``serve``: from flags to a running server, until it stops."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from bundleserver.commands.console import say_error
from bundleserver.commands.flags import ignored_flags, read_settings
from bundleserver.commands.flags.table import FLAGS
from bundleserver.commands.flags.variables import VARIABLES, ignored_variables
from bundleserver.commands.sources import check_place, make_source, served_name
from bundleserver.commands.trust import log_trust, trust_of
from bundleserver.errors import BundleServerError, ConfigError, FrameworkError
from bundleserver.serving.stopping import (
    TERMINATION_LOG,
    TerminationMessage,
    ignore_signals,
    write_termination_message,
)
from bundleserver.serving.workers.identity import WorkerIdentity
from bundleserver.settings import Settings

if TYPE_CHECKING:
    from bundleserver.manager import Manager
    from bundleserver.serving.options import ServerOptions
    from bundleserver.serving.workers.member import Member

LOG = logging.getLogger(__name__)


def serve(context: typer.Context) -> None:
    """Serve the models of a directory (V1, V2, gRPC); see serve --help for its flags.

    Example: bundleserver serve --model_name fraud --model_dir /mnt/models
    """
    try:
        _serve(context.args)
    except (Exception, SystemExit) as error:
        why = error.__cause__ if isinstance(error, SystemExit) else error
        if why is not None:
            what = (
                "" if isinstance(why, (BundleServerError, OSError)) else f"{type(why).__name__}: "
            )
            write_termination_message(f"{what}{why}", _termination_log(context.args))
        raise


def _serve(arguments: Sequence[str]) -> None:
    try:
        settings = read_settings(arguments)
        check_place(settings)
        if settings.log_requests is not None:
            _check_log(settings.log_requests, settings)
    except ConfigError as error:
        say_error(error)
        raise SystemExit(2) from error
    identity = WorkerIdentity.of(os.environ) if settings.workers > 1 else None
    if settings.workers > 1 and identity is None:
        trust_of(settings)  # what is wrong with it is told once, and not by each worker process
        raise SystemExit(_supervise(settings, arguments))
    run(settings, identity)


def _check_log(directory: Path, settings: Settings) -> None:
    from bundleserver.serving.payload_log.starting import check_log

    check_log(directory, settings.model_dir if settings.model_uri is None else None)


def _termination_log(arguments: Sequence[str]) -> Path:
    """Return the place of the termination message, also if other flags are invalid."""
    place = os.environ.get(VARIABLES["termination_log"]) or str(TERMINATION_LOG)
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        flag, given, value = argument.partition("=")
        if flag == FLAGS["termination_log"].spelling:
            named = value if given else following
            # Without a value it is an error, which is written where it is without the flag.
            place = place if not named or named.startswith("--") else named
    return Path(place)


def _supervise(settings: Settings, arguments: Sequence[str]) -> int:
    from bundleserver.manager.first_load import PAUSES_SECONDS
    from bundleserver.serving.logs.config import set_up_logging
    from bundleserver.serving.options import rest_port
    from bundleserver.serving.workers.supervisor import supervise

    options = _server_options(settings)
    set_up_logging(options)
    return supervise(
        [sys.executable, "-m", "bundleserver", "serve", *arguments],
        workers=settings.workers,
        host=settings.host,
        http_port=rest_port(options),
        grpc_port=settings.grpc_port if settings.enable_grpc else None,
        grace_seconds=settings.grace_period_seconds,
        heartbeat_seconds=settings.heartbeat_seconds,
        first_pauses_seconds=PAUSES_SECONDS if settings.first_load_failure == "exit" else None,
        say_failed=TerminationMessage(settings.termination_log).end,
    )


def _server_options(settings: Settings) -> ServerOptions:
    from bundleserver.serving.options import ServerOptions

    return ServerOptions(
        **{field.name: getattr(settings, field.name) for field in fields(ServerOptions)}
    )


def _make_manager(
    settings: Settings, member: Member | None, message: TerminationMessage
) -> Manager:
    from bundleserver.manager import Manager
    from bundleserver.manager.first_load import PAUSES_SECONDS
    from bundleserver.manager.manager import RETRY_PAUSES_SECONDS

    exits = settings.first_load_failure == "exit"
    first = PAUSES_SECONDS if exits else ()
    return Manager(
        make_source(settings),
        model_name=served_name(settings),
        policy=settings.version_policy,
        traffic=dict(settings.traffic or ()),
        swap=settings.swap_policy,
        device=settings.device,
        predict_proba=settings.predict_proba,
        version_mismatch=settings.version_mismatch,
        probe=settings.probe,
        breaking_signature=settings.breaking_signature,
        trust=trust_of(settings),
        strict_readiness=settings.strict_readiness,
        retry_pauses_seconds=(*first, *RETRY_PAUSES_SECONDS),
        load_threads=settings.load_threads,
        load_timeout_seconds=settings.load_timeout_seconds,
        admission=None if member is None else member.admission,
        manual_orders=None if member is None else member.manual_orders,
        # Of a worker process that a load ends the supervisor knows.
        tell_loads=message.note_loads if exits and member is None else None,
    )


def run(settings: Settings, identity: WorkerIdentity | None = None) -> None:
    """Serve until a signal; the directory may be empty or missing.

    Args:
        settings: what to serve, and how.
        identity: which of several worker processes this is; None where it serves alone.

    Raises:
        ConfigError: --model_uri is set without a registry.
        FrameworkError: the server's libraries, or MLflow, are not installed.
        FirstLoadFailed: with --first_load_failure=exit, if it has.
        SystemExit: a port or a TLS file cannot be used.
    """
    from bundleserver.serving.stopping import end_at_signals

    end_at_signals()
    from bundleserver.frameworks.imports.deferred import defer
    from bundleserver.manager import collect_rarely
    from bundleserver.manager.first_load import FirstLoadFailed
    from bundleserver.manager.watcher import Watcher

    collect_rarely()
    for module in ("stats", "integrate", "interpolate", "spatial"):
        defer(f"scipy.{module}", "sklearn")
    try:
        from bundleserver.serving.cpus import limit_library_threads
        from bundleserver.serving.server import BundleServer
        from bundleserver.serving.workers.member import Member
    except ModuleNotFoundError as error:
        raise FrameworkError(
            f"serve requires the package '{error.name}', which is not installed; install it with: "
            "pip install 'bundleserver[server]'"
        ) from error
    if identity is not None:
        settings = replace(settings, http_port=identity.http_port, grpc_port=identity.grpc_port)
    member = None if identity is None else Member(identity)
    message = TerminationMessage(settings.termination_log)
    manager = _make_manager(settings, member, message)
    if member is not None:
        member.manage(manager)
    failures: list[str] = []

    def end(why: str) -> None:
        if not server.stopping:
            failures.append(why)
            message.end(why)
            server.stop(code=1)

    exits = settings.first_load_failure == "exit"
    on_failure = end if member is None else member.say_failed
    watcher = Watcher(manager, settings.poll_interval_seconds, on_failure if exits else None)
    # No model is opened for a server that cannot listen; worker processes have their ports, and
    # listen once they have models.
    begin = (lambda: None) if member else watcher.start
    server = BundleServer(
        manager, _server_options(settings), member=member, on_listening=begin, environ=os.environ
    )
    # Before a model is loaded: its libraries read the number when they are imported.
    limit_library_threads(server.pool.library_threads)
    if identity is None or identity.number == 1:
        log_trust(trust_of(settings))
        if names := ignored_variables(os.environ):
            LOG.warning("environment variables of MLServer have no effect: %s", ", ".join(names))
    for flag in ignored_flags(settings):
        LOG.warning("%s has no effect", flag)
    if member is not None:
        watcher.start()
    try:
        server.run()
    finally:
        if failures:
            ignore_signals()
        if member is not None:
            member.say_leaving()
        message.end()
        is_idle = watcher.stop(_LAST_LOADS_SECONDS)
    if failures:
        raise FirstLoadFailed(failures[0])
    if not is_idle:
        _leave()


_LAST_LOADS_SECONDS = 2.0
"""How long the end of the process waits for a load in progress."""


def _leave() -> NoReturn:
    """Exit with 0 without Python's own end, which a load that hangs may hold up or crash."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
