"""The routing key of a request, which keeps a caller's requests with one version."""

from __future__ import annotations

from bundleserver.errors import InvalidInput

ROUTING_HEADER = "X-Routing-Key"
MAX_KEY_CHARACTERS = 1024


def routing_key(key: str | None, header: str) -> str | None:
    """Return the routing key of a request; None if it is missing or empty.

    Args:
        key: the header's value, if any.
        header: the name of the HTTP header or gRPC metadata key.

    Raises:
        InvalidInput: the key is too long.
    """
    if key is not None and len(key) > MAX_KEY_CHARACTERS:
        raise InvalidInput(
            f"the routing key '{header}' has {len(key)} characters; expected at most "
            f"{MAX_KEY_CHARACTERS}"
        )
    return key or None
