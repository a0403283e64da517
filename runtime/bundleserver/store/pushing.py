"""Register a bundle as a version of a registered model: upload it to a run, then register it."""

from __future__ import annotations

import json
import logging
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import bundleserver
from bundleserver.bundle.facts.interface import record
from bundleserver.bundle.inferring.mlmodel_files import MLMODEL
from bundleserver.bundle.opening import manifest_of, open_bundle, verify
from bundleserver.bundle.trust.naming import Served
from bundleserver.errors import SourceError, StoreError
from bundleserver.frameworks import frameworks
from bundleserver.manifest import Manifest
from bundleserver.sources.registry.client import RegistryClient
from bundleserver.sources.registry.uri import ModelUri, alias_problem
from bundleserver.store.breaking import check_against_registered
from bundleserver.store.copying import copy_bundle, without_versions
from bundleserver.store.signed import LEFT_BEHIND_OF_SIGNED, check_kept, check_signature, is_signed
from bundleserver.store.staging import replace_file
from bundleserver.store.writing import with_digests, with_named_outputs, write_manifest
from bundleserver.tensors.breaking import Interface
from bundleserver.versions.serving_config import CONFIG_NAME

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOG = logging.getLogger(__name__)

LOADER = "bundleserver.mlflow_pyfunc"
_ARTIFACTS = "bundle"
_EXPERIMENT = "bundleserver"
_UPLOAD_SECONDS = 3600.0
_LEFT_BEHIND = shutil.ignore_patterns(".*", "__pycache__", CONFIG_NAME)


@dataclass(frozen=True)
class Pushed:
    """A registered version, and the run with its files."""

    name: str
    version: str
    run_id: str
    aliases: tuple[str, ...]


def push(
    directory: Path,
    uri: ModelUri,
    client: RegistryClient,
    *,
    aliases: Sequence[str] = (),
    experiment: str = _EXPERIMENT,
    allow_breaking: bool = False,
) -> Pushed:
    """Register a bundle as the next version of a model, if it opens and its examples pass.

    Args:
        directory: the bundle; a missing manifest is inferred.
        uri: ``models:/NAME``; ``models:/NAME@alias`` sets that alias too.
        client: calls the registry.
        aliases: further aliases to set to the new version.
        experiment: the experiment of the run, created if it does not exist.
        allow_breaking: register it although clients of the registered version would break.

    Raises:
        StoreError: an alias is not valid, the URI names a version, or clients would break.
        ManifestError, IntegrityError, BundleError: the directory cannot be served.
        SourceError: the registry is unavailable, or refuses.
    """
    moved = _aliases(uri, aliases)
    source = directory.expanduser().resolve()
    if not source.is_dir():
        raise StoreError(f"{source} is not a directory; expected a bundle")
    with tempfile.TemporaryDirectory(prefix="bundleserver-push-") as temporary:
        staging = Path(temporary) / _ARTIFACTS
        manifest, interface = _stage(source, staging, uri.name)
        check_against_registered(client, uri.name, moved, interface, allow_breaking=allow_breaking)
        run_id, artifacts = _log(client, staging, manifest, experiment)
    number = _register(client, uri.name, f"{artifacts}/{_ARTIFACTS}", run_id, manifest)
    for alias in moved:
        client.ask(
            f"alias '{alias}'",
            lambda mlflow, alias=alias: mlflow.set_registered_model_alias(  # type: ignore[misc]  # a default binds the loop's value
                uri.name, alias, number
            ),
        )
    return Pushed(uri.name, number, run_id, moved)


def _aliases(uri: ModelUri, aliases: Sequence[str]) -> tuple[str, ...]:
    if uri.version or uri.stage or uri.is_latest:
        raise StoreError(
            f"'{uri}' names a version, but a registry numbers versions itself; use "
            f"models:/{uri.name}, or models:/{uri.name}@alias"
        )
    wanted = tuple(dict.fromkeys((*aliases, *((uri.alias,) if uri.alias else ()))))
    for alias in wanted:
        if problem := alias_problem(alias):
            raise StoreError(problem)
    return wanted


def _stage(source: Path, staging: Path, name: str) -> tuple[Manifest, Interface]:
    """Copy a bundle, verify that it can be served, and write the files of an MLflow model.

    Returns:
        Its manifest, and what its clients rely on.
    """
    manifest, is_kept = manifest_of(source, name), is_signed(source)
    if is_kept:
        check_kept(source, manifest, None, None)
    try:
        staging.mkdir()
        left_behind = LEFT_BEHIND_OF_SIGNED if is_kept else _LEFT_BEHIND
        copy_bundle(source, staging, without_versions(source, left_behind))
    except OSError as error:
        raise StoreError(f"{source} cannot be copied: {error}") from error
    if is_kept:
        check_signature(staging, source, Served())
    # With a manifest no link below may lead out, whoever wrote it.
    verify(staging, replace(manifest, inferred=False))
    with closing(
        open_bundle(staging, manifest, model=name, version=manifest.version or "new")
    ) as new:
        complete = with_named_outputs(manifest, new.probe.signature)
        interface = new.interface()
    if not is_kept:
        complete = record(with_digests(staging, complete), interface)
        write_manifest(staging, complete)
    requirements = [*_requirements(complete)]
    # JSON is valid YAML, and requires no library.
    added = {
        "requirements.txt": ("\n".join(requirements) + "\n").encode(),
        MLMODEL: (json.dumps(_mlmodel(), indent=2) + "\n").encode(),
    }
    for name_added, content in added.items():
        # What was signed stays; else it is replaced, since a bundle may have a link of that name.
        if not (is_kept and (staging / name_added).exists()):
            replace_file(staging / name_added, content)
    return complete, interface


def _mlmodel() -> dict[str, object]:
    flavour = {
        "loader_module": LOADER,
        "python_version": platform.python_version(),
        "env": {"virtualenv": "requirements.txt"},
    }
    return {"artifact_path": _ARTIFACTS, "flavors": {"python_function": flavour}}


def _requirements(manifest: Manifest) -> Iterator[str]:
    rows = frameworks()
    used = {c.framework for c in manifest.components.values() if c.framework in rows}
    extras = ",".join(sorted({rows[name].extra for name in used} - {""}))
    version = bundleserver.__version__
    yield f"bundleserver[{extras}]=={version}" if extras else f"bundleserver=={version}"
    yield from (f"{name}=={pin}" for name, pin in manifest.requirements.packages.items())


def _log(
    client: RegistryClient, staging: Path, manifest: Manifest, experiment: str
) -> tuple[str, str]:
    """Create a run with the files; returns its id and the URI of its artifacts."""

    def experiment_id(mlflow: MlflowClient) -> str:
        known = mlflow.get_experiment_by_name(experiment)
        return str(known.experiment_id if known else mlflow.create_experiment(experiment))

    number = client.ask(f"experiment '{experiment}'", experiment_id)
    run = client.ask("a new run", lambda mlflow: mlflow.create_run(number))
    run_id = str(run.info.run_id)
    try:
        for name, value in _metrics(manifest):
            client.ask("metrics", lambda m, n=name, v=value: m.log_metric(run_id, n, v))  # type: ignore[misc]  # defaults bind the loop's values
        client.ask(
            "the upload",
            lambda mlflow: mlflow.log_artifacts(run_id, str(staging), _ARTIFACTS),
            _UPLOAD_SECONDS,
        )
    except SourceError:
        client.ask("the run", lambda mlflow: mlflow.set_terminated(run_id, "FAILED"))
        raise
    client.ask("the run", lambda mlflow: mlflow.set_terminated(run_id, "FINISHED"))
    return run_id, str(run.info.artifact_uri)


def _metrics(manifest: Manifest) -> Iterator[tuple[str, float]]:
    metrics = manifest.metadata.get("metrics")
    for name, value in (metrics if isinstance(metrics, Mapping) else {}).items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield str(name), float(value)


def _register(
    client: RegistryClient, name: str, source: str, run_id: str, manifest: Manifest
) -> str:
    if client.model(name) is None:
        client.ask(f"a new model '{name}'", lambda mlflow: mlflow.create_registered_model(name))
    tags = {"bundleserver.version": manifest.version} if manifest.version else {}
    made = client.ask(
        f"a new version of '{name}'",
        lambda mlflow: mlflow.create_model_version(name, source, run_id, tags=tags),
    )
    return str(made.version)
