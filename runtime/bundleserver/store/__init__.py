"""The API for notebooks: save fitted models as versions, and choose the default version."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from bundleserver.bundle.facts.interface import record
from bundleserver.bundle.opening import manifest_of, open_bundle, verify
from bundleserver.bundle.trust.naming import Served
from bundleserver.bundle.trust.signing import SigningKey
from bundleserver.bundle.trust.verification import SIGNATURE_NAME
from bundleserver.errors import StoreError
from bundleserver.manifest import MODEL_NAME_IS, Manifest, is_model_name
from bundleserver.sources.own_files import location_of
from bundleserver.sources.registry.uri import ModelUri
from bundleserver.store import serving_json
from bundleserver.store.breaking import check_against_served
from bundleserver.store.copying import copy_bundle, without_versions
from bundleserver.store.finding import complete_versions, telling_of_lost
from bundleserver.store.own_code import Code
from bundleserver.store.recording import Recording, components_of, describe
from bundleserver.store.roots import (
    ROOT_VARIABLE,
    refuse_existing,
    refuse_within,
    target_of,
    usual_root,
)
from bundleserver.store.signed import LEFT_BEHIND_OF_SIGNED, check_kept, check_signature, is_signed
from bundleserver.store.staging import STAGING_PREFIX, publish_staged, replace_file, staged
from bundleserver.store.writing import with_digests, with_named_outputs, write_manifest
from bundleserver.tensors import TensorSpec
from bundleserver.tensors.breaking import Interface
from bundleserver.versions import Version
from bundleserver.versions.serving_config import ServingConfig

__all__ = ["BundleStore"]

_LEFT_BEHIND = shutil.ignore_patterns(
    f"{STAGING_PREFIX}*", ".git", ".ipynb_checkpoints", "__pycache__", ".DS_Store"
)


class BundleStore:
    """A directory of models, each a directory of versions: ``<root>/<name>/v1``, ``v2``, ….

    Any number of processes and machines may write to one root concurrently: a version appears
    complete and verified, or not at all, and is never changed afterwards.
    """

    def __init__(self, root: str | Path | None = None) -> None:
        """Set the root: the argument, else ``$BUNDLE_STORE``, else the first writable default.

        The defaults are ``/mnt/models`` and ``/opt/app-root/src/models``.

        Raises:
            StoreError: none of the defaults is writable.
        """
        given = root if root is not None else os.environ.get(ROOT_VARIABLE) or None
        self.root = usual_root() if given is None else Path(given).expanduser().absolute()

    def __repr__(self) -> str:
        return f"BundleStore({str(self.root)!r})"

    def path(self, name: str, version: Version | str | None = None) -> Path:
        """Return the directory of a model's versions, or of one version."""
        if not is_model_name(name):
            raise StoreError(f"the model's name is '{name}'; expected {MODEL_NAME_IS}")
        root = self.root / name
        return root if version is None else location_of(root, Version(str(version)))

    def versions(self, name: str) -> tuple[Version, ...]:
        """Return the versions of a model, oldest first; none if there is no such model."""
        return complete_versions(self.path(name))

    def save(
        self,
        name: str,
        components: Mapping[str, object] | object,
        *,
        steps: Sequence[Mapping[str, object]] | None = None,
        methods: Sequence[str] = (),
        inputs: Sequence[Mapping[str, object] | TensorSpec] | None = None,
        outputs: Sequence[Mapping[str, object] | TensorSpec] | None = None,
        examples: object = None,
        code: Code = (),
        metrics: Mapping[str, object] | None = None,
        metadata: Mapping[str, object] | None = None,
        version: Version | str | None = None,
        options: Mapping[str, Mapping[str, object]] | None = None,
        frameworks: Mapping[str, str] | None = None,
        sign_with: str | Path | None = None,
        allow_breaking: bool = False,
    ) -> Version:
        """Save fitted models as the next version of a model, if its examples pass; return it.

        Args:
            name: the model's name.
            components: fitted objects by component name, transformers first, or a single one,
                which becomes the component ``model``. Another model of the same server is given
                as in a manifest: ``{"framework": "model", "model": "fraud"}``.
            steps: as in a manifest; by default transformers in order, then the last one's method.
            methods: the last component's methods, each for an output of that name; or its first.
            inputs: the input tensors as in a manifest, or TensorSpecs; by default those of the
                fitted objects.
            outputs: as ``inputs``.
            examples: rows such as ``X[:3]`` (an array or a DataFrame) or values by input name;
                every later load must reproduce their outputs. Or examples as in a manifest.
            code: the model's own modules, as ``["features.py", "mypackage/"]``, saved with it.
            metrics: numbers by name; they become ``metadata.metrics``.
            metadata: JSON values; ``trained_at`` is the current time unless given.
            version: the label; by default the one after the highest: ``v1``, ``v2``, ….
            options: options of the framework, by component.
            frameworks: the framework, by component, if it does not follow from the class.
            sign_with: a private key (PEM) to sign the version with.
            allow_breaking: publish it although clients of what serves now would break.

        Raises:
            StoreError: an object cannot be saved, the version exists, the disk is full, the key
                cannot be used, or clients would break.
            ManifestError: the arguments make no valid manifest; lists every problem.
            BundleError: the saved bundle does not open, or its outputs differ.
        """
        root, wanted = target_of(self.path(name), version)
        key = None if sign_with is None else SigningKey.load(sign_with)
        sections = {"steps": steps, "inputs": inputs, "outputs": outputs}
        described = describe(metadata, metrics, sections, methods)
        recording = Recording.plan(
            name,
            components_of(components),
            described,
            options=options,
            frameworks=frameworks,
            examples=examples,
            code=code,
        )
        with staged(root) as staging, telling_of_lost(root):
            manifest, interface = recording.write(staging, methods)
            self._compare(name, interface, wanted, allow_breaking)
            return self._publish(staging, record(manifest, interface), wanted, key)

    def publish(
        self,
        bundle_dir: str | Path,
        name: str,
        version: Version | str | None = None,
        *,
        sign_with: str | Path | None = None,
        allow_breaking: bool = False,
    ) -> Version:
        """Copy a bundle's directory into the store as a version, and return that version.

        Args:
            bundle_dir: a directory with a manifest, or one whose manifest can be inferred; the
                copy has a manifest with digests.
            name: the model's name in the store.
            version: the label; by default the manifest's, else the one after the highest.
            sign_with: a private key (PEM) to sign with. Else what is signed is published byte for
                byte, as its own name and version; either way if its present signature is its.
            allow_breaking: publish it although clients of what serves now would break.

        Raises:
            StoreError: the version exists, the directory cannot be copied, the disk is full, or
                clients would break.
            ManifestError, IntegrityError, BundleError: the directory cannot be served.
        """
        source = Path(bundle_dir).expanduser().resolve()
        root, wanted = target_of(self.path(name), version)
        if not source.is_dir():
            raise StoreError(f"{source} is not a directory; expected a bundle")
        refuse_within(root, source)
        key = None if sign_with is None else SigningKey.load(sign_with)
        manifest = manifest_of(source, name)
        if is_kept := key is None and is_signed(source):
            check_kept(source, manifest, name, wanted)
        elif is_signed(source):
            check_signature(source, source, Served())  # signs nothing unseen that was changed
        manifest = replace(manifest, name=name)
        if wanted is None and manifest.version is not None:
            wanted = Version.parse(manifest.version)
            refuse_existing(root, wanted)
        with staged(root) as staging, telling_of_lost(root):
            left_behind = LEFT_BEHIND_OF_SIGNED if is_kept else _LEFT_BEHIND
            copy_bundle(source, staging, without_versions(source, left_behind))
            if is_kept:
                check_signature(staging, source, Served(name, manifest.version))
            # With a manifest no link below may lead out, whoever wrote it.
            verify(staging, replace(manifest, inferred=False))
            with closing(open_bundle(staging, manifest, version=manifest.version or "new")) as new:
                manifest = with_named_outputs(manifest, new.probe.signature)
                interface = new.interface()
            self._compare(name, interface, wanted, allow_breaking)
            if is_kept:
                return publish_staged(staging, wanted, lambda _: None)
            manifest = record(with_digests(staging, manifest), interface)
            return self._publish(staging, manifest, wanted, key)

    def push(
        self,
        name: str,
        model_uri: str | None = None,
        *,
        version: Version | str | None = None,
        aliases: Sequence[str] = (),
        experiment: str = "bundleserver",
        allow_breaking: bool = False,
    ) -> str:
        """Register a version in the registry of MLFLOW_TRACKING_URI; return its number there.

        Args:
            name: the model's.
            model_uri: ``models:/NAME`` or ``models:/NAME@alias``; the store's name by default.
            version: the newest by default.
            aliases: aliases to set to the new version.
            experiment: the experiment of the run.
            allow_breaking: register it although clients of the registered version would break.

        Raises:
            StoreError, BundleError: there is no such version, it cannot be served, or clients
                would break.
            FrameworkError, SourceError: MLflow is not installed, or its registry refuses.
        """
        from bundleserver.sources.registry.client import RegistryClient
        from bundleserver.store.pushing import push

        known = [*map(str, self.versions(name))]
        wanted = known[-1] if version is None and known else str(version)
        if wanted not in known:
            listed = ", ".join(f"'{label}'" for label in known) or "none"
            raise StoreError(f"{self.path(name)} has no version '{wanted}'; versions: {listed}")
        try:
            uri = ModelUri.parse(model_uri or f"models:/{name}")
        except ValueError as error:
            raise StoreError(str(error)) from error
        return push(
            self.path(name, wanted),
            uri,
            RegistryClient(),
            aliases=aliases,
            experiment=experiment,
            allow_breaking=allow_breaking,
        ).version

    def promote(self, name: str, version: Version | str, label: str | None = None) -> ServingConfig:
        """Move a label to a version, or the default if no label is given.

        ``latest`` unpins the default: the version policy selects it again. Moving the default ends
        a traffic split and a canary's rollout, and the new default is no longer a shadow.

        Raises:
            StoreError: there is no such version; lists the known ones.
            ConfigError: the label or ``serving.json`` is invalid.
        """
        return serving_json.promote(self.path(name), str(version), label)

    def rollback(self, name: str, to: Version | str | None = None) -> ServingConfig:
        """Pin the default to a version: ``to``, else the one before the serving version.

        Returns:
            The new configuration; its ``default`` is the version.

        Raises:
            StoreError: there is no such version, or no earlier one.
            ConfigError: ``serving.json`` is invalid.
        """
        return serving_json.rollback(self.path(name), None if to is None else str(to))

    def split(self, name: str, shares: Mapping[str, float]) -> ServingConfig:
        """Split requests over labels and versions, as in ``{"stable": 90, "canary": 10}``.

        An empty mapping ends the split.

        Raises:
            StoreError: there is no such version or label.
            ConfigError: the weights or ``serving.json`` are invalid.
        """
        return serving_json.split(self.path(name), shares)

    def _compare(
        self, name: str, interface: Interface, wanted: Version | None, allow_breaking: bool
    ) -> None:
        new = "the new version" if wanted is None else f"version {wanted}"
        check_against_served(self.path(name), name, interface, new, allow_breaking=allow_breaking)

    def _publish(
        self, staging: Path, manifest: Manifest, wanted: Version | None, key: SigningKey | None
    ) -> Version:
        (staging / SIGNATURE_NAME).unlink(missing_ok=True)

        def finish(version: Version) -> None:
            write_manifest(staging, replace(manifest, version=version.label))
            if key is not None:
                replace_file(staging / SIGNATURE_NAME, key.sign(staging))

        return publish_staged(staging, wanted, finish)
