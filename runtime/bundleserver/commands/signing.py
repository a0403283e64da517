"""``sign``, ``verify``: signatures of versions, as OpenSSF Model Signing writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bundleserver.bundle.trust import SignaturePolicy, Trust
from bundleserver.bundle.trust.checking import Served, check, check_keyless
from bundleserver.bundle.trust.keys import check_keys
from bundleserver.bundle.trust.signing import SigningKey, sign_keyless
from bundleserver.bundle.trust.verification import HERE, SIGNATURE_NAME
from bundleserver.commands.console import JsonFlag, say, say_json, working
from bundleserver.errors import StoreError
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
        str | None, typer.Option("--name", help="The model that it is to be the signature of.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check the signature of a version, as serve --trusted_keys does; exit code 1 if it fails.

    Nothing of the version is opened. In a directory named as a version, it must be that version.

    Example: bundleserver verify /mnt/models/fraud/v3 --trusted_keys keys
    """
    if not directory.is_dir():
        raise StoreError(f"{directory} is not a directory; expected a version's")
    if (trusted_keys is None) == (identity is None) or bool(identity) != bool(identity_provider):
        raise typer.BadParameter(
            "expected either --trusted_keys, or --identity and --identity_provider"
        )
    directory = directory.absolute()
    served = Served(name, directory.name if is_version_label(directory.name) else None)
    with working(f"verifying {directory}"):
        if trusted_keys is not None:
            check_keys(trusted_keys)
            trust = Trust(signatures=SignaturePolicy.ENFORCE, trusted_keys=trusted_keys)
            found = check(directory, served, trust, HERE)
        else:
            found = check_keyless(directory, served, identity or "", identity_provider or "")
        if found.copy is not None:
            found.copy.close()
    key = found.verification.key
    if as_json:
        say_json({"path": str(directory), "signature": found.verification.facts()})
    else:
        say(f"verified {directory}: signed by {key}")
