"""Checking a version's signature, before anything of it is opened."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bundleserver.bundle.metadata_files import read_metadata
from bundleserver.bundle.reading import read_manifest
from bundleserver.bundle.trust import SignaturePolicy, Trust
from bundleserver.bundle.trust.copying import PrivateCopy, differences
from bundleserver.bundle.trust.coverage import uncovered
from bundleserver.bundle.trust.files import find_files, linked_directory
from bundleserver.bundle.trust.keys import read_keys, require_library
from bundleserver.bundle.trust.naming import Served, foreign, moved
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
            return Checked(Verification(error.status, None, str(error)))
        return Checked(Verification(SignatureStatus.INVALID, None, str(error)))


def _check(
    directory: Path, served: Served, trust: Trust, origin: Origin, links_lead_anywhere: bool
) -> Checked:
    require_library()
    place = place_of(directory, links_lead_anywhere)
    key, statement = read_signature(place, trust.trusted_keys or Path(), origin)
    return compare(place, key, statement, served, origin)


def check_keyless(directory: Path, served: Served, identity: str, issuer: str) -> Checked:
    """Check a signature that sigstore vouches for; it needs a network.

    Raises:
        BundleServerError: it does not verify.
    """
    require_library()
    from bundleserver.bundle.trust.library import NotVerified, verify_keyless

    try:
        place = place_of(directory)
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


def place_of(directory: Path, links_lead_anywhere: bool = False) -> Place:
    """Say where the files of a version's directory are.

    Raises:
        SignatureRefused: it cannot be read.
    """
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
    files = _files_of(place, statement, served, origin)
    copy, changed = PrivateCopy.make(statement, files, directory)
    try:
        _check_content(place, copy.path, changed, statement, served, origin)
    except BaseException:
        copy.close()
        raise
    return Checked(Verification(SignatureStatus.VERIFIED, key), copy)


def compare_claimed(place: Place, served: Served) -> None:
    """Compare a directory with what its signature says, by whomever it is; nothing is copied.

    Raises:
        SignatureRefused: it is damaged, or of something else; names each difference.
        FrameworkError: a library is missing.
    """
    require_library()
    from bundleserver.bundle.trust.library import NotVerified, claimed

    try:
        statement = claimed(read_signature_file(place))
    except NotVerified as error:
        problem = Problem(SIGNATURE_NAME, str(error))
        raise SignatureRefused(place.shown, error.status, [problem]) from error
    files = _files_of(place, statement, served, HERE)
    try:
        changed = list(differences(statement, files, place.base))
    except OSError as error:
        raise _unreadable(place.shown, error) from error
    _check_content(place, place.base, changed, statement, served, HERE)


def _files_of(
    place: Place, statement: Statement, served: Served, origin: Origin
) -> Mapping[str, Path]:
    """Return where the files are that were signed.

    Raises:
        SignatureRefused: there are others, or some are missing.
    """
    try:
        beside = origin.versions_beside
        found = find_files(place.base, statement, origin.own_files, beside, place.only)
    except OSError as error:
        raise _unreadable(place.shown, error) from error
    if problems := [*found.problems, *_differences(statement, found.files)]:
        raise _other(place, problems, statement, served, origin)
    return found.files


def _check_content(
    place: Place,
    base: Path,
    changed: list[Problem],
    statement: Statement,
    served: Served,
    origin: Origin,
) -> None:
    """Check what the files that were signed say of themselves.

    Raises:
        SignatureRefused: some are others, the manifest lists more, or it is another version.
    """
    if changed:
        raise _other(place, changed, statement, served, origin)
    manifest = read_manifest(base)
    if problems := list(uncovered(base, manifest, statement.files)):
        raise _invalid(place.shown, problems)
    if what := moved(manifest, statement, served, origin):
        raise _invalid(place.shown, [Problem("", what)])


def _other(
    place: Place, problems: list[Problem], statement: Statement, served: Served, origin: Origin
) -> SignatureRefused:
    """Say which files are others; or alone that it is the signature of something else."""
    said = foreign(place.base, statement, served, origin)
    return _invalid(place.shown, [Problem(SIGNATURE_NAME, said)] if said else problems)


def read_signature(
    place: Place, trusted_keys: Path, origin: Origin = HERE
) -> tuple[Key, Statement]:
    """Return what a directory's signature says, and the trusted key that made it.

    Raises:
        SignatureRefused: there is none, it is damaged, or no trusted key made it.
        ConfigError: the keys cannot be read.
    """
    from bundleserver.bundle.trust.library import NotVerified, verify

    data = read_signature_file(place, origin)
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
        raise SignatureRefused(place.shown, error.status, problems) from error


def read_signature_file(place: Place, origin: Origin = HERE) -> bytes:
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
        what = f"there is no '{SIGNATURE_NAME}'; {_how_to_sign(directory, origin)}"
        raise SignatureRefused(directory, SignatureStatus.UNSIGNED, [Problem("", what)]) from error
    except OSError as error:
        problem = Problem(SIGNATURE_NAME, f"cannot be read: {error.strerror or error}")
        raise SignatureRefused(directory, SignatureStatus.INVALID, [problem]) from error


def _how_to_sign(directory: Path, origin: Origin) -> str:
    if origin.registered_as is None:
        return f"sign it with: bundleserver sign {shell_word(directory)} --private_key KEY"
    # What is here is this server's own copy.
    return (
        "sign it where it was saved with: bundleserver sign DIR --private_key KEY, and push it "
        f"again with: bundleserver push DIR {shell_word(f'models:/{origin.registered_as}')}, or "
        "register it again"
    )


def _invalid(directory: Path, problems: list[Problem]) -> SignatureRefused:
    return SignatureRefused(directory, SignatureStatus.INVALID, problems)


def _unreadable(directory: Path, error: OSError) -> SignatureRefused:
    problem = Problem("", f"cannot be read: {error.strerror or error}")
    return SignatureRefused(directory, SignatureStatus.INVALID, [problem])


def _differences(statement: Statement, files: Mapping[str, Path]) -> list[Problem]:
    missing = [
        Problem(name, "is missing; it was signed") for name in statement.files.keys() - files.keys()
    ]
    extra = [
        Problem(name, _LEFT_OUT if statement.leaves_out(name) else _NOT_SIGNED)
        for name in files.keys() - statement.files.keys()
    ]
    return sorted([*missing, *extra], key=lambda problem: problem.where)
