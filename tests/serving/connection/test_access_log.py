"""The access log in a format of the user's: each atom, and no line that a client wrote."""

from __future__ import annotations

import logging
import os
import re

import pytest
import uvicorn

from bundleserver.commands.flags import read_settings
from bundleserver.errors import ConfigError
from bundleserver.serving.connection.access_log import _ATOMS, format_problem
from bundleserver.serving.options import ServerOptions
from tests.serving.connection.test_bad_clients import wait_until
from tests.serving.connection.test_eager import (
    answer_to,
    connect,
    models,
    read_answers,
    request,
)
from tests.serving.fakes import serving


@pytest.fixture(params=[uvicorn.__version__, "99.0"], ids=["eager", "plain"])
def lines_of(request, monkeypatch, caplog):
    """Serve with each protocol; return the lines of the access log after some requests."""
    monkeypatch.setattr(uvicorn, "__version__", request.param)

    def ask(form, *sent):
        caplog.set_level(logging.INFO, "bundleserver.access")
        with serving(models(), ServerOptions(access_log_format=form)) as server:
            with connect(server) as connection:
                for one in sent:
                    answer_to(connection, one)
            # A line follows its answer.
            wait_until(lambda: len(said()) >= len(sent))
        return said()

    def said():
        return [r.getMessage() for r in caplog.records if r.name == "bundleserver.access"]

    return ask


LIVE = request("GET", "/v2/health/live?a=1%0A", None, "User-Agent: ua", "Referer: http://r/")
BODY = b'{"live":true}'


def test_each_atom_is_what_it_says(lines_of):
    """Requests and answers are described by what was sent."""
    form = "|".join(f"%({atom})s" for atom in _ATOMS)
    form += "|%({user-AGENT}i)s|%({Content-Type}o)s|%({none}i)s|%%"
    (line,) = lines_of(form, LIVE)
    values = dict(zip([*_ATOMS, "ua", "type", "none", "%"], line.split("|"), strict=True))

    seconds = float(values.pop("L"))
    assert 0 <= seconds < 20
    assert int(seconds) == int(values.pop("T"))
    assert int(seconds * 1e6) - 1 <= int(values.pop("D")) <= int(seconds * 1e6) + 1
    assert int(seconds * 1e3) - 1 <= int(values.pop("M")) <= int(seconds * 1e3) + 1
    assert re.fullmatch(r"127\.0\.0\.1:\d+", values["h"])
    assert values.pop("h") == values.pop("client_addr")
    assert re.fullmatch(r"\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]", values.pop("t"))
    assert values == {
        "l": "-",
        "u": "-",
        "r": "GET /v2/health/live HTTP/1.1",
        "R": "GET /v2/health/live?[hidden] HTTP/1.1",
        "request_line": "GET /v2/health/live?[hidden] HTTP/1.1",
        "m": "GET",
        "U": "/v2/health/live",
        "q": "[hidden]",
        "H": "HTTP/1.1",
        "s": "200",
        "st": "OK",
        "status_code": "200 OK",
        "B": str(len(BODY)),
        "b": str(len(BODY)),
        "f": "http://r/",
        "a": "ua",
        "p": f"<{os.getpid()}>",
        "ua": "ua",
        "type": "application/json",
        "none": "-",
        "%": "%",
    }


def test_every_request_is_one_line(lines_of):
    """On every page and with every status, in their order."""
    predict = request("POST", "/v1/models/sums:predict", b'{"instances": [[1, 2]]}')
    fails = request("POST", "/v1/models/fails:predict", b'{"instances": [[1, 2]]}')
    nothing, metrics = request("GET", "/v2/nothing"), request("HEAD", "/metrics")
    lines = lines_of("%(m)s %(s)d %(b)-1s", predict, fails, nothing, LIVE, metrics)

    said = [line.split()[:2] for line in lines]
    assert [
        ["POST", "200"],
        ["POST", "500"],
        ["GET", "404"],
        ["GET", "200"],
        ["HEAD", "200"],
    ] == said
    assert "-" == lines[-1].split()[2]


def test_no_line_has_a_secret(lines_of):
    """Neither of a query, however it is named, nor of a header that often has one."""
    secret = "tr0ub4dor"  # noqa: S105  # of this test
    headers = {
        "Referer": f"https://me:{secret}@h/p?k={secret}",
        "X-Api-Key": secret,
        "Authorization": secret,
        "Cookie": f"a={secret}",
        "X-Other": f"Bearer {secret}",
    }
    form = "%(r)s %(R)s %(U)s %(q)s %(f)s " + " ".join(f"%({{{name}}}i)s" for name in headers)
    lines = [f"{name}: {value}" for name, value in headers.items()]
    asked = [
        request("GET", f"/v2/health/live{begins}{name}={secret}", None, *lines)
        for begins in ("?", "%3F", ";", "?%3F")
        for name in ("access%5Ftoken", "token", "apikey", "x")
    ]
    said = lines_of(form, *asked)

    assert len(asked) == len(said)
    assert not [line for line in said if secret in line]
    assert "GET /v2/health/live HTTP/1.1 GET /v2/health/live?[hidden] HTTP/1.1" in said[0]
    assert "https://[hidden]@h/p[hidden] [hidden]" in said[0]


def test_only_an_address_stands_for_that_of_a_connection(lines_of):
    """A proxy on this machine says it; what else a client writes there is not in the log."""
    forwarded = [
        request("GET", "/v2/health/live", None, f"X-Forwarded-For: {said}")
        for said in ("10.0.0.7:99", "[2001:db8::7]:80", "forged line", "10.0.0.7, forged")
    ]
    said = lines_of("%(h)s", *forwarded)

    assert ["10.0.0.7:99", "2001:db8::7:80"] == said[:2]
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+", line) for line in said[2:])


def test_a_client_writes_no_line_of_its_own(lines_of):
    """Quotes, control characters and line breaks of headers and paths are escaped."""
    odd = b'GET /v2/%0A"\\ HTTP/1.1\r\nHost: x\r\nUser-Agent: a"b\\c\td\x85\xe9\r\n\r\n'
    (line,) = lines_of('"%(U)s" "%(a)s"', odd)

    assert '"/v2/%0A\\"\\\\" "a\\"b\\\\c\\x09d\\x85\\xe9"' == line


def test_a_client_that_is_gone_has_its_line_too(caplog):
    """A request that nobody waits for is logged as closed by its client."""
    caplog.set_level(logging.INFO, "bundleserver.access")
    with serving(models(), ServerOptions(access_log_format="%(s)s %(st)s")) as server:
        with connect(server) as connection:
            connection.sendall(request("POST", "/v1/models/sums:predict", b"[1]")[:-1])
        with connect(server) as connection:
            connection.sendall(LIVE)
            read_answers(connection)
        wait_until(lambda: 2 == len([r for r in caplog.records if r.name.endswith("access")]))

    said = {r.getMessage() for r in caplog.records if r.name == "bundleserver.access"}
    assert {"499 -", "200 OK"} == said


@pytest.mark.parametrize("form", ["%(h)s %(r)s", "no atoms", "100%% %(s)s", "%({a-B}i)s %({a}o)s"])
def test_a_right_format_is_taken(form):
    """Atoms, percent signs and any text may stand in it."""
    assert format_problem(form) is None
    assert form == read_settings(["--access_log_format", form]).access_log_format


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("%(h)s %(x)s %(yy)s", "has unknown atoms: %(x)s, %(yy)s; known: %(h)s "),
        ("%({a}z)s", "has unknown atoms: %({a}z)s"),
        ("%(status)s", "did you mean 'status_code'?"),
        ("%h %s", "has '%h %s'; expected an atom such as %(h)s, or %% for a percent sign"),
        ("50%", "has '%'"),
        ("%(h)", "has '%(h)'"),
        ("%(r)d", "cannot be formatted"),
    ],
)
def test_a_wrong_format_is_refused_at_start(form, told):
    """What cannot be written is told with the flag, before anything starts."""
    with pytest.raises(ConfigError) as refused:
        read_settings(["--access_log_format", form])

    assert "--access_log_format" in str(refused.value)
    assert told in str(refused.value)
