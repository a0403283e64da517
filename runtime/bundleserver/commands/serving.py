"""``serve``: from flags to a running server, and back to a clean end."""

from __future__ import annotations

import logging
from dataclasses import fields

import typer

from bundleserver.commands.console import say_error
from bundleserver.commands.flags import ignored_flags, read_settings
from bundleserver.commands.sources import make_source, served_name
from bundleserver.errors import ConfigError, FrameworkError
from bundleserver.settings import Settings

LOG = logging.getLogger(__name__)


def serve(context: typer.Context) -> None:
    """Serve the models of a directory (V1, V2, gRPC); KServe's flags, and --help lists them all.

    Example: bundleserver serve --model_name fraud --model_dir /mnt/models
    """
    try:
        settings = read_settings(context.args)
    except ConfigError as error:
        say_error(error)
        raise typer.Exit(2) from None
    run(settings)


def run(settings: Settings) -> None:
    """Serve until a signal; the directory may be empty, or not there yet.

    Raises:
        ConfigError: --model_uri is given, and no registry.
        FrameworkError: the server's libraries, or MLflow, are not installed.
        SystemExit: a port or a TLS file cannot be used.
    """
    from bundleserver.serving.stopping import end_at_signals

    end_at_signals()
    from bundleserver.manager import Manager, collect_rarely
    from bundleserver.watcher import Watcher

    collect_rarely()
    try:
        from bundleserver.serving.cpus import limit_library_threads
        from bundleserver.serving.options import ServerOptions
        from bundleserver.serving.server import BundleServer
    except ModuleNotFoundError as error:
        raise FrameworkError(
            f"serve needs the package '{error.name}', which is not installed; install it with: "
            "pip install 'bundleserver[server]'"
        ) from error
    options = {field.name: getattr(settings, field.name) for field in fields(ServerOptions)}
    manager = Manager(
        make_source(settings),
        model_name=served_name(settings),
        policy=settings.version_policy,
        traffic=dict(settings.traffic or ()),
        swap=settings.swap_policy,
        device=settings.device,
        version_mismatch=settings.version_mismatch,
        strict_readiness=settings.strict_readiness,
        load_threads=settings.load_threads,
    )
    server = BundleServer(manager, ServerOptions(**options))
    # Before a model is opened: a library that comes with it reads the number when it is imported.
    limit_library_threads(server.pool.library_threads)
    for flag in ignored_flags(settings):
        LOG.warning("%s has no effect here", flag)
    watcher = Watcher(manager, settings.poll_interval_seconds)
    watcher.start()
    try:
        server.run()
    finally:
        watcher.stop()
