"""``publish``, ``promote``, ``rollback``, ``split``: write versions, and route requests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from bundleserver.commands.console import AllowBreakingFlag, JsonFlag, say, say_json, working
from bundleserver.errors import StoreError
from bundleserver.store import BundleStore
from bundleserver.versions.serving_config import ServingConfig

Model = Annotated[
    str, typer.Argument(metavar="STORE/NAME", help="The directory with the model's versions.")
]


def publish(
    bundle_dir: Annotated[str, typer.Argument(metavar="BUNDLE_DIR", help="A bundle's directory.")],
    model: Model,
    version: Annotated[
        str | None,
        typer.Option(
            "--version", help="The version's label; default: the manifest's, else the next one."
        ),
    ] = None,
    sign_with: Annotated[
        Path | None,
        typer.Option(
            "--sign_with",
            metavar="KEY",
            help="A private key (PEM) to sign the version with; without, a signature is kept.",
        ),
    ] = None,
    allow_breaking: AllowBreakingFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Copy a bundle into a store as a new version, once it opens and its examples pass.

    Example: bundleserver publish ./fraud /mnt/models/fraud --version v3
    """
    store, name = _store_and_name(model)
    with working(f"publishing {bundle_dir}"):
        published = store.publish(
            bundle_dir, name, version, sign_with=sign_with, allow_breaking=allow_breaking
        )
    path = store.path(name, published)
    if as_json:
        say_json({"model": name, "version": published.label, "path": str(path)})
    else:
        say(f"published '{name}' version {published} to {path}")


def promote(
    model: Model,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="A version, or a label.")],
    label: Annotated[
        str | None, typer.Option("--label", help="The label to move; default: the default version.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Move a label, or the default, to a version.

    VERSION latest unpins the default: the version policy selects it again.
    Moving the default ends a traffic split and a canary's rollout, and its version is no longer a
    shadow.

    Example: bundleserver promote /mnt/models/fraud v3 --label stable
    """
    store, name = _store_and_name(model)
    _say_config(name, store.promote(name, version, label), as_json)


def rollback(
    model: Model,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="The version to roll back to; default: the one before the serving version, among "
            "those that the policy in serving.json selects.",
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Pin the default to an earlier version; a server follows at its next poll.

    Example: bundleserver rollback /mnt/models/fraud --to v2
    """
    store, name = _store_and_name(model)
    _say_config(name, store.rollback(name, to), as_json)


def split(
    model: Model,
    shares: Annotated[
        list[str] | None,
        typer.Argument(metavar="LABEL=WEIGHT...", help="Labels or versions, with their weights."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Split the requests that name no version over labels or versions; no weights end a split.

    Example: bundleserver split /mnt/models/fraud stable=90 canary=10
    """
    store, name = _store_and_name(model)
    _say_config(name, store.split(name, _shares(shares or ())), as_json)


def _store_and_name(model: str) -> tuple[BundleStore, str]:
    path = Path(model).expanduser().absolute()
    return BundleStore(path.parent), path.name


def _shares(texts: Sequence[str]) -> dict[str, float]:
    shares: dict[str, float] = {}
    for name, share in map(_share, texts):
        if name in shares:
            raise StoreError(f"'{name}' has two weights; expected one")
        shares[name] = share
    return shares


def _share(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        share = float(number)
    except ValueError:
        raise StoreError(
            f"'{text}' is not a valid weight; expected LABEL=WEIGHT, as in stable=90"
        ) from None
    return name, int(share) if share.is_integer() else share


def _say_config(name: str, config: ServingConfig, as_json: bool) -> None:
    if as_json:
        say_json(
            {
                "model": name,
                "default": config.default,
                "labels": dict(config.labels),
                "traffic": dict(config.traffic),
            }
        )
        return
    parts = [] if config.default else ["default: selected by the version policy"]
    say(f"'{name}': {', '.join([*parts, *config.phrases()])}")
