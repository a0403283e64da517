"""The key that keeps a caller's requests with one version, as it comes with a request."""

from __future__ import annotations

from bundleserver.errors import InvalidInput

ROUTING_HEADER = "X-Routing-Key"
MAX_KEY_CHARACTERS = 1024


def routing_key(key: str | None, header: str) -> str | None:
    """Return the key of a request; None when none came, or an empty one.

    Args:
        key: what came under the header's name, if anything.
        header: the name of the HTTP header or gRPC metadata that keys come in.

    Raises:
        InvalidInput: the key is longer than a key may be.
    """
    if key is not None and len(key) > MAX_KEY_CHARACTERS:
        raise InvalidInput(
            f"the routing key '{header}' has {len(key)} characters; it should have at most "
            f"{MAX_KEY_CHARACTERS}"
        )
    return key or None
