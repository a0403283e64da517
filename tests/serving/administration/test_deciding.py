"""Administration: who may change what is served, as the flags say it, and what is told of it."""

import asyncio
import logging

import pytest
from prometheus_client import CollectorRegistry

from bundleserver.errors import Forbidden, Unauthenticated
from bundleserver.serving.administration import Administration, AdminMetrics, Asked
from bundleserver.serving.administration.records import AdminLog

TOKEN = "a-long-token-of-ours"  # noqa: S105  # of these tests
RIGHT = (b"authorization", b"Bearer " + TOKEN.encode())
JSON = (b"content-type", b"application/json")


@pytest.fixture
def token_file(tmp_path):
    """Write a token to a file."""
    path = tmp_path / "token"
    path.write_text(TOKEN)
    return path


def decide(administration, *headers, protocol="rest"):
    """Ask for an unload; return the kind of the refusal and what it says."""
    asked = Asked(protocol, "10.0.0.7:51234", headers)
    try:
        asyncio.run(administration.admit_change("unload", "fraud", "7", asked))
    except (Forbidden, Unauthenticated) as error:
        return type(error), str(error)
    return None, ""


@pytest.mark.parametrize("headers", [(), (JSON,), (RIGHT,), (RIGHT, JSON)])
def test_without_a_flag_nobody_may(headers):
    """No header opens what is closed; the sentence says how it is opened."""
    kind, said = decide(Administration(), *headers)

    assert Forbidden is kind
    assert "--admin_token_file FILE" in said
    assert "--admin=open" in said


@pytest.mark.parametrize("admin", ["", "OPEN", "Open", "true", "closed", None])
def test_only_the_word_open_opens(admin):
    """A value that is not known closes."""
    assert Forbidden is decide(Administration(admin))[0]


def test_a_request_that_shows_nothing_is_refused(token_file):
    """Where nobody kept the headers the request is refused, however open the server is."""
    for administration in (Administration("open"), Administration("open", token_file)):
        asked = Asked("rest", "somewhere", None)
        with pytest.raises(Forbidden):
            asyncio.run(administration.admit_change("load", "fraud", None, asked))


OWN = [
    (),
    (JSON,),
    ((b"content-type", b"application/json; charset=utf-8"),),
    ((b"content-type", b"Application/JSON"),),
    ((b"sec-fetch-site", b"same-origin"), JSON),
    ((b"sec-fetch-site", b"none"),),
    ((b"authorization", b"Bearer whatever"),),
    ((b"user-agent", b"curl/8"), (b"referer", b"http://elsewhere/")),
]
FOREIGN = [
    ((b"origin", b"http://evil.example"),),
    ((b"origin", b"null"), JSON),
    ((b"origin", b""), JSON),
    ((b"origin", b"http://127.0.0.1:8080"), JSON),
    ((b"sec-fetch-site", b"cross-site"), JSON),
    ((b"sec-fetch-site", b"same-site"), JSON),
    ((b"sec-fetch-site", b"SAME-SITE"),),
    ((b"sec-fetch-site", b"new-word"),),
    ((b"sec-fetch-site", b""),),
    ((b"sec-fetch-site", b"none"), (b"sec-fetch-site", b"cross-site")),
    ((b"sec-fetch-site", b"none, cross-site"),),
    ((b"content-type", b"text/plain"),),
    ((b"content-type", b"text/plain; application/json"),),
    ((b"content-type", b"text/plain;charset=UTF-8"),),
    ((b"content-type", b"application/x-www-form-urlencoded"),),
    ((b"content-type", b"multipart/form-data; boundary=x"),),
    ((b"content-type", b"application/jsonx"),),
    ((b"content-type", b"application/json, text/plain"),),
    ((b"content-type", b"application/json"), (b"content-type", b"text/plain")),
    ((b"content-type", b"application/json"), (b"content-type", b"application/json")),
    ((b"content-type", b""),),
    ((b"content-type", b";application/json"),),
    ((b"content-type", b"\xff"),),
]


@pytest.mark.parametrize("headers", OWN)
def test_open_to_all_is_open_to_programs(headers):
    """curl, tritonclient and KServe's clients change what is served."""
    assert (None, "") == decide(Administration("open"), *headers)


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_open_to_all_is_closed_to_other_sites(headers, protocol):
    """What a browser may send for a page of another site is refused, and the reason is told."""
    kind, said = decide(Administration("open"), *headers, protocol=protocol)

    assert Forbidden is kind
    assert "a page of another site may have asked a browser for it" in said


ADMITTED = [
    (RIGHT,),
    ((b"authorization", b"bearer " + TOKEN.encode()),),
    ((b"authorization", b"BEARER   " + TOKEN.encode() + b" "),),
    # No page can add the token, so a request that has it is not another site's.
    (RIGHT, (b"origin", b"http://console.example"), (b"content-type", b"text/plain")),
]
REFUSED = [
    (),
    ((b"authorization", b""),),
    ((b"authorization", b"Bearer"),),
    ((b"authorization", b"Bearer "),),
    ((b"authorization", TOKEN.encode()),),
    ((b"authorization", b"Basic " + TOKEN.encode()),),
    ((b"authorization", b"Bearer:" + TOKEN.encode()),),
    ((b"authorization", b"Bearer " + TOKEN.encode() + b"x"),),
    ((b"authorization", b"Bearer " + TOKEN.encode() + b", Bearer " + TOKEN.encode()),),
    ((b"authorization", b"Bearer " + TOKEN.encode()[:-1]),),
    ((b"authorization", b"Bearer \xff\xfe"),),
    ((b"authorization", b"Bearer wrong"), RIGHT),
    (RIGHT, RIGHT),
    ((b"x-authorization", b"Bearer " + TOKEN.encode()),),
    ((b"cookie", b"authorization=" + TOKEN.encode()),),
]


@pytest.mark.parametrize("admin", ["closed", "open"])
@pytest.mark.parametrize("headers", ADMITTED)
def test_the_token_admits(token_file, admin, headers):
    """Whoever shows the token may, from wherever; the scheme has no case."""
    assert (None, "") == decide(Administration(admin, token_file), *headers)


@pytest.mark.parametrize("admin", ["closed", "open"])
@pytest.mark.parametrize("headers", REFUSED)
def test_with_a_token_it_alone_decides(token_file, admin, headers):
    """Nobody else may, even where ``--admin=open`` is said too, and no error has a token."""
    kind, said = decide(Administration(admin, token_file), *headers)

    assert Unauthenticated is kind
    assert "requires the administrator's token" in said
    assert TOKEN[:-1] not in said


@pytest.mark.parametrize("admin", ["closed", "open"])
def test_a_token_file_that_vanishes_closes(token_file, admin):
    """Without its file the server is closed, with the token and without, and never open."""
    administration = Administration(admin, token_file)
    token_file.unlink()

    for headers in ((), (RIGHT,), ((b"authorization", b"Bearer "),)):
        kind, said = decide(administration, *headers)
        assert Forbidden is kind
        assert "has no token now" in said


def index(administration, *headers):
    """Ask for the index; return the kind of the refusal."""
    try:
        asyncio.run(administration.admit_index(Asked("rest", "10.0.0.7:51234", headers)))
    except (Forbidden, Unauthenticated) as error:
        return type(error)
    return None


def test_the_index_is_open_unless_it_is_said(token_file):
    """``--repository_index=admin`` shows it to those alone who may change it."""
    assert [None] * 3 == [
        index(Administration(*flags)) for flags in ((), ("open",), ("closed", token_file))
    ]
    assert Forbidden is index(Administration("closed", None, "admin"))
    assert index(Administration("open", None, "admin")) is None
    assert Forbidden is index(Administration("open", None, "admin"), FOREIGN[0][0])
    assert Unauthenticated is index(Administration("closed", token_file, "admin"))
    assert index(Administration("closed", token_file, "admin"), RIGHT) is None
    assert Forbidden is index(Administration("closed", None, "everybody"))


def test_each_change_is_counted_by_its_result(token_file):
    """The counter has what was asked, over which protocol, and how it went; no names."""
    registry = CollectorRegistry()
    administration = Administration("closed", token_file, "admin", AdminMetrics(registry))
    decide(administration, RIGHT)
    decide(administration, protocol="grpc")
    index(administration)
    index(administration, RIGHT)
    token_file.unlink()
    decide(administration, RIGHT)

    def count(*labels):
        names = ("request", "protocol", "result")
        return registry.get_sample_value(
            "bundleserver_admin_requests_total", dict(zip(names, labels, strict=True))
        )

    assert 1 == count("unload", "rest", "allowed")
    assert 1 == count("unload", "grpc", "unauthenticated")
    assert 1 == count("index", "rest", "unauthenticated")
    assert 1 == count("index", "rest", "allowed")
    assert 1 == count("unload", "rest", "closed")
    assert 0 == count("load", "rest", "cross_site")


def test_each_change_is_a_line(caplog):
    """It says from where, over what, whether it was allowed, and of which version."""
    caplog.set_level(logging.INFO)
    decide(Administration("open"))
    decide(Administration("closed"))

    lines = [line for line in caplog.messages if "administration request" in line]
    assert [
        "administration request from 10.0.0.7:51234 over rest: allowed: unload of model 'fraud' "
        "version '7'",
        "administration request from 10.0.0.7:51234 over rest: refused (closed): unload of model "
        "'fraud' version '7'",
    ] == lines


def test_names_forge_no_line(caplog):
    """What a request has for a name is escaped and bounded, and comes last in its line."""
    name = "x\nfraud 7: ready in 2 s\x1b[2J\u202e" + "y" * 100_000
    asked = Asked("rest", "10.0.0.7:1\n", ())
    with pytest.raises(Forbidden) as caught:
        asyncio.run(Administration().admit_change("load", name, name, asked))

    assert 1 == len(caplog.messages)
    assert caplog.messages[0].isprintable()
    assert len(caplog.messages[0]) < 600
    assert "fraud" not in str(caught.value)


def test_refusals_are_logged_up_to_a_rate(caplog):
    """A flood of them is ten lines, and one each six seconds that says how many there were."""
    caplog.set_level(logging.INFO)
    now = [100.0]
    log, asked = AdminLog(lambda: now[0]), Asked("grpc", "ipv4:10.0.0.7:1", ())
    for _ in range(1000):
        log.note("load of model 'a'", asked, "closed")
    flood = len(caplog.messages)
    log.note("load of model 'a'", asked, "allowed")
    now[0] += 6.5
    for _ in range(5):
        log.note("load of model 'a'", asked, "closed")

    assert (10, 12) == (flood, len(caplog.messages))
    assert "allowed" in caplog.messages[10]
    assert "990 more refused since the last line" in caplog.messages[11]


def test_both_ways_to_open_are_told(token_file, caplog):
    """Whoever says ``--admin=open`` reads what that means, and that a token goes before it."""
    Administration("open")
    Administration("open", token_file)

    assert "whoever reaches this server may load and unload" in caplog.messages[0]
    assert "--admin=open has no effect" in caplog.messages[1]


def test_refusals_of_the_index_leave_the_lines_of_refused_changes(token_file, caplog):
    """Whoever may ask for the index any number of times keeps nothing else out of the log."""
    administration = Administration(token_file=token_file, repository_index="admin")
    assert {Unauthenticated} == {index(administration) for _ in range(50)}
    assert Unauthenticated is decide(administration)[0]

    assert "refused (unauthenticated): unload of model" in caplog.text
