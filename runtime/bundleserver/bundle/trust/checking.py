"""Checking a version's signature, before anything of it is opened."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bundleserver.bundle.metadata_files import read_metadata
from bundleserver.bundle.reading import read_manifest
from bundleserver.bundle.trust import SignaturePolicy, Trust
from bundleserver.bundle.trust.copying import PrivateCopy
from bundleserver.bundle.trust.coverage import uncovered
from bundleserver.bundle.trust.files import find_files, linked_directory
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

_NOT_SIGNED = "was not signed; remove it, or sign the version again"
_LEFT_OUT = (
    "was not signed, as whoever signed left it out; remove it, or sign the version again as a whole"
)


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
    place = _place_of(directory, links_lead_anywhere)
    key, statement = read_signature(place, trust.trusted_keys or Path())
    return compare(place, key, statement, served, origin)


def check_keyless(directory: Path, served: Served, identity: str, issuer: str) -> Checked:
    """Check a signature that sigstore vouches for; it needs a network.

    Raises:
        BundleServerError: it does not verify.
    """
    require_library()
    from bundleserver.bundle.trust.library import NotVerified, verify_keyless

    try:
        place = _place_of(directory)
        key, statement = verify_keyless(read_signature_file(place), identity, issuer)
    except NotVerified as error:
        problem = Problem(SIGNATURE_NAME, str(error))
        raise SignatureRefused(directory, error.status, [problem]) from error
    return compare(place, key, statement, served)


@dataclass(frozen=True)
class Place:
    """Where the files of a version are.

    Attributes:
        shown: the version's directory.
        base: the same, or the one whose files it has as links.
        only: the names at the top of ``base`` that are there; None is all.
    """

    shown: Path
    base: Path
    only: frozenset[str] | None = None


def _place_of(directory: Path, links_lead_anywhere: bool = False) -> Place:
    try:
        base = linked_directory(directory) if links_lead_anywhere else None
        if base is None:
            return Place(directory, directory)
        # What the other directory has beside them was not given to anybody.
        return Place(directory, base, frozenset(entry.name for entry in directory.iterdir()))
    except OSError as error:
        raise _unreadable(directory, error) from error


def compare(
    place: Place, key: Key, statement: Statement, served: Served, origin: Origin = HERE
) -> Checked:
    """Compare a version's directory with what was signed, and copy that.

    Raises:
        SignatureRefused: it is another; names each difference.
        LoadError: it cannot be copied.
    """
    directory = place.shown
    try:
        found = find_files(
            place.base, statement, origin.own_files, origin.versions_beside, place.only
        )
    except OSError as error:
        raise _unreadable(directory, error, key) from error
    problems = [*found.problems, *_differences(statement, found.files)]
    if problems:
        raise _invalid(directory, problems, key)
    copy, changed = PrivateCopy.make(statement, found.files, directory)
    try:
        manifest = None if changed else read_manifest(copy.path)
        if problems := changed or list(uncovered(copy.path, manifest, statement.files)):
            raise _invalid(directory, problems, key)
        if moved := _moved(manifest, statement, served, origin):
            raise _invalid(directory, [Problem("", moved)], key)
    except BaseException:
        copy.close()
        raise
    return Checked(Verification(SignatureStatus.VERIFIED, key), copy)


def read_signature(place: Place, trusted_keys: Path) -> tuple[Key, Statement]:
    """Return what a directory's signature says, and the trusted key that made it.

    Raises:
        SignatureRefused: there is none, it is damaged, or no trusted key made it.
        ConfigError: the keys cannot be read.
    """
    from bundleserver.bundle.trust.library import NotVerified, verify

    data = read_signature_file(place)
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
        raise SignatureRefused(place.shown, error.status, problems, error.key) from error


def read_signature_file(place: Place) -> bytes:
    """Return the content of a directory's signature.

    Raises:
        SignatureRefused: there is none, or it cannot be read.
    """
    directory, path = place.shown, place.base / SIGNATURE_NAME
    try:
        if path.is_symlink():
            problem = Problem(SIGNATURE_NAME, "is a link; put the file itself there")
            raise SignatureRefused(directory, SignatureStatus.INVALID, [problem])
        if place.only is not None and SIGNATURE_NAME not in place.only:
            raise FileNotFoundError(path)
        return read_metadata(path)
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


def _unreadable(directory: Path, error: OSError, key: Key | None = None) -> SignatureRefused:
    problem = Problem("", f"cannot be read: {error.strerror or error}")
    return SignatureRefused(directory, SignatureStatus.INVALID, [problem], key)


def _differences(statement: Statement, files: Mapping[str, Path]) -> list[Problem]:
    missing = [
        Problem(name, "is missing; it was signed") for name in statement.files.keys() - files.keys()
    ]
    extra = [
        Problem(name, _LEFT_OUT if statement.leaves_out(name) else _NOT_SIGNED)
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
