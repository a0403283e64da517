"""Keys, and versions that they sign."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sklearn.tree import DecisionTreeClassifier

from bundleserver.bundle.trust.signing import SigningKey
from bundleserver.bundle.trust.verification import SIGNATURE_NAME
from bundleserver.store import BundleStore

ROWS = np.array([[0.1, 0.2], [0.9, 0.4]])


def write_key(
    place: Path, name: str, curve: ec.EllipticCurve | None = None, passphrase: bytes | None = None
) -> Path:
    """Write a private key, and its public one into ``place/keys``; return the former's path."""
    key = ec.generate_private_key(curve or ec.SECP256R1())
    private = place / f"{name}.pem"
    write_private(private, key, passphrase)
    (place / "keys").mkdir(exist_ok=True)
    write_public(place / "keys" / f"{name}.pub", key)
    return private


def write_private(path: Path, key: Any, passphrase: bytes | None = None) -> None:
    """Write a private key as PEM text."""
    kind: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        kind = serialization.BestAvailableEncryption(passphrase)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, kind)
    )


def write_public(path: Path, key: Any) -> None:
    """Write the public key of a private one as PEM text."""
    path.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def fitted(answer: int) -> DecisionTreeClassifier:
    """Return a model that says ``answer`` to anything."""
    return DecisionTreeClassifier().fit(ROWS, [answer, answer])


def publish(
    root: Path, answer: int = 1, sign_with: Path | None = None, name: str = "fraud", **more: object
) -> Path:
    """Save a version, and return its directory."""
    store = BundleStore(root)
    saved = store.save(name, fitted(answer), examples=ROWS, sign_with=sign_with, **more)
    return store.path(name, saved)


def sign(directory: Path, key: Path, name: str | None = None) -> None:
    """Sign a directory as it is."""
    (directory / SIGNATURE_NAME).write_bytes(SigningKey.load(key).sign(directory, name))
