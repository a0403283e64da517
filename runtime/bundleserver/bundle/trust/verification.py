"""What came of checking a version's signature, and the error that says why it is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from bundleserver.errors import IntegrityError, Problem
from bundleserver.manifest import Manifest

SIGNATURE_NAME = "model.sig"
"""The file with a version's signature: an OpenSSF Model Signing bundle."""

UNCHECKED = "unchecked"
"""What commands say of a signature that they could not check, or were not told to."""


class SignatureStatus(str, Enum):
    """What a version's signature is worth."""

    VERIFIED = "verified"
    """A trusted key signed what was opened."""

    UNSIGNED = "unsigned"
    """There is none."""

    UNTRUSTED = "untrusted"
    """No trusted key made it."""

    INVALID = "invalid"
    """It is damaged, or is not that of these files, or of this model and version."""

    OFF = "off"
    """Nobody looked."""


@dataclass(frozen=True)
class Key:
    """A trusted key.

    Attributes:
        name: the name of its file; with sigstore, who signed.
        sha256: the digest of its PEM text as OpenSSL writes it, as in signatures; of a certificate
            of an authority, that of its DER form; empty with sigstore.
    """

    name: str
    sha256: str

    def __str__(self) -> str:
        return f"'{self.name}' (sha256 {self.sha256})" if self.sha256 else f"'{self.name}'"


@dataclass(frozen=True)
class Verification:
    """What a version's signature is worth, and why; by default nobody looked.

    Attributes:
        key: the trusted key that signed what was opened; whatever does not verify has none.
        problem: why it does not verify; an empty string if it does, or nobody looked.
    """

    status: SignatureStatus = SignatureStatus.OFF
    key: Key | None = None
    problem: str = ""

    def facts(self) -> dict[str, object]:
        """Return it as JSON values; a signature by a key says nothing of its time."""
        return {
            "status": self.status.value,
            "key": None if self.key is None else {"name": self.key.name, "sha256": self.key.sha256},
            "signed_at": None,
            **({"problem": self.problem} if self.problem else {}),
        }


@dataclass(frozen=True)
class Origin:
    """Where a version's directory comes from, as far as its signature is concerned.

    Attributes:
        read: reads the manifest of a directory for a model of that name; None is as everywhere.
        registered_as: the model's name in a registry, which numbers versions itself.
        own_files: names of the source's own files beside those of the version.
        versions_beside: if it is a model's own directory, the names of those in it that are other
            versions; None in a version's.
    """

    read: Callable[[Path, str], Manifest] | None = None
    registered_as: str | None = None
    own_files: frozenset[str] = frozenset()
    versions_beside: frozenset[str] | None = None


HERE = Origin()
"""A directory that somebody keeps where it is served from."""


class SignatureRefused(IntegrityError):
    """A version's signature does not verify; ``status`` says in which way."""

    def __init__(
        self,
        directory: Path,
        status: SignatureStatus,
        problems: list[Problem],
    ) -> None:
        super().__init__(f"the signature of {directory} does not verify", problems)
        self.status = status
