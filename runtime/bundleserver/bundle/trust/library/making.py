"""Making signatures with ``model-signing``."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from cryptography.hazmat.primitives import serialization
from model_signing import hashing, manifest, signing

from bundleserver.bundle.trust.verification import SIGNATURE_NAME


@dataclass(frozen=True)
class ToSign:
    """What is signed of a directory.

    Attributes:
        name: what it is, for whoever reads the signature.
        files: the files that are signed.
        left_out: paths that are no part of it; git's own at the top are none either.
    """

    name: str
    files: Sequence[Path]
    left_out: Sequence[str]


def sign(directory: Path, what: ToSign, private_key: Path, passphrase: bytes | None) -> bytes:
    """Sign a directory with a private key, and return the signature.

    Args:
        directory: where the files are.
        what: which of them are signed, and as what.
        private_key: a PEM file.
        passphrase: the key's, if it is encrypted.

    Raises:
        OSError: a file cannot be read.
        ValueError, TypeError: the key is of another kind, or its passphrase is another or missing.
    """
    # The library says that it takes a string, and hands it to one that takes bytes only.
    config = signing.Config().use_elliptic_key_signer(
        private_key=private_key, password=cast(Any, passphrase)
    )
    return _signed(config, directory, what)


def sign_keyless(directory: Path, what: ToSign) -> bytes:
    """Sign a directory as somebody whom sigstore knows, and return the signature.

    The identity is that of the CI job if there is one, else a browser asks for it.

    Raises:
        Exception: sigstore cannot be reached, or does not know who this is.
    """
    config = signing.Config().use_sigstore_signer(use_ambient_credentials=True)
    return _signed(config, directory, what)


def _signed(config: Any, directory: Path, what: ToSign) -> bytes:
    config.set_hashing_config(_Named(what))
    with tempfile.TemporaryDirectory(prefix="bundleserver-") as temporary:
        made = Path(temporary, SIGNATURE_NAME)
        config.sign(directory, made)
        return made.read_bytes()


def public_key_of(private_key: Path, passphrase: bytes | None) -> bytes:
    """Return the public key of a private one, as PEM text.

    Raises:
        OSError, ValueError, TypeError: the key cannot be read.
    """
    private: Any = serialization.load_pem_private_key(private_key.read_bytes(), passphrase)
    encoded: bytes = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


class _Named(hashing.Config):
    """Hashes the files of a directory, which is named by whoever signs it."""

    def __init__(self, what: ToSign) -> None:
        super().__init__()
        self._what = what
        self.set_ignored_paths(paths=what.left_out, ignore_git_paths=True)

    def hash(self, model_path: Any, *, files_to_hash: Any = None) -> manifest.Manifest:
        # Those alone: the library would refuse a link among what it is told to leave out.
        found = super().hash(model_path, files_to_hash=self._what.files)
        items = [
            manifest.FileManifestItem(path=Path(item.identifier), digest=item.digest)
            for item in found.resource_descriptors()
        ]
        kind = manifest.SerializationType.from_args(found.serialization_type)
        return manifest.Manifest(self._what.name, items, kind)
