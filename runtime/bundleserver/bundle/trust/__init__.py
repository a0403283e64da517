"""What an operator trusts: which directories, signatures and code a version may have."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from bundleserver.frameworks.trust import CodeTrust


class SignaturePolicy(str, Enum):
    """What happens to a version whose signature does not verify."""

    OFF = "off"
    """Nobody looks at signatures."""

    WARN = "warn"
    """It is served, with a warning."""

    ENFORCE = "enforce"
    """It is FAILED before anything of it is opened."""


@dataclass(frozen=True)
class Trust:
    """The operator's trust in versions; the default is anything, as everywhere without flags.

    Attributes:
        code: what files may do while they are opened.
        require_manifest: whether a directory without ``manifest.json`` is refused.
        signatures: what happens where a signature does not verify.
        trusted_keys: the directory of public keys, read anew for each load.
    """

    code: CodeTrust = field(default_factory=CodeTrust)
    require_manifest: bool = False
    signatures: SignaturePolicy = SignaturePolicy.OFF
    trusted_keys: Path | None = None


TRUST_ANY = Trust()
