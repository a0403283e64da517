"""Only an address that a proxy on this machine has seen stands for that of a connection."""

import asyncio

import pytest

from bundleserver.serving.connection.logged.forwarded import with_forwarded_client

HERE = ("127.0.0.1", 4711)


def client_of(said, client=HERE):
    """Return the client that an application is told of."""
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["client"])

    headers = [(b"x-forwarded-for", one.encode("latin-1")) for one in said]
    scope = {"type": "http", "headers": [(b"host", b"x"), *headers], "client": client}
    asyncio.run(with_forwarded_client(app)(scope, None, None))
    return seen[0]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("10.0.0.7", ("10.0.0.7", 0)),
        ("10.0.0.7:51234", ("10.0.0.7", 51234)),
        (" 10.0.0.7\t", ("10.0.0.7", 0)),
        ("2001:db8::7", ("2001:db8::7", 0)),
        ("[2001:DB8::7]:80", ("2001:db8::7", 80)),
        ("[2001:db8::7]", ("2001:db8::7", 0)),
        ("192.0.2.1, 10.0.0.7", ("10.0.0.7", 0)),
        ("forged text, 10.0.0.7", ("10.0.0.7", 0)),
        ("10.0.0.7, 127.0.0.1", ("10.0.0.7", 0)),
        ("10.0.0.7, ::1, 127.0.0.9", ("10.0.0.7", 0)),
    ],
)
def test_an_address_is_taken(said, expected):
    """The last one that is not this machine's: its proxy has seen it."""
    assert expected == client_of([said])
    assert expected == client_of([said], ("::1", 1))
    assert expected == client_of([said], ("::ffff:127.0.0.1", 1))
    assert expected == client_of(["198.51.100.1", said])
    assert ("10.9.9.9", 5) == client_of([said], ("10.9.9.9", 5))


@pytest.mark.parametrize(
    "said",
    [
        *("", " ", ",", "unknown", "_hidden", "localhost", "10.0.0", "10.0.0.7.8", "010.0.0.7"),
        *("10.0.0.7 allowed: unload of model 'x'", "10.0.0.7:", "10.0.0.7:65536", "10.0.0.7:x"),
        *(
            "10.0.0.7:-1",
            "fe80::1%eth0",
            "fe80::1%\x1b[2J",
            "[10.0.0.7]:1",
            "[::1",
            "::g",
            "1" * 99,
        ),
        *(
            "10.0.0.7\r\nforged",
            "10.0.0.7\x00",
            "\uff110.0.0.7".encode().decode("latin-1"),
            "²0.0.0.7",
        ),
        *("10.0.0.7, x", "10.0.0.7, x, 127.0.0.1", "10.0.0.7,", '"10.0.0.7"', "for=10.0.0.7"),
    ],
)
def test_anything_else_is_not_taken(said):
    """Text would stand in a log as if it were an address; the connection's own stays."""
    assert HERE == client_of([said])
    assert HERE == client_of(["10.0.0.7", said])


@pytest.mark.parametrize("said", ["127.0.0.1", "127.0.0.1, ::1", "::ffff:127.0.0.1"])
def test_this_machine_is_no_client_of_its_proxy(said):
    """Who says it may be anybody before the proxy, or the proxy's own check."""
    assert HERE == client_of([said])


def test_without_the_header_or_a_client_nothing_changes():
    """As on a socket without addresses."""
    assert HERE == client_of([])
    assert None is client_of(["10.0.0.7"], None)
