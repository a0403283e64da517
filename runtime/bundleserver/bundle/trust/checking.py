"""Checking a version's signature, before anything of it is opened."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bundleserver.bundle.metadata_files import read_metadata
from bundleserver.bundle.reading import read_manifest
from bundleserver.bundle.trust import SignaturePolicy, Trust
from bundleserver.bundle.trust.files import PrivateCopy, find_files, linked_directory
from bundleserver.bundle.trust.keys import read_keys, require_library
from bundleserver.bundle.trust.statement import Statement
from bundleserver.bundle.trust.verification import (
    HERE,
    SIGNATURE_NAME,
    Key,
    Origin,
    SignatureRefused,
    SignatureStatus,
    Verification,
)
from bundleserver.documents.printable import shell_word
from bundleserver.errors import BundleServerError, Problem
from bundleserver.manifest import Manifest

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checked:
    """What came of the check; the copy, which has what was signed, is closed by whoever asked."""

    verification: Verification
    copy: PrivateCopy | None = None


NOT_CHECKED = Checked(Verification())


@dataclass(frozen=True)
class Served:
    """As what a version is served; None where nobody says."""

    model: str | None = None
    version: str | None = None


def check(
    directory: Path,
    served: Served,
    trust: Trust,
    origin: Origin,
    links_lead_anywhere: bool = False,
) -> Checked:
    """Check the signature of a version's directory, and copy what was signed.

    Raises:
        BundleServerError: it does not verify, and signatures are enforced.
    """
    try:
        return _check(directory, served, trust, origin, links_lead_anywhere)
    except BundleServerError as error:
        if trust.signatures is SignaturePolicy.ENFORCE:
            raise
        LOG.warning("%s %s: %s", served.model, served.version, error)
        if isinstance(error, SignatureRefused):
            return Checked(Verification(error.status, error.key, str(error)))
        return Checked(Verification(SignatureStatus.INVALID, None, str(error)))


def _check(
    directory: Path, served: Served, trust: Trust, origin: Origin, links_lead_anywhere: bool
) -> Checked:
    require_library()
    key, statement = read_signature(directory, trust.trusted_keys or Path())
    return compare(directory, key, statement, served, origin, links_lead_anywhere)


def check_keyless(directory: Path, served: Served, identity: str, issuer: str) -> Checked:
    """Check a signature that sigstore vouches for; it needs a network.

    Raises:
        BundleServerError: it does not verify.
    """
    require_library()
    from bundleserver.bundle.trust.library import NotVerified, verify_keyless

    try:
        key, statement = verify_keyless(read_signature_file(directory), identity, issuer)
    except NotVerified as error:
        problem = Problem(SIGNATURE_NAME, str(error))
        raise SignatureRefused(directory, error.status, [problem]) from error
    return compare(directory, key, statement, served)


def compare(
    directory: Path,
    key: Key,
    statement: Statement,
    served: Served,
    origin: Origin = HERE,
    links_lead_anywhere: bool = False,
) -> Checked:
    """Compare a version's directory with what was signed, and copy that.

    Raises:
        SignatureRefused: it is another; names each difference.
        LoadError: it cannot be copied.
    """
    base = (linked_directory(directory) if links_lead_anywhere else None) or directory
    try:
        # What the other directory has beside them was not given to anybody.
        only = None if base == directory else {entry.name for entry in directory.iterdir()}
        found = find_files(base, statement, origin.own_files, only)
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise _invalid(directory, [Problem("", what)], key) from error
    problems = [*found.problems, *_differences(statement, found.files)]
    if problems:
        raise _invalid(directory, problems, key)
    copy, changed = PrivateCopy.make(statement, found.files, directory)
    try:
        if changed:
            raise _invalid(directory, changed, key)
        if moved := _moved(read_manifest(copy.path), statement, served, origin):
            raise _invalid(directory, [Problem("", moved)], key)
    except BaseException:
        copy.close()
        raise
    return Checked(Verification(SignatureStatus.VERIFIED, key), copy)


def read_signature(directory: Path, trusted_keys: Path) -> tuple[Key, Statement]:
    """Return what a directory's signature says, and the trusted key that made it.

    Raises:
        SignatureRefused: there is none, it is damaged, or no trusted key made it.
        ConfigError: the keys cannot be read.
    """
    from bundleserver.bundle.trust.library import NotVerified, verify

    data = read_signature_file(directory)
    trusted = read_keys(trusted_keys)
    try:
        return verify(data, trusted.keys)
    except NotVerified as error:
        what = str(error)
        if error.status is SignatureStatus.UNTRUSTED:
            known = ", ".join(f"'{it.key.name}'" for it in trusted.keys[:20]) or "none"
            what += f"; trusted are: {known}, of '{trusted_keys}'"
        problems = [Problem(SIGNATURE_NAME, what)]
        problems += [Problem(f"{trusted_keys}/{it.where}", it.what) for it in trusted.odd]
        raise SignatureRefused(directory, error.status, problems, error.key) from error


def read_signature_file(directory: Path) -> bytes:
    """Return the content of a directory's signature.

    Raises:
        SignatureRefused: there is none, or it cannot be read.
    """
    try:
        return read_metadata(directory / SIGNATURE_NAME)
    except (FileNotFoundError, NotADirectoryError) as error:
        what = (
            f"there is no '{SIGNATURE_NAME}'; sign it with: bundleserver sign "
            f"{shell_word(directory)} --private_key KEY"
        )
        raise SignatureRefused(directory, SignatureStatus.UNSIGNED, [Problem("", what)]) from error
    except OSError as error:
        problem = Problem(SIGNATURE_NAME, f"cannot be read: {error.strerror or error}")
        raise SignatureRefused(directory, SignatureStatus.INVALID, [problem]) from error


def _invalid(directory: Path, problems: list[Problem], key: Key) -> SignatureRefused:
    return SignatureRefused(directory, SignatureStatus.INVALID, problems, key)


def _differences(statement: Statement, files: Mapping[str, Path]) -> list[Problem]:
    missing = [
        Problem(name, "is missing; it was signed") for name in statement.files.keys() - files.keys()
    ]
    extra = [
        Problem(name, "was not signed; remove it, or sign the version again")
        for name in files.keys() - statement.files.keys()
    ]
    return sorted([*missing, *extra], key=lambda problem: problem.where)


def _moved(
    manifest: Manifest | None, statement: Statement, served: Served, origin: Origin
) -> str | None:
    """Return why what was signed is not what it is served as: another model or version.

    The manifest says which it is. What it leaves open, or a directory without one, the signature
    says: as ``sign`` writes it, the name of a model, or ``NAME/VERSION``.
    """
    names = {name for name in (served.model, origin.registered_as) if name}
    version = None if origin.registered_as else served.version
    if not names and version is None:
        return None
    name, label = (manifest.name, manifest.version) if manifest else (None, None)
    if (name is None and names) or (label is None and version is not None):
        said, _, said_label = statement.name.partition("/")
        if names and said not in {*names, name}:
            return _elsewhere(said, said_label, served, version)
        name, label = name or said, label or said_label
    if (not names or name in names) and (version is None or label in ("", version)):
        return None
    return _elsewhere(name or "", label or "", served, version)


def _elsewhere(name: str, label: str, served: Served, version: str | None) -> str:
    here = " ".join(filter(None, (_quoted("", served.model), _quoted("version ", version))))
    other = " ".join(filter(None, (_quoted("", name), _quoted("version ", label))))
    return (
        f"it was made for {other}, and this is {here}; move the version to its own place, or sign "
        "it as what it is here"
    )


def _quoted(lead: str, text: str | None) -> str:
    return f"{lead}'{text}'" if text else ""
