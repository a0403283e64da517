"""Who sent a request that a proxy on the same machine passed on, for logs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import cast

from bundleserver.serving.rest.asgi import AsgiApp, Message, Receive, Send

_HEADER = b"x-forwarded-for"
_FORM = re.compile(
    r"(?P<v4>[0-9.]{7,15})(:(?P<p4>[0-9]{1,5}))?|\[(?P<v6>[0-9A-Fa-f:.]{2,45})\]"
    r"(:(?P<p6>[0-9]{1,5}))?|(?P<bare>[0-9A-Fa-f:.]{2,45})"
)
_MOST_PORT = 65535


def with_forwarded_client(app: AsgiApp) -> AsgiApp:
    """Give an application the address that a proxy on this machine has seen, if it says one.

    What is no address of a host, whoever wrote it, is not taken: it would be text in a log.
    """

    async def forwarded(scope: Message, receive: Receive, send: Send) -> None:
        found = _forwarded(scope) if scope["type"] == "http" else None
        if found is not None:
            scope["client"] = found
        await app(scope, receive, send)

    return forwarded


def _forwarded(scope: Message) -> tuple[str, int] | None:
    client = cast("tuple[str, int] | None", scope.get("client"))
    at = None if client is None else address_of(client[0])
    if at is None or not _is_here(at[0]):
        return None
    pairs = cast("Iterable[tuple[bytes, bytes]]", scope["headers"])
    said = b",".join(value for name, value in pairs if name == _HEADER).decode("latin-1")
    # Each proxy adds to the end what it has seen; what is before that its client may have written.
    for one in reversed(said.split(",")):
        at = address_of(one.strip(" \t"))
        if at is None:
            return None
        if not _is_here(at[0]):
            return str(at[0]), at[1]
    return None


def address_of(text: str) -> tuple[IPv4Address | IPv6Address, int] | None:
    """Parse an address with or without a port, which is 0 then; None if it is neither."""
    parts = _FORM.fullmatch(text)
    if parts is None:
        return None
    port = int(parts["p4"] or parts["p6"] or 0)
    try:
        address = ip_address(parts["v4"] or parts["v6"] or parts["bare"])
    except ValueError:
        return None
    is_bracketed_v4 = parts["v6"] is not None and address.version != 6
    return None if port > _MOST_PORT or is_bracketed_v4 else (address, port)


def _is_here(address: IPv4Address | IPv6Address) -> bool:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
