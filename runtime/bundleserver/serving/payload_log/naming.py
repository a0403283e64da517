"""Which version a logged request belongs to, and what a file says of that version."""

from __future__ import annotations

from bundleserver.errors import BundleServerError
from bundleserver.serving.models import ServingManager
from bundleserver.serving.payload_log.entries import Entry
from bundleserver.serving.payload_log.places import Place
from bundleserver.tensors.signature import Signature


def version_of(entry: Entry, manager: ServingManager) -> str | None:
    """Return the version that answered, or the one that a failed request asked for.

    None if that is no version of the model, or if a split would have chosen it.
    """
    if entry.response is not None:
        return entry.response.version
    model, asked = entry.request.model, entry.request.version
    try:
        status, is_split = manager.status(model), manager.is_split(model)
    except BundleServerError:
        return None
    if asked is None:
        return None if is_split else status.default
    asked = status.labels.get(asked, asked)
    return asked if asked in {found.version for found in status.versions} else None


def said_of(place: Place, manager: ServingManager) -> dict[str, str]:
    """Return the metadata of a file: model, version, and the digest of the version's bundle."""
    said = {"bundleserver.model": place.model, "bundleserver.version": place.version or ""}
    try:
        versions = manager.status(place.model).versions
    except BundleServerError:
        return said
    found = next((one for one in versions if one.version == place.version), None)
    digest = found.metadata.get("digest") if found is not None else None
    return {**said, "bundleserver.digest": str(digest)} if digest else said


def signature_of(place: Place, manager: ServingManager) -> Signature | None:
    """Return the signature of a version as far as it is known."""
    try:
        versions = manager.status(place.model).versions
    except BundleServerError:
        return None
    return next((one.signature for one in versions if one.version == place.version), None)
