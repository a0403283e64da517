"""Profiles: other defaults of ``serve``'s flags; a flag that is given counts before its profile."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from bundleserver.bundle.trust import SignaturePolicy
from bundleserver.frameworks.trust import PicklePolicy

PROFILES: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        "production": MappingProxyType(
            {
                "pickle_policy": PicklePolicy.LISTED,
                "require_manifest": True,
                "bundle_code": "deny",
                "signatures": SignaturePolicy.ENFORCE,
                "admin": "closed",
                "repository_index": "admin",
                "version_mismatch": "refuse",
                "enable_docs_url": False,
                "enable_page": False,
            }
        )
    }
)
"""The defaults of each profile, by setting."""
