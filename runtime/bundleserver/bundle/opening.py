"""The one way from a directory to an open bundle: read or infer, verify, open, warm up.

A server, every command, the notebook and MLflow come here, so that what one of them accepts no
other refuses. ``links_lead_anywhere`` is the trust in links of all of them: it holds for the
directory that somebody named (``--model_dir``, a command's ``DIR``, MLflow's data path), and for no
version directory below it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from bundleserver.bundle import Bundle
from bundleserver.bundle.inferring import infer_manifest
from bundleserver.bundle.inferring.mlmodel_files import is_mlflow_model, named_files
from bundleserver.bundle.integrity import check_named, trusted_links, verify_files
from bundleserver.bundle.libraries import mismatches
from bundleserver.bundle.links import FileWalk, Links
from bundleserver.bundle.members import Members
from bundleserver.bundle.methods import PREDICT_PROBA
from bundleserver.bundle.reading import read_manifest, read_nested_manifest
from bundleserver.bundle.requirements import (
    refuse_differences,
    refuse_other_python,
    telling_of_lacking,
)
from bundleserver.bundle.trust import TRUST_ANY, SignaturePolicy, Trust
from bundleserver.bundle.trust.checking import NOT_CHECKED, check
from bundleserver.bundle.trust.files import linked_directory
from bundleserver.bundle.trust.naming import Served
from bundleserver.bundle.trust.verification import HERE, Origin
from bundleserver.documents.printable import shell_word
from bundleserver.errors import BundleError, BundleServerError, IntegrityError, Problem
from bundleserver.frameworks import framework_named, frameworks
from bundleserver.frameworks.file_facts import Opens
from bundleserver.frameworks.saved_with import noting
from bundleserver.manifest import BUNDLE, MANIFEST_NAME, MODEL, Component, Manifest
from bundleserver.versions.lifecycle import State

LOG = logging.getLogger(__name__)

Enter = Callable[[State], None]
"""Called with each state before its work begins."""


def manifest_of(directory: Path, name: str) -> Manifest:
    """Read a directory's manifest, or infer it for a model of that name.

    Raises:
        ManifestError, IntegrityError, BundleError: what the directory is cannot be told.
    """
    return read_manifest(directory, frameworks()) or infer_manifest(directory, name)


def verify(
    directory: Path,
    manifest: Manifest,
    *,
    links_lead_anywhere: bool = False,
    beside: Collection[str] = (),
    any_python: bool = False,
) -> Path:
    """Check every link and every listed file of a directory, those of nested bundles included.

    Args:
        directory: where the files are.
        manifest: what they are.
        links_lead_anywhere: the directory's direct children may be links to anywhere.
        beside: names of the directories in it that are other versions.
        any_python: code of another Python than this one is no problem: nothing is opened.

    Returns:
        The directory, links resolved.

    Raises:
        IntegrityError: a link leads out, or a file is not the one listed.
        ManifestError, BundleError: a nested bundle has no valid manifest.
    """
    links = trusted_links(directory, lead_anywhere=links_lead_anywhere)
    is_of_mlflow = manifest.inferred and is_mlflow_model(links.base)
    is_deep = is_of_mlflow or not manifest.inferred
    if problem := FileWalk(links, deep=is_deep, beside=beside).problem:
        raise IntegrityError(str(directory), [Problem("", problem)])
    if is_of_mlflow:
        check_named(directory, links, named_files(links.base))
    _verify_files(links.base, manifest, links, any_python)
    return links.base


def open_bundle(
    directory: Path,
    manifest: Manifest | None = None,
    *,
    model: str | None = None,
    version: str | None = None,
    links_lead_anywhere: bool = False,
    version_mismatch: str = "warn",
    device: str = "cpu",
    predict_proba: bool = False,
    members: Members | None = None,
    probe: str = "enforce",
    enter: Enter = lambda state: None,
    calls: Callable[[Collection[str]], None] = lambda called: None,
    trust: Trust = TRUST_ANY,
    origin: Origin = HERE,
) -> Bundle:
    """Open a directory as a server does; what was opened is closed on failure.

    Args:
        directory: where the files are.
        manifest: what they are; read or inferred when None.
        model: the model's name; the manifest's or the directory's when None.
        version: the version's label; the manifest's, else ``1``, when None.
        links_lead_anywhere: the directory's direct children may be links to anywhere.
        version_mismatch: what happens where libraries differ from the recorded ones: ``warn``,
            ``refuse``, or ``ignore`` for whoever reports them itself.
        device: where torch models run.
        predict_proba: whether probabilities are the answer of a model that has them, in the place
            of ``predict``; a manifest with steps or outputs decides itself.
        members: acquires other models of this process; without it the examples of a bundle that
            calls them are not run, and it is not probed.
        probe: what happens to a version that cannot answer made-up inputs: ``enforce`` (it fails),
            ``warn``, or ``off`` (nobody asks).
        enter: called with each state before its work begins.
        calls: called with the other models that it calls, before anything is opened.
        trust: what it may be and do.
        origin: where the directory comes from, for its signature.

    Raises:
        BundleServerError: why it cannot be served.
    """
    directory_name = directory.absolute().name
    manifest = manifest or manifest_of(directory, model or directory_name)
    _check_described(directory, manifest, trust)
    model = model or manifest.name or directory_name
    version = version or manifest.version or "1"
    if manifest.inferred:
        written = json.dumps(json.loads(manifest.to_json()), ensure_ascii=False)
        LOG.info("%s %s: inferred manifest %s", model, version, written)
    enter(State.VERIFYING)
    with ExitStack() as kept:
        checked, opened = NOT_CHECKED, directory
        if trust.signatures is not SignaturePolicy.OFF:
            checked = check(directory, Served(model, version), trust, origin, links_lead_anywhere)
        if checked.copy is not None:
            kept.callback(checked.copy.close)
            opened = checked.copy.path
        with _shown_as(directory, opened):
            if opened != directory:
                manifest = _read_again(opened, manifest, model, origin)
                _check_described(directory, manifest, trust)
            opened = verify(
                opened,
                manifest,
                links_lead_anywhere=links_lead_anywhere,
                beside=origin.versions_beside or (),
            )
            _check_libraries(manifest, model, version, version_mismatch)
            if links_lead_anywhere and any(map(_opens_directory, manifest.components.values())):
                # Libraries that open a directory follow no link out of it.
                opened = linked_directory(opened) or opened
            enter(State.LOADING)
            calls(models_called(opened, manifest))
            with telling_of_lacking(manifest), noting() as noted:
                bundle = Bundle.open(
                    opened,
                    manifest,
                    model=model,
                    version=version,
                    device=device,
                    members=members,
                    trust=trust.code,
                    release=kept.pop_all().close,
                )
            bundle.mismatches = mismatches(manifest.requirements, noted)
            try:
                if predict_proba:
                    bundle.prefer(PREDICT_PROBA)
                enter(State.WARMING)
                if members is not None or not calls_other_models(manifest):
                    bundle.warm_up(probe)
                elif manifest.examples:
                    LOG.info(
                        "%s: examples were not run, as they call other models, which requires a "
                        "server",
                        directory,
                    )
            except BaseException:
                bundle.close()
                raise
    bundle.directory, bundle.verification = directory, checked.verification
    if checked.copy is not None and not any(map(_reads_later, manifest.components.values())):
        checked.copy.close()
    return bundle


def _check_described(directory: Path, manifest: Manifest, trust: Trust) -> None:
    if manifest.inferred and trust.require_manifest:
        raise BundleError(
            f"'{directory}' has no {MANIFEST_NAME}, and --require_manifest allows no inferred one; "
            f"write it with: bundleserver init {shell_word(directory)} (a registered MLflow model "
            "gets one by 'bundleserver pull' and 'push')"
        )


def _read_again(copy: Path, manifest: Manifest, model: str, origin: Origin) -> Manifest:
    """Read the manifest of what was signed; the one given may be of what was there before it."""
    again = (origin.read or manifest_of)(copy, model)
    if origin.registered_as is None:
        return again
    return replace(again, metadata={**manifest.metadata, **again.metadata})


def _reads_later(component: Component) -> bool:
    """Ask whether a component may read its files, or import its code, when it is called."""
    return component.framework == BUNDLE or _opens_directory(component)


def _opens_directory(component: Component) -> bool:
    if component.framework in (MODEL, BUNDLE):
        return False
    return framework_named(component.framework).opens is Opens.DIRECTORY


@contextmanager
def _shown_as(directory: Path, opened: Path) -> Iterator[None]:
    """Let errors of what is opened name the user's directory in the place of the private copy."""
    try:
        yield
    except BundleServerError as error:
        if opened != directory:
            error.args = tuple(_renamed(arg, str(opened), str(directory)) for arg in error.args)
            for name in vars(error):
                setattr(error, name, _renamed(getattr(error, name), str(opened), str(directory)))
        raise


def _renamed(value: object, old: str, new: str) -> object:
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, Problem):
        return Problem(value.where.replace(old, new), value.what.replace(old, new))
    if isinstance(value, tuple):
        return tuple(_renamed(entry, old, new) for entry in value)
    return value


def calls_other_models(manifest: Manifest) -> bool:
    """Ask whether a component is another model, which requires a server."""
    return any(component.framework == MODEL for component in manifest.components.values())


def models_called(directory: Path, manifest: Manifest) -> frozenset[str]:
    """Return the names of all other models that a bundle and those inside it call."""
    called: set[str] = set()
    for component in manifest.components.values():
        if component.framework == MODEL:
            called.add(component.model or "")
        elif component.framework == BUNDLE:
            path = directory / (component.path or "")
            called |= models_called(path, read_nested_manifest(path, component.name))
    return frozenset(called)


def _verify_files(directory: Path, manifest: Manifest, links: Links, any_python: bool) -> None:
    verify_files(directory, manifest, links)
    if not any_python:
        refuse_other_python(directory, manifest)
    for component in manifest.components.values():
        if component.framework == BUNDLE:
            path = directory / (component.path or "")
            nested = read_nested_manifest(path, component.name, component.sha256)
            _verify_files(path, nested, links, any_python)


def _check_libraries(manifest: Manifest, model: str, version: str, version_mismatch: str) -> None:
    problems = [found.problem for found in mismatches(manifest.requirements)]
    if not problems or version_mismatch == "ignore":
        return
    if version_mismatch == "refuse":
        refuse_differences(f"'{model}' version {version}", manifest, problems)
    listed = "; ".join(map(str, problems))
    LOG.warning("%s %s: saved with other libraries: %s", model, version, listed)
