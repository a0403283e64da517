"""Signatures of OpenSSF Model Signing: the one package that imports ``model-signing``.

The library brings half a second of imports, so this is imported where a signature is made or
checked, and nowhere else. It reads and writes the format and does all cryptography.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from model_signing._signing import sign_certificate, sign_ec_key, sign_sigstore_pb
from model_signing._signing import signing as payloads
from OpenSSL import crypto
from pydantic import ValidationError

from bundleserver.bundle.metadata_files import count_values
from bundleserver.bundle.trust.statement import Statement, read_statement
from bundleserver.bundle.trust.verification import Key, SignatureStatus

_MOST_VALUES = 10_000
"""The most values of a signature's document; its payload is one string."""

_LONGEST = 500

_NOT_FOR_SIGNING = "Signing certificate cannot be used for signing"
"""What the library says of a certificate."""

KINDS = "an EC key of the curve P-256, P-384 or P-521"
"""The keys that signatures have."""


class NotVerified(Exception):
    """A signature does not verify, whatever it is about; the message says why."""

    def __init__(self, status: SignatureStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True)
class TrustedKey:
    """A public key, or the certificates of an authority whose certificates for signing count."""

    key: Key
    is_authority: bool
    content: bytes


class _Content:
    """Bytes in the place of a path that the library would read."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read_bytes(self) -> bytes:
        return self._data

    def read_text(self, encoding: str) -> str:
        return self._data.decode(encoding)


def read_key(name: str, content: bytes) -> TrustedKey:
    """Return the key in a PEM file.

    Raises:
        ValueError: it holds something else, or a key of a kind that signatures do not have.
    """
    if b"PRIVATE KEY-----" in content:
        raise ValueError("holds a private key; expected a public key")
    blocks = content.count(b"-----BEGIN ")
    if b"-----BEGIN CERTIFICATE-----" in content:
        first = x509.load_pem_x509_certificates(content)[0]
        digest = hashlib.sha256(first.public_bytes(serialization.Encoding.DER)).hexdigest()
        return TrustedKey(Key(name, digest), True, content)
    if blocks != 1:
        raise ValueError(f"holds {blocks} PEM blocks; expected one public key")
    public = serialization.load_pem_public_key(content)
    _check_kind(public)
    sign_ec_key.Verifier(_path_of(content))
    return TrustedKey(Key(name, fingerprint(public)), False, content)


def _check_kind(public: object) -> None:
    if not isinstance(public, ec.EllipticCurvePublicKey):
        kind = type(public).__name__.removeprefix("_").removesuffix("PublicKey")
        raise ValueError(f"it is a key of the kind {kind}; expected {KINDS}")
    if not isinstance(public.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1):
        raise ValueError(f"it is an EC key of the curve {public.curve.name}; expected {KINDS}")


def fingerprint(public: Any) -> str:
    """Return the digest by which signatures name a public key: that of its PEM text."""
    encoded: bytes = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(encoded).hexdigest()


def verify(data: bytes, trusted: Sequence[TrustedKey]) -> tuple[Key, Statement]:
    """Return what a signature says, and the trusted key that made it.

    Raises:
        NotVerified: it is damaged, or no trusted key made it.
    """
    signature = _parsed(data)
    material = signature.bundle.verification_material
    is_certified = material.x509_certificate_chain is not None
    named = None if is_certified else _named_key(data, signature)
    found: Exception | None = None
    for candidate in trusted:
        if candidate.is_authority != is_certified or named not in (None, candidate.key.sha256):
            continue
        try:
            return candidate.key, _statement(signature, candidate)
        except InvalidSignature as error:
            found = error
        except crypto.X509StoreContextError:
            continue
        except Exception as error:  # whatever a library raises for odd bytes
            raise NotVerified(SignatureStatus.INVALID, _what_is_wrong(error)) from error
    if found is not None and named is not None:
        what = f"it is damaged, or was edited: the key with sha256 {named} did not make it"
        raise NotVerified(SignatureStatus.INVALID, what) from found
    who = "a certificate of another authority" if is_certified else "a key"
    which = f" (sha256 {named})" if named else ""
    raise NotVerified(SignatureStatus.UNTRUSTED, f"{who}{which} that is not trusted made it")


def _statement(signature: Any, key: TrustedKey) -> Statement:
    if key.is_authority:
        verifier: Any = sign_certificate.Verifier([_path_of(key.content)])
    else:
        verifier = sign_ec_key.Verifier(_path_of(key.content))
        # Older signatures hold the key itself, of which the library would print a warning.
        signature.bundle.verification_material.public_key.hint = key.key.sha256
    signed = verifier.verify(signature)
    return statement_of(signed)


def claimed(data: bytes) -> Statement:
    """Return what a signature says, by whomever it is: no key is asked, so nothing is proved.

    Raises:
        NotVerified: it is damaged.
    """
    try:
        return statement_of(_Unproved().verify(_read(data)))
    except Exception as error:  # whatever a library raises for odd bytes
        raise NotVerified(SignatureStatus.INVALID, _what_is_wrong(error)) from error


class _Unproved(payloads.Verifier):
    """Reads what is in an envelope."""

    def _verify_signed_content(self, signature: Any) -> tuple[str, bytes]:
        envelope = signature.bundle.dsse_envelope
        return envelope.payload_type, envelope.payload


def statement_of(signed: Any) -> Statement:
    """Return what the library found to be signed.

    Raises:
        ValueError: it is not a valid statement about a directory.
    """
    described = (
        (item.identifier, item.digest.algorithm, item.digest.digest_value)
        for item in signed.resource_descriptors()
    )
    return read_statement(signed.model_name, signed.serialization_type, described)


def _path_of(content: bytes) -> Path:
    return cast(Path, _Content(content))


def _parsed(data: bytes) -> Any:
    try:
        signature = _read(data)
        material = signature.bundle.verification_material
        if material.public_key is None and material.x509_certificate_chain is None:
            raise ValueError("it is made by neither a key nor a certificate of an authority")
    except Exception as error:  # whatever a library raises for odd bytes
        raise NotVerified(SignatureStatus.INVALID, _what_is_wrong(error)) from error
    return signature


def _read(data: bytes) -> Any:
    count_values(data, _MOST_VALUES)
    signature = sign_sigstore_pb.Signature.read(_path_of(data))
    envelope = signature.bundle.dsse_envelope
    if envelope is None or not envelope.signatures:
        raise ValueError("it has no signed envelope")
    return signature


def _what_is_wrong(error: Exception) -> str:
    """Say what is wrong with a signature, without the words of libraries for their callers."""
    if str(error) == _NOT_FOR_SIGNING:
        return (
            "the certificate that made it is none for signing: it has neither the key usage "
            "'digital signature' nor the extended one 'code signing'; sign with one that has"
        )
    if isinstance(error, UnicodeDecodeError | json.JSONDecodeError):
        what = f"it is not JSON: {error}"
    elif isinstance(error, ValidationError):
        what = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}"
            for one in error.errors(include_url=False, include_context=False, include_input=False)
        )
    elif isinstance(error, KeyError):
        what = f"there is no {error}"
    elif isinstance(error, ValueError):
        what = str(error)
    else:
        what = "it is no signature of OpenSSF Model Signing"
    return f"it is damaged: {what}"[:_LONGEST]


def _named_key(data: bytes, signature: Any) -> str | None:
    """Return the digest of the key that a signature says it was made by."""
    hint = signature.bundle.verification_material.public_key.hint
    if hint:
        return str(hint)
    raw = json.loads(data)["verificationMaterial"]["publicKey"].get("rawBytes")
    try:
        return fingerprint(serialization.load_pem_public_key(base64.b64decode(raw)))
    except (ValueError, TypeError):
        return None


def verify_keyless(data: bytes, identity: str, issuer: str) -> tuple[Key, Statement]:
    """Return what a signature that sigstore vouches for says, and who made it.

    Raises:
        NotVerified: it is damaged, somebody else made it, or sigstore cannot be reached.
    """
    from model_signing._signing import sign_sigstore

    try:
        count_values(data, _MOST_VALUES)
        signature = sign_sigstore.Signature.read(_path_of(data))
        verifier = sign_sigstore.Verifier(identity=identity, oidc_issuer=issuer)
        return Key(identity, ""), statement_of(verifier.verify(signature))
    except Exception as error:  # whatever a library raises for odd bytes, or without a network
        what = f"{type(error).__name__}: {error}"
        raise NotVerified(SignatureStatus.INVALID, what[:_LONGEST]) from error
