"""addresses_of: what ``--host`` means, and what it refuses."""

import socket

import pytest

from bundleserver.errors import ConfigError
from bundleserver.serving.addresses import EVERY, EVERY_IPV4, Address, addresses_of

LOOPBACK = Address(socket.AF_INET, "127.0.0.1")


def test_without_a_host_it_is_every_address():
    """As before there was such a flag."""
    assert (EVERY,) == addresses_of(None, EVERY)
    assert (EVERY_IPV4,) == addresses_of(None, EVERY_IPV4)


@pytest.mark.parametrize("otherwise", [EVERY, EVERY_IPV4])
def test_an_address_is_itself(otherwise):
    """An address is taken as it is, for REST and gRPC alike."""
    assert (LOOPBACK,) == addresses_of("127.0.0.1", otherwise)
    assert (EVERY_IPV4,) == addresses_of("0.0.0.0", otherwise)
    assert LOOPBACK in addresses_of("localhost", otherwise)
    assert "127.0.0.1:80" == LOOPBACK.at(80)
    assert "[::1]:80" == Address(socket.AF_INET6, "::1").at(80)


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("no-such-host.invalid", "has no address"),
        ("192.0.2.77", "cannot listen there"),
        ("[::1]", "without brackets"),
        ("127.0.0.1:8080", "has no address"),
        ("http://127.0.0.1", "has no address"),
        ("a..b", "has no address"),
        ("x" * 80, "has no address"),
        (" ", "has no address"),
        ("", "has no address"),
        ("0", "write 0.0.0.0 or ::"),
        ("127.1", "abbreviated address"),
        ("0x7f000001", "abbreviated address"),
        ("2130706433", "abbreviated address"),
        ("0177.0.0.1", "abbreviated address"),
        ("0.0.0.0 ", "abbreviated address"),
        ("255.255.255.255", "broadcast"),
        ("127.255.255.255", "broadcast"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.250", "multicast"),
        ("ff02::1", "multicast"),
        ("ff05::2", "multicast"),
    ],
)
def test_what_is_no_address_of_this_machine_is_refused(host, said):
    """Nothing else is listened on instead: the server does not start, and says why."""
    with pytest.raises(ConfigError) as caught:
        addresses_of(host, EVERY)

    assert said in str(caught.value)
    assert "serve: --host: is '" in str(caught.value)
    assert "such as 127.0.0.1" in str(caught.value)


def test_a_zone_is_kept_and_a_missing_one_is_told():
    """A link-local address means one interface, which is part of the address."""
    number = socket.if_nametoindex("lo")

    (found,) = addresses_of(f"::1%{number}", EVERY)
    assert f"::1%{number}" == found.host
    assert f"[::1%{number}]:80" == found.at(80)
    assert ("::1", 80, 0, number) == found.socket_at(80)
    assert ("127.0.0.1", 80) == LOOPBACK.socket_at(80)
    with pytest.raises(ConfigError, match="--host: is 'fe80::1%lo'; this machine cannot listen"):
        addresses_of("fe80::1%lo", EVERY)
    with pytest.raises(ConfigError, match=r"--host: is 'fe80::1'.*needs its interface"):
        addresses_of("fe80::1", EVERY)
