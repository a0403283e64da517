"""``sign``, ``verify``: signatures of versions, as OpenSSF Model Signing writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from bundleserver.bundle.trust import SignaturePolicy, Trust
from bundleserver.bundle.trust.checking import check, check_keyless
from bundleserver.bundle.trust.keys import check_keys
from bundleserver.bundle.trust.naming import Served
from bundleserver.bundle.trust.signing import SigningKey, shown_path, sign_keyless
from bundleserver.bundle.trust.verification import (
    HERE,
    SIGNATURE_NAME,
    UNCHECKED,
    SignatureRefused,
    Verification,
)
from bundleserver.commands.console import JsonFlag, say, say_json, working
from bundleserver.errors import BundleServerError, StoreError
from bundleserver.manifest import MODEL_NAME_IS, is_model_name
from bundleserver.store.staging import replace_file
from bundleserver.versions import is_version_label

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="A version's directory.")]


def sign(
    directory: Directory,
    private_key: Annotated[
        Path | None,
        typer.Option("--private_key", metavar="KEY", help="A PEM file with an EC private key."),
    ] = None,
    sigstore: Annotated[
        bool, typer.Option("--sigstore", help="Sign as whom sigstore knows; needs a network.")
    ] = False,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME[/VERSION]",
            help="What it will be served as; default: as its manifest or its path says.",
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Sign every file of a version, and write the signature into it as model.sig.

    Sign last: whatever changes afterwards is refused by a server that checks signatures. The
    passphrase of an encrypted key is in BUNDLESERVER_KEY_PASSPHRASE, or is asked for.

    Example: bundleserver sign /mnt/models/fraud/v3 --private_key release.pem
    """
    if not directory.is_dir():
        raise StoreError(f"{directory} is not a directory; expected a version's")
    if sigstore == (private_key is not None):
        raise typer.BadParameter("expected either --private_key or --sigstore")
    key = None if private_key is None else SigningKey.load(private_key)
    path = directory / SIGNATURE_NAME
    with working(f"signing {directory}"):
        made = sign_keyless(directory, name) if key is None else key.sign(directory, name)
        replace_file(path, made)
    if as_json:
        say_json({"path": str(path), "key": {"sha256": None if key is None else key.sha256}})
    else:
        who = "sigstore" if key is None else f"the key with sha256 {key.sha256}"
        say(f"signed {directory} with {who}")


def verify(
    directory: Directory,
    trusted_keys: Annotated[
        Path | None,
        typer.Option("--trusted_keys", metavar="KEYS", help="A directory of public keys (PEM)."),
    ] = None,
    identity: Annotated[
        str | None,
        typer.Option("--identity", help="Who signed with sigstore; needs a network."),
    ] = None,
    identity_provider: Annotated[
        str | None,
        typer.Option("--identity_provider", metavar="URL", help="Who vouches for --identity."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", help="The model that it must be signed as; default: as DIR says."),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option("--version", help="The version that it must be signed as; as --name."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check the signature of a version, as serve --trusted_keys does; exit code 1 if it fails.

    Nothing of the version is opened. Every file must be signed, and as what it is here: where DIR
    is NAME/VERSION, as /mnt/models/fraud/v3, that model and version, as a server of /mnt/models
    compares them; else what --name and --version say, or nothing.

    Example: bundleserver verify /mnt/models/fraud/v3 --trusted_keys keys
    """
    if not directory.is_dir():
        raise StoreError(f"{directory} is not a directory; expected a version's")
    if (trusted_keys is None) == (identity is None) or bool(identity) != bool(identity_provider):
        raise typer.BadParameter(
            "expected either --trusted_keys, or --identity and --identity_provider"
        )
    directory = shown_path(directory)
    served = _served_as(directory, name, version)
    try:
        with working(f"verifying {directory}"):
            if trusted_keys is not None:
                check_keys(trusted_keys)
                trust = Trust(signatures=SignaturePolicy.ENFORCE, trusted_keys=trusted_keys)
                found = check(directory, served, trust, HERE)
            else:
                found = check_keyless(directory, served, identity or "", identity_provider or "")
            if found.copy is not None:
                found.copy.close()
    except BundleServerError as error:
        if as_json:
            say_json(_document(directory, served, _facts_of(error)))
        raise
    if as_json:
        say_json(_document(directory, served, found.verification.facts()))
    else:
        compared = " ".join(filter(None, (served.model, served.version)))
        what = f"as '{compared}'" if compared else "as whatever it says: no name was compared"
        say(f"verified {directory}: signed by {found.verification.key} {what}")


def _served_as(directory: Path, name: str | None, version: str | None) -> Served:
    """Return what a directory is served as by its path, unless somebody says it."""
    if name is not None and not is_model_name(name):
        raise typer.BadParameter(f"--name expects a model's name: {MODEL_NAME_IS}")
    if version is not None and not is_version_label(version):
        raise typer.BadParameter("--version expects a version, such as v3")
    if is_version_label(directory.name):
        return Served(name or directory.parent.name, version or directory.name)
    return Served(name, version)


def _document(
    directory: Path, served: Served, signature: Mapping[str, object]
) -> dict[str, object]:
    return {
        "path": str(directory),
        "name": served.model,
        "version": served.version,
        "signature": signature,
    }


def _facts_of(error: BundleServerError) -> Mapping[str, object]:
    """Return what is known of a signature that does not verify, or could not be looked at."""
    if isinstance(error, SignatureRefused):
        return Verification(error.status, None, str(error)).facts()
    return {"status": UNCHECKED, "key": None, "signed_at": None, "problem": str(error)}
