"""The operator's trust, as the flags say it."""

from __future__ import annotations

import logging

from bundleserver.bundle.trust import SignaturePolicy, Trust
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy, read_names
from bundleserver.settings import Settings

LOG = logging.getLogger(__name__)

_MEANINGS = {
    PicklePolicy.ANY: "every pickle is opened, and opening one runs the code that it names",
    PicklePolicy.LISTED: "a pickle is opened if it names nothing but what the lists allow",
    PicklePolicy.DENY: "no pickle is opened",
}


def trust_of(settings: Settings) -> Trust:
    """Return the trust in versions that settings ask for.

    Raises:
        ConfigError: the file of --pickle_allow cannot be read, or has what is no name.
    """
    otherwise = SignaturePolicy.OFF if settings.trusted_keys is None else SignaturePolicy.ENFORCE
    return Trust(
        code=CodeTrust(
            settings.pickle_policy,
            frozenset() if settings.pickle_allow is None else read_names(settings.pickle_allow),
            bundle_code=settings.bundle_code == "allow",
        ),
        require_manifest=settings.require_manifest,
        signatures=settings.signatures or otherwise,
        trusted_keys=settings.trusted_keys,
    )


def log_trust(trust: Trust) -> None:
    """Say which policy holds for pickles."""
    code = trust.code
    own = f"; {len(code.allowed)} names of --pickle_allow" if code.allowed else ""
    LOG.info("pickle policy '%s': %s%s", code.pickles.value, _MEANINGS[code.pickles], own)
