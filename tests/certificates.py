"""An authority, and a certificate that it issued."""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from model_signing import hashing, signing

from bundleserver.bundle.trust.verification import SIGNATURE_NAME


def write_authority(place: Path, name: str, *, may_sign: bool = True) -> Path:
    """Write ``authority.crt``, ``leaf.crt`` and ``leaf.pem`` into a directory, and return it."""
    directory = place / f"authority-{name}"
    directory.mkdir()
    root_key, leaf_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = _issue(name, root_key.public_key(), name, root_key, is_authority=True, may_sign=True)
    leaf = _issue(
        f"{name} leaf", leaf_key.public_key(), name, root_key, is_authority=False, may_sign=may_sign
    )
    (directory / "authority.crt").write_bytes(root.public_bytes(serialization.Encoding.PEM))
    (directory / "leaf.crt").write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    (directory / "leaf.pem").write_bytes(
        leaf_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return directory


def sign_as_leaf(directory: Path, authority: Path) -> None:
    """Let the format's own library sign a directory with the certificate of an authority."""
    signer = signing.Config().use_certificate_signer(
        private_key=authority / "leaf.pem",
        signing_certificate=authority / "leaf.crt",
        certificate_chain=[authority / "authority.crt"],
    )
    signer.set_hashing_config(hashing.Config().set_ignored_paths(paths=[SIGNATURE_NAME]))
    made = authority / SIGNATURE_NAME
    signer.sign(directory, made)
    shutil.copy(made, directory / SIGNATURE_NAME)


def _issue(
    subject: str,
    key: ec.EllipticCurvePublicKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    is_authority: bool,
    may_sign: bool,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.timezone.utc)
    usage = dict.fromkeys(
        (
            "content_commitment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=may_sign and not is_authority,
                key_encipherment=not is_authority,
                key_cert_sign=is_authority,
                crl_sign=is_authority,
                **usage,
            ),
            critical=True,
        )
        .sign(issuer_key, hashes.SHA256())
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
