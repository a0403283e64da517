"""``validate``: every problem of a bundle, a model's versions or a store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from bundleserver.bundle.libraries import mismatches
from bundleserver.bundle.opening import calls_other_models, open_bundle
from bundleserver.bundle.trust import TRUST_ANY, Trust
from bundleserver.commands.console import JsonFlag, one_line, say, say_json, working
from bundleserver.commands.trust import runs_code, with_trust
from bundleserver.errors import (
    BundleServerError,
    ConfigError,
    IntegrityError,
    ManifestError,
    Problem,
    StoreError,
)
from bundleserver.manifest import MANIFEST_NAME, Manifest
from bundleserver.sources import Candidate, Listing, named_versions
from bundleserver.sources.directory import DirectorySource


@dataclass(frozen=True)
class Finding:
    """The result for one version, or for the files around the versions."""

    what: str
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    checked: str = ""


_RUNS_CODE = "validate loads the models as a server does, which runs the code that they bring along"
_HOW_NOT = "--pickle_policy=listed and --bundle_code=deny run none; inspect never loads them"


@with_trust
def validate(
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A bundle, a model with versions, or a whole store."),
    ],
    device: Annotated[str, typer.Option("--device", help="Where torch models run.")] = "cpu",
    as_json: JsonFlag = False,
    *,
    trust: Trust = TRUST_ANY,
) -> None:
    """Validate a directory as the server does, and list every problem; exit code 1 if any.

    It validates the manifest, files, digests and installed libraries, loads the models, which runs
    their code as far as the flags allow, and runs their examples.

    Example: bundleserver validate /mnt/models/fraud
    """
    listings = list_models(directory)
    if runs_code(trust.code) and any(listing.candidates for listing in listings):
        say(f"{_RUNS_CODE}; {_HOW_NOT}", err=True)
    found = [
        finding
        for listing in listings
        for finding in _check_listing(directory, listing, device, trust)
    ]
    if not found:
        found = [Finding(str(directory), ("has no models",))]
    ok = not any(finding.problems for finding in found)
    if as_json:
        say_json(
            {
                "ok": ok,
                "runs_code": runs_code(trust.code),
                "checked": [_document(finding) for finding in found],
            }
        )
    else:
        for finding in found:
            _print(finding)
    if not ok:
        raise typer.Exit(1)


def list_models(directory: Path) -> tuple[Listing, ...]:
    """Return the models in a directory, as the server finds them.

    Raises:
        StoreError: there is no such directory; a server would wait for it.
        SourceError: it cannot be read.
    """
    if not directory.exists():
        raise StoreError(
            f"{directory} does not exist; expected a bundle, a model with versions, or a store"
        )
    found = DirectorySource(directory, timeout_seconds=None).discover()
    return tuple(listing for listing in found if listing.is_model)


def _check_listing(
    directory: Path, listing: Listing, device: str, trust: Trust
) -> Iterator[Finding]:
    if problems := tuple(_config_problems(listing)):
        yield Finding(listing.model, problems)
    if listing.warnings or not listing.candidates:
        problems = () if listing.candidates else (listing.reason,)
        yield Finding(listing.model, problems, listing.warnings)
    for candidate in listing.candidates:
        with working(f"validating {candidate.location}"):
            yield _check(DirectorySource(directory), candidate, device, trust)


def _config_problems(listing: Listing) -> Iterator[str]:
    """Yield why a server would not use ``serving.json``."""
    if listing.config_problem:
        yield listing.config_problem
    known = {candidate.version for candidate in listing.candidates}
    for version in sorted(named_versions(listing.config) - known):
        there = ", ".join(f"'{version}'" for version in sorted(known)) or "none"
        yield f"{listing.config_name} refers to unknown version '{version}'; versions: {there}"


def _check(source: DirectorySource, candidate: Candidate, device: str, trust: Trust) -> Finding:
    where = str(candidate.location)
    warnings: tuple[str, ...] = ()
    if candidate.problem:
        return Finding(where, (candidate.problem,))
    try:
        path, manifest = source.fetch(candidate)
        warnings = tuple(str(found.problem) for found in mismatches(manifest.requirements))
        bundle = open_bundle(
            path,
            manifest,
            model=candidate.model,
            version=candidate.version.label,
            links_lead_anywhere=candidate.links_lead_anywhere,
            version_mismatch="ignore",
            device=device,
            trust=trust,
        )
        bundle.close()
    except BundleServerError as error:
        return Finding(where, _sentences(error, candidate.location), warnings)
    if bundle.probe.reason and not calls_other_models(manifest):
        warnings = (*warnings, f"not probed: {bundle.probe.reason}")
    return Finding(where, (), warnings, _summary(manifest, bundle.probe.answered))


def _sentences(error: BundleServerError, directory: Path) -> tuple[str, ...]:
    problems: tuple[Problem, ...] = ()
    if isinstance(error, (ManifestError, IntegrityError, ConfigError)):
        problems = error.problems
    if isinstance(error, ManifestError) and not _is_same(
        Path(error.what), directory / MANIFEST_NAME
    ):
        # A nested bundle's.
        return tuple(one_line(f"{error.what}: {problem}") for problem in problems)
    return tuple(one_line(problem) for problem in problems) or (one_line(error),)


def _is_same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _summary(manifest: Manifest, answered: bool) -> str:
    parts = ", ".join(f"{c.name} ({c.framework})" for c in manifest.components.values())
    listed = [c.sha256 for c in manifest.components.values() if c.path is not None]
    listed += [file.sha256 for file in manifest.code]
    digests = sum(digest is not None for digest in listed)
    held = "not run, as it calls other models" if calls_other_models(manifest) else "passed"
    checks = [
        "manifest inferred" if manifest.inferred else "manifest",
        f"{digests} of {len(listed)} digests",
        f"opens: {parts}",
        f"examples {held}: {len(manifest.examples)}" if manifest.examples else "no examples",
    ]
    if answered and not manifest.examples:
        checks.append("answers a made-up request")
    return "; ".join(checks)


def _print(finding: Finding) -> None:
    for problem in finding.problems:
        say(f"problem  {finding.what}: {problem}")
    for warning in finding.warnings:
        say(f"warning  {finding.what}: {warning}")
    if not finding.problems and finding.checked:
        say(f"ok       {finding.what}: {finding.checked}")


def _document(finding: Finding) -> dict[str, object]:
    return {
        "what": finding.what,
        "ok": not finding.problems,
        "problems": list(finding.problems),
        "warnings": list(finding.warnings),
    }
