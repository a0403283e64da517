"""Signing a version's directory with a private key."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bundleserver.bundle.reading import read_manifest
from bundleserver.bundle.trust.files import NEVER_SIGNED, find_files
from bundleserver.bundle.trust.keys import require_library
from bundleserver.errors import IntegrityError, StoreError
from bundleserver.manifest import Manifest
from bundleserver.versions import is_version_label

PASSPHRASE_VARIABLE = "BUNDLESERVER_KEY_PASSPHRASE"  # noqa: S105  # a name
"""The environment variable with the passphrase of a private key; without it somebody is asked."""


@dataclass(frozen=True)
class SigningKey:
    """A private key that was tried: it is of a kind that signatures have, and its passphrase fits.

    Attributes:
        sha256: the digest by which signatures name its public key.
    """

    path: Path
    sha256: str
    _passphrase: bytes | None = field(default=None, repr=False)

    @classmethod
    def load(cls, path: str | Path) -> SigningKey:
        """Read a PEM file; an encrypted key's passphrase is in the environment, or asked for.

        Raises:
            StoreError: the key cannot be used.
            FrameworkError: a library is missing.
        """
        require_library()
        from bundleserver.bundle.trust.library import public_key_of, read_key

        path = Path(path).expanduser()
        try:
            passphrase = _passphrase_of(path)
            public = public_key_of(path, passphrase)
            return cls(path, read_key(path.name, public).key.sha256, passphrase)
        except OSError as error:
            why = error.strerror or str(error)
            raise StoreError(f"the private key '{path}' cannot be read: {why}") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise StoreError(
                f"'{path}' cannot be used as a private key: {error}; expected a PEM file with an "
                "elliptic-curve key (P-256, P-384 or P-521), and its passphrase if it has one"
            ) from error

    def sign(self, directory: Path, name: str | None = None) -> bytes:
        """Sign every file of a directory, and return the content of its ``model.sig``.

        Args:
            directory: a version's; what its files are to be later.
            name: ``NAME`` or ``NAME/VERSION``; by default as its manifest, or its path, says.

        Raises:
            IntegrityError: it has links or other things that are no files.
            StoreError: it has no files, or one cannot be read.
            ManifestError: its manifest is invalid.
        """
        from bundleserver.bundle.trust.library import sign

        if self.path.resolve().is_relative_to(directory.resolve()):
            raise StoreError(f"the private key '{self.path}' is in {directory}; keep it elsewhere")
        return _sign(
            directory,
            name,
            lambda folder, said, left: sign(folder, said, left, self.path, self._passphrase),
        )


def sign_keyless(directory: Path, name: str | None = None) -> bytes:
    """Sign a directory as somebody whom sigstore knows; it needs a network.

    Raises:
        IntegrityError, StoreError, ManifestError: as with a key, or sigstore does not sign.
        FrameworkError: a library is missing.
    """
    require_library()
    from bundleserver.bundle.trust.library import sign_keyless

    return _sign(directory, name, sign_keyless)


def _sign(
    directory: Path, name: str | None, sign: Callable[[Path, str, Sequence[str]], bytes]
) -> bytes:
    directory = directory.resolve()
    try:
        found = find_files(directory)
    except OSError as error:
        raise StoreError(f"{directory} cannot be read: {error.strerror or error}") from error
    if found.problems:
        raise IntegrityError(f"{directory} cannot be signed", found.problems)
    if not found.files:
        raise StoreError(f"{directory} has no files to sign")
    name = name or signed_name(directory, read_manifest(directory))
    try:
        return sign(directory, name, sorted({*NEVER_SIGNED, *found.passed_over}))
    except Exception as error:  # a library's, of files and of networks
        why = getattr(error, "strerror", None) or error
        raise StoreError(f"{directory} cannot be signed: {why}") from error


def signed_name(directory: Path, manifest: Manifest | None) -> str:
    """Return the name of a version in its signature: the manifest's, else that of its path."""
    is_version = is_version_label(directory.name)
    name = manifest.name if manifest else None
    name = name or (directory.parent.name if is_version else directory.name)
    version = manifest.version if manifest else None
    version = version or (directory.name if is_version else None)
    return f"{name}/{version}" if version else name


def _passphrase_of(path: Path) -> bytes | None:
    if b"ENCRYPTED" not in path.read_bytes()[: 64 << 10]:
        return None
    given = os.environ.get(PASSPHRASE_VARIABLE)
    if given is None and not sys.stdin.isatty():
        raise ValueError(f"it is encrypted; set its passphrase in {PASSPHRASE_VARIABLE}")
    return (getpass.getpass(f"Passphrase of {path}: ") if given is None else given).encode()
