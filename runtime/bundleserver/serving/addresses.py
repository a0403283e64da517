"""The addresses that a server listens on."""

from __future__ import annotations

import errno
import ipaddress
import socket
from contextlib import suppress
from typing import NamedTuple

from bundleserver.errors import ConfigError, Problem


class Address(NamedTuple):
    """One address of this machine, or every one of its family."""

    family: int
    host: str

    def at(self, port: int) -> str:
        """Write it with a port, as in a URL."""
        return f"{bracketed(self.host)}:{port}"

    def socket_at(self, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
        """Write it with a port as sockets take it; in a text they pass over a zone."""
        host, _, zone = self.host.partition("%")
        return (host, port, 0, int(zone)) if zone else (host, port)


EVERY_IPV4 = Address(socket.AF_INET, "0.0.0.0")  # noqa: S104  # probes and sidecars: as kserve
EVERY = Address(socket.AF_INET6, "::")
"""Of both families, as gRPC listens."""


def bracketed(host: str) -> str:
    """Write a host as in a URL."""
    return f"[{host}]" if ":" in host else host


def addresses_of(host: str | None, otherwise: Address) -> tuple[Address, ...]:
    """Return the addresses of ``--host``: of a name all that this machine has; None: ``otherwise``.

    Raises:
        ConfigError: the name is unknown, or none of its addresses is this machine's; or it is an
            address in another form, such as ``0``, which would be every address.
    """
    if host is None:
        return (otherwise,)
    if _is_abbreviated(host):
        raise _unusable(f"is '{host}', a number or an abbreviated address{_EVERY}")
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    # A name that cannot be one, such as one with an empty label, is no OSError.
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _unusable(f"is '{host}', which has no address: {reason}{_hint(host)}") from error
    known = dict.fromkeys(Address(family, _host(at)) for family, _, _, _, at in found)
    problems = {address: _problem(address) for address in known}
    usable = tuple(address for address, problem in problems.items() if problem is None)
    if not usable:
        listed = "; ".join(f"{one.host}: {problem}" for one, problem in problems.items())
        raise _unusable(f"is '{host}'; this machine cannot listen there: {listed}")
    return usable


def reusable_socket(address: Address) -> socket.socket:
    """Make a TCP socket for an address; ``::`` is for IPv4 too, whatever the system's default."""
    # asyncio sets TCP_NODELAY only where the protocol is named; without it answers wait 40 ms.
    made = socket.socket(address.family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if address == EVERY:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    return made


def _host(at: tuple[object, ...]) -> str:
    """Return the host of a socket's address, of IPv6 with its zone: an interface's number."""
    zone = at[3] if len(at) > 3 else 0
    return f"{str(at[0]).partition('%')[0]}%{zone}" if zone else str(at[0])


def _is_abbreviated(host: str) -> bool:
    """Ask whether the system would complete a number, or read an octal one, to an address."""
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return False
    with suppress(OSError):
        socket.inet_aton(host)
        return True
    return False


def _problem(address: Address) -> str | None:
    """Return why nobody can listen on an address, whatever the port; None if somebody can."""
    # The system binds a TCP socket to these, and no connection ever comes.
    if ipaddress.ip_address(address.host.partition("%")[0]).is_multicast:
        return "a multicast address is not one of a machine"
    if ipaddress.ip_address(address.host).is_link_local and _has_no_zone(address):
        return "a link-local address needs its interface, as in fe80::1%eth0"
    if _is_broadcast(address):
        return "a broadcast address is not one of a machine"
    try:
        with reusable_socket(address) as probe:
            probe.bind(address.socket_at(0))
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL):
            return error.strerror or str(error)
    return None


def _has_no_zone(address: Address) -> bool:
    return address.family == socket.AF_INET6 and "%" not in address.host


def _is_broadcast(address: Address) -> bool:
    """Ask the system, which knows the broadcast addresses of its networks; nothing is sent."""
    with socket.socket(address.family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(address.socket_at(9))
        except PermissionError:
            return address.family == socket.AF_INET
        except OSError:
            return False
    return False


def _hint(host: str) -> str:
    is_bracketed = host.startswith("[") and host.endswith("]")
    return "; write an IPv6 address without brackets" if is_bracketed else ""


_EVERY = "; for every address write 0.0.0.0 or ::, or leave the flag out"


def _unusable(what: str) -> ConfigError:
    expected = "expected an address of this machine, such as 127.0.0.1 or ::1, or its name"
    return ConfigError("serve", [Problem("--host", f"{what}; {expected}")])
