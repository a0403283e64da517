"""``push`` and ``pull``: bundles to an MLflow Model Registry, registered versions from it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from bundleserver.commands.console import AllowBreakingFlag, JsonFlag, say, say_json, working
from bundleserver.commands.sources import check_registry_is_named
from bundleserver.errors import StoreError
from bundleserver.sources.registry.uri import ModelUri


def push(
    bundle_dir: Annotated[Path, typer.Argument(metavar="DIR", help="A bundle's directory.")],
    model: Annotated[str, typer.Argument(metavar="models:/NAME", help="The registered model.")],
    alias: Annotated[
        list[str] | None,
        typer.Option("--alias", help="An alias to set to the new version; repeatable."),
    ] = None,
    experiment: Annotated[
        str, typer.Option("--experiment", help="The experiment of the MLflow run.")
    ] = "bundleserver",
    allow_breaking: AllowBreakingFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Register a bundle as a new version of a model, if it loads and its examples pass.

    MLFLOW_TRACKING_URI must be set to the registry.

    Example: bundleserver push ./fraud models:/fraud --alias champion
    """
    uri = _uri(model)
    check_registry_is_named(os.environ, "push")
    from bundleserver.sources.registry.client import RegistryClient
    from bundleserver.store.pushing import push as push_bundle

    with working(f"pushing {bundle_dir}"):
        pushed = push_bundle(
            bundle_dir,
            uri,
            RegistryClient(),
            aliases=alias or (),
            experiment=experiment,
            allow_breaking=allow_breaking,
        )
    if as_json:
        say_json(
            {
                "model": pushed.name,
                "version": pushed.version,
                "run_id": pushed.run_id,
                "aliases": list(pushed.aliases),
            }
        )
        return
    named = ", ".join(f"@{alias}" for alias in pushed.aliases)
    say(f"registered '{pushed.name}' version {pushed.version}{f' as {named}' if named else ''}")


def pull(
    model: Annotated[
        str, typer.Argument(metavar="models:/NAME@ALIAS", help="A registered version.")
    ],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The directory to write to.")],
    as_json: JsonFlag = False,
) -> None:
    """Download a registered version; in a pod, as KServe's storage initializer for models:/.

    MLFLOW_TRACKING_URI must be set to the registry.

    Example: bundleserver pull models:/fraud@champion /mnt/models
    """
    uri = _uri(model)
    check_registry_is_named(os.environ, "pull")
    from bundleserver.sources.registry.client import RegistryClient
    from bundleserver.sources.registry.pulling import pull as pull_version

    with working(f"pulling {model}"):
        pulled = pull_version(uri, directory, RegistryClient())
    if as_json:
        path = str(pulled.directory)
        say_json({"model": pulled.name, "version": pulled.version, "path": path})
    else:
        say(f"pulled '{pulled.name}' version {pulled.version} to {pulled.directory}")


def _uri(text: str) -> ModelUri:
    try:
        return ModelUri.parse(text)
    except ValueError as error:
        raise StoreError(str(error)) from error
