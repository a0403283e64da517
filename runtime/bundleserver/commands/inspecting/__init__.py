"""``inspect``: the versions of a bundle, a model or a store, as a table; no model is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

import typer

from bundleserver.bundle.facts.interface import shown_metadata
from bundleserver.bundle.inferring import ignored_files
from bundleserver.bundle.integrity import bundle_digest
from bundleserver.bundle.opening import verify
from bundleserver.bundle.trust import SignaturePolicy, Trust
from bundleserver.bundle.trust.checking import check
from bundleserver.bundle.trust.keys import check_keys
from bundleserver.bundle.trust.naming import Served
from bundleserver.bundle.trust.verification import SIGNATURE_NAME, UNCHECKED, SignatureStatus
from bundleserver.commands import asking
from bundleserver.commands.console import (
    JsonFlag,
    format_metrics,
    one_line,
    say,
    say_json,
    say_table,
    working,
)
from bundleserver.commands.inspecting.environment import show_environments
from bundleserver.commands.inspecting.pickle_names import show_pickle_names
from bundleserver.commands.validating import list_models
from bundleserver.errors import BundleServerError
from bundleserver.manifest import Manifest
from bundleserver.sources import Candidate, Listing, named_versions, policy_of
from bundleserver.sources.directory import DirectorySource
from bundleserver.versions import Version, VersionPolicy
from bundleserver.versions.lifecycle import settled_versions
from bundleserver.versions.serving_config import ServingConfig


@dataclass(frozen=True)
class Row:
    """One version as its files describe it.

    Attributes:
        reason: why it cannot be served.
        ignored: its files that look like models and hold plain data, with what it is.
        signature: what its signature is worth; ``unchecked`` if there is one and nobody said which
            keys are trusted.
    """

    version: Version
    manifest: Manifest | None
    reason: str = ""
    ignored: Mapping[str, str] = field(default_factory=dict)
    signature: Mapping[str, object] = field(default_factory=dict)

    @property
    def components(self) -> dict[str, str]:
        """The framework of every component."""
        found = self.manifest.components.values() if self.manifest else ()
        return {component.name: component.framework for component in found}

    @property
    def digest(self) -> str | None:
        """The digest of the bundle."""
        return bundle_digest(self.manifest) if self.manifest else None

    def known(self, key: str) -> object:
        """Return one entry of the manifest's metadata, or None."""
        return self.manifest.metadata.get(key) if self.manifest else None


def inspect(
    directory: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="A bundle, a model with versions, or a whole store."),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="http://HOST:PORT",
            help="Query a running server instead: states, reasons, traffic, canaries, shadows.",
        ),
    ] = None,
    pickles: Annotated[
        bool,
        typer.Option(
            "--pickles",
            help="Print what each pickle in DIR names instead, as lines of serve --pickle_allow.",
        ),
    ] = False,
    environment: Annotated[
        bool,
        typer.Option(
            "--environment",
            help="Print which set of library versions, and so which image, DIR needs instead.",
        ),
    ] = False,
    trusted_keys: Annotated[
        Path | None,
        typer.Option("--trusted_keys", metavar="KEYS", help="Check signatures with these keys."),
    ] = None,
    admin_token_file: Annotated[
        Path | None,
        typer.Option(
            "--admin_token_file",
            metavar="FILE",
            help="With --url: a file with the server's token, where its index requires one.",
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show versions, their components, which a server would load, and why not.

    Files and digests are verified, but models are not loaded; use validate for that. With --url it
    shows the states of a running server's versions.

    Example: bundleserver inspect /mnt/models/fraud
    """
    if (directory is None) == (url is None):
        raise typer.BadParameter("expected either a directory or --url")
    if pickles and environment:
        raise typer.BadParameter("expected either --pickles or --environment")
    if pickles:
        if directory is None:
            raise typer.BadParameter("--pickles expects a directory")
        show_pickle_names(directory, as_json=as_json)
        return
    if environment:
        if directory is None:
            raise typer.BadParameter("--environment expects a directory")
        show_environments(list_models(directory), as_json=as_json)
        return
    if directory is None:
        token = None if admin_token_file is None else asking.read_token(admin_token_file)
        models, refusal = asking.ask_server(url or "", token)
        if as_json:
            say_json({"models": models, **({"index_refused": refusal} if refusal else {})})
        else:
            asking.print_server(models, refusal)
        return
    if admin_token_file is not None:
        raise typer.BadParameter("--admin_token_file is for --url")
    if trusted_keys is not None:
        check_keys(trusted_keys)
    listings = list_models(directory)
    shown = [(listing, _rows(listing, trusted_keys)) for listing in listings]
    if as_json:
        say_json([_document(listing, rows) for listing, rows in shown])
    elif not shown:
        say(f"{directory} has no models")
    else:
        for listing, rows in shown:
            _print(listing, rows)


def _rows(listing: Listing, trusted_keys: Path | None) -> list[Row]:
    with working(f"verifying {listing.model}"):
        return [
            replace(_row(candidate), signature=signature_facts(candidate, trusted_keys))
            for candidate in listing.candidates
        ]


def signature_facts(candidate: Candidate, trusted_keys: Path | None) -> Mapping[str, object]:
    """Return what a version's signature is worth, as a server's metadata say it."""
    if trusted_keys is None:
        is_signed = (candidate.location / SIGNATURE_NAME).exists()
        return {"status": UNCHECKED if is_signed else SignatureStatus.UNSIGNED.value}
    served = Served(candidate.model, candidate.version.label)
    trust = Trust(signatures=SignaturePolicy.WARN, trusted_keys=trusted_keys)
    found = check(
        candidate.location, served, trust, candidate.origin, candidate.links_lead_anywhere
    )
    if found.copy is not None:
        found.copy.close()
    return found.verification.facts()


def _row(candidate: Candidate) -> Row:
    manifest = None
    ignored: Mapping[str, str] = {}
    try:
        path, manifest = DirectorySource(candidate.location).fetch(candidate)
        ignored = ignored_files(path) if manifest.inferred else {}
        if candidate.problem is None:
            verify(path, manifest, links_lead_anywhere=candidate.links_lead_anywhere)
    except BundleServerError as error:
        return Row(candidate.version, manifest, candidate.problem or one_line(error), ignored)
    return Row(candidate.version, manifest, candidate.problem or "", ignored)


def _print(listing: Listing, rows: list[Row]) -> None:
    config = listing.config or ServingConfig()
    headings = (
        "version",
        "serves",
        "components",
        "trained",
        "metrics",
        "digest",
        "signature",
        "ignored",
        "reason",
    )
    roles = _roles(rows, config)
    cells = [
        (
            row.version.label,
            roles[row.version],
            ", ".join(f"{name}: {framework}" for name, framework in row.components.items()),
            str(row.known("trained_at") or ""),
            format_metrics(row.known("metrics")),
            (row.digest or "")[:12],
            _shown(row.signature),
            ", ".join(f"{file} ({what})" for file, what in row.ignored.items()),
            row.reason,
        )
        for row in rows
    ]
    say_table(f"{listing.model}: {_rules(config)}", headings, cells)
    for note in (listing.config_problem, *listing.warnings, "" if rows else listing.reason):
        if note:
            say(note)
    say("")


def _shown(signature: Mapping[str, object]) -> str:
    """Return the cell of a signature; nothing for a version without one, as most have none."""
    key, problem = signature.get("key"), signature.get("problem")
    status = str(signature["status"])
    if isinstance(key, Mapping):
        status += f" by {key['name']}"
    if problem:
        return f"{status}: {problem}"
    return "" if status == SignatureStatus.UNSIGNED.value else status


def _rules(config: ServingConfig) -> str:
    assumed = "" if config.policy else " (assumed; serving.json sets none)"
    policy = f"policy {policy_of(config, VersionPolicy())}{assumed}"
    return ", ".join([policy, *config.phrases()])


def _roles(rows: Iterable[Row], config: ServingConfig) -> dict[Version, str]:
    """Return what a server would do with each version, judging by its files."""
    sound = [row.version for row in rows if not row.reason]
    pinned = None if config.default is None else Version(config.resolve(config.default))
    policy = policy_of(config, VersionPolicy())
    wanted, default = settled_versions(sound, policy, named_versions(config), pinned)
    roles = {row.version: "no" if not row.reason else "cannot" for row in rows}
    return {**roles, **dict.fromkeys(wanted, "yes"), **({default: "default"} if default else {})}


def _document(listing: Listing, rows: list[Row]) -> dict[str, object]:
    config = listing.config or ServingConfig()
    roles = _roles(rows, config)
    return {
        "model": listing.model,
        "policy": config.policy or str(VersionPolicy()),
        "default": config.default,
        "labels": dict(config.labels),
        "traffic": dict(config.traffic),
        "shadow": list(config.shadow),
        "canary": asdict(config.canary) if config.canary else None,
        "config_problem": listing.config_problem,
        "warnings": list(listing.warnings),
        "reason": listing.reason,
        "versions": [
            {
                "version": row.version.label,
                "serves": roles[row.version],
                "components": row.components,
                "inferred": row.manifest.inferred if row.manifest else None,
                "metadata": shown_metadata(row.manifest) if row.manifest else {},
                "digest": row.digest,
                "signature": dict(row.signature),
                "ignored": dict(row.ignored),
                "reason": row.reason,
            }
            for row in rows
        ],
    }
