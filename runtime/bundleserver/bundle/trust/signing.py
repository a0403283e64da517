"""Signing a version's directory with a private key."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bundleserver.bundle.beside import found_beside
from bundleserver.bundle.metadata_files import MANIFEST_BYTES
from bundleserver.bundle.opening import verify as verify_listed
from bundleserver.bundle.reading import read_manifest
from bundleserver.bundle.trust.coverage import uncovered
from bundleserver.bundle.trust.files import NEVER_SIGNED, find_files, is_utf8
from bundleserver.bundle.trust.keys import require_library
from bundleserver.bundle.trust.verification import SIGNATURE_NAME
from bundleserver.errors import IntegrityError, Problem, StoreError
from bundleserver.manifest import MANIFEST_NAME, MODEL_NAME_IS, Manifest, is_model_name
from bundleserver.versions import is_version_label

if TYPE_CHECKING:
    from bundleserver.bundle.trust.library.making import ToSign

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
    _public: bytes = field(repr=False)
    _passphrase: bytes | None = field(default=None, repr=False)

    @classmethod
    def load(cls, path: str | Path) -> SigningKey:
        """Read a PEM file; an encrypted key's passphrase is in the environment, or asked for.

        Raises:
            StoreError: the key cannot be used.
            FrameworkError: a library is missing.
        """
        require_library()
        from bundleserver.bundle.trust.library import KINDS, read_key
        from bundleserver.bundle.trust.library.making import public_key_of

        path = Path(path).expanduser()
        try:
            passphrase = _passphrase_of(path)
            public = public_key_of(path, passphrase)
            return cls(path, read_key(path.name, public).key.sha256, public, passphrase)
        except OSError as error:
            why = error.strerror or str(error)
            raise StoreError(f"the private key '{path}' cannot be read: {why}") from error
        except (ValueError, TypeError, AttributeError) as error:
            what = str(error)
            if KINDS not in what:
                what += f"; expected a PEM file with {KINDS}, and its passphrase if it has one"
            raise StoreError(f"'{path}' cannot be used as a private key: {what}") from error

    def sign(self, directory: Path, name: str | None = None) -> bytes:
        """Sign every file of a directory, and return the content of its ``model.sig``.

        Args:
            directory: a version's; what its files are to be later.
            name: ``NAME`` or ``NAME/VERSION``; by default as its manifest, or its path, says.

        Raises:
            IntegrityError: it has links or other things that are no files, or a file is not the
                one that its manifest lists.
            StoreError: it has no files, or too many, one cannot be read, or it is not of that name.
            ManifestError: its manifest is invalid.
        """
        from bundleserver.bundle.trust.library import read_key, verify
        from bundleserver.bundle.trust.library.making import sign

        if self.path.resolve().is_relative_to(directory.resolve()):
            raise StoreError(f"the private key '{self.path}' is in {directory}; keep it elsewhere")

        def signed(folder: Path, what: ToSign) -> bytes:
            made = sign(folder, what, self.path, self._passphrase)
            # What would not verify is not written.
            verify(made, [read_key(self.path.name, self._public)])
            return made

        return _sign(directory, name, signed)


def sign_keyless(directory: Path, name: str | None = None) -> bytes:
    """Sign a directory as somebody whom sigstore knows; it needs a network.

    Raises:
        IntegrityError, StoreError, ManifestError: as with a key, or sigstore does not sign.
        FrameworkError: a library is missing.
    """
    require_library()
    from bundleserver.bundle.trust.library.making import sign_keyless

    return _sign(directory, name, sign_keyless)


def _sign(directory: Path, name: str | None, sign: Callable[[Path, ToSign], bytes]) -> bytes:
    from bundleserver.bundle.trust.library.making import ToSign

    named, directory = shown_path(directory), directory.resolve()
    try:
        found = find_files(directory, beside=found_beside(directory))
    except OSError as error:
        raise StoreError(f"{directory} cannot be read: {error.strerror or error}") from error
    if (directory / SIGNATURE_NAME).is_symlink():
        found.problems.append(Problem(SIGNATURE_NAME, "is a link; remove it"))
    if found.problems:
        raise IntegrityError(f"{directory} cannot be signed", found.problems)
    if not found.files:
        raise StoreError(f"{directory} has no files to sign")
    manifest = read_manifest(directory)
    name = signed_name(named, manifest) if name is None else _checked_name(name, manifest)
    if problems := list(uncovered(directory, manifest, found.files)):
        raise IntegrityError(f"{directory} cannot be signed", problems)
    if manifest is not None:
        # No server would open it.
        verify_listed(directory, manifest)
    left_out = sorted({*NEVER_SIGNED, *found.passed_over})
    try:
        made = sign(directory, ToSign(name, tuple(found.files.values()), left_out))
    except Exception as error:  # a library's, of files and of networks
        why = getattr(error, "strerror", None) or error
        raise StoreError(f"{directory} cannot be signed: {why}") from error
    if len(made) > MANIFEST_BYTES:
        raise StoreError(
            f"{directory} cannot be signed: for {len(found.files)} files its {SIGNATURE_NAME} has "
            f"{len(made)} bytes, and may have {MANIFEST_BYTES}, which is about 20000 files; put "
            "them into fewer"
        )
    return made


def shown_path(directory: Path) -> Path:
    """Return the whole path of a directory; a link keeps its name, by which a server knows it."""
    return Path(os.path.abspath(directory))  # noqa: PTH100  # resolve() follows links


def signed_name(directory: Path, manifest: Manifest | None) -> str:
    """Return the name of a version in its signature: the manifest's, else that of its path.

    Raises:
        StoreError: neither says one.
    """
    is_version = is_version_label(directory.name)
    name = manifest.name if manifest else None
    name = name or (directory.parent.name if is_version else directory.name)
    if not name or not is_utf8(name):
        raise StoreError(f"the path '{directory}' says no model's name; give it with --name")
    version = manifest.version if manifest else None
    version = version or (directory.name if is_version else None)
    return f"{name}/{version}" if version else name


def _checked_name(name: str, manifest: Manifest | None) -> str:
    """Return what somebody wants a version to be signed as, if it can be that.

    Raises:
        StoreError: it is no name of a model, or its manifest says another.
    """
    model, slash, version = name.partition("/")
    if not is_model_name(model) or bool(slash) != is_version_label(version):
        raise StoreError(
            f"--name is '{name}'; expected a model's name ({MODEL_NAME_IS}), or NAME/VERSION"
        )
    for what, said, own in (
        ("model", model, manifest and manifest.name),
        ("version", version, manifest and manifest.version),
    ):
        if said and own and said != own:
            raise StoreError(
                f"--name is '{name}', and its {MANIFEST_NAME} says {what} '{own}', which is what "
                "servers compare; change the one or the other"
            )
    return name


def _passphrase_of(path: Path) -> bytes | None:
    if b"ENCRYPTED" not in path.read_bytes()[: 64 << 10]:
        return None
    given = os.environ.get(PASSPHRASE_VARIABLE)
    if given is None and not sys.stdin.isatty():
        raise ValueError(f"it is encrypted; set its passphrase in {PASSPHRASE_VARIABLE}")
    return (getpass.getpass(f"Passphrase of {path}: ") if given is None else given).encode()
