"""What a log has of requests: paths, and headers that have no secret; never a parameter."""

import pytest

from bundleserver.serving.connection.logged.hiding import shown_header, shown_path, shown_query

SECRET = "tr0ub4dor"  # noqa: S105  # of these tests

QUERIES = [
    f"access_token={SECRET}",
    f"access%5Ftoken={SECRET}",
    f"ACCESS%5fTOKEN={SECRET}",
    f"access%255Ftoken={SECRET}",
    f"token={SECRET}",
    f"apikey={SECRET}&b=1",
    f"a=1;sig={SECRET}",
    f"q={SECRET}",
    SECRET,
    f"{SECRET}=",
]


@pytest.mark.parametrize("query", QUERIES)
def test_no_query_is_shown(query):
    """However a parameter is named or encoded; no route of the server has one."""
    assert "[hidden]" == shown_query(query)
    for begins in ("?", "#", "&", ";", "%3F", "%3f", "%253F", "%25253f", "%26", "%23"):
        assert SECRET not in shown_path(f"/v2/models/a{begins}{query}")
        assert SECRET not in shown_header("referer", [f"https://h.test/p{begins}{query}"])
        assert SECRET not in shown_header("X-Original-URI", [f"/p{begins}{query}"])
    assert SECRET not in shown_header("user-agent", [f"ua?{query}"])


def test_paths_and_usual_headers_are_as_they_are():
    """Nothing else is changed."""
    for path in ("/", "/v2/models/a%20b/versions/v1/infer", "/v1/models/m:predict", "*", ""):
        assert path == shown_path(path)
    for name, value in {
        "Referer": "http://r.test:80/a/b",
        "User-Agent": "Mozilla/5.0 (X11; Linux x86_64)",
        "Content-Type": "application/json; charset=utf-8",
        "X-Request-Id": "7d0f-11",
        "X-Routing-Key": "customer-7",
    }.items():
        assert value == shown_header(name, [value])
    assert "-" == shown_header("x", [])
    assert "-" == shown_header("authorization", [])
    assert "a, b" == shown_header("x", ["a", "b"])
    assert "" == shown_query("")


@pytest.mark.parametrize(
    "name",
    [
        *("Authorization", "proxy-authorization", "Cookie", "set-cookie", "X-Api-Key", "apikey"),
        *("X-Auth-Request-Access-Token", "X-Amz-Security-Token", "Private-Token", "X_API_KEY"),
        *("X-Forwarded-Client-Cert", "X-Goog-IAP-JWT-Assertion", "X-Vault-Token", "DB_PASSWORD"),
    ],
)
def test_no_header_whose_name_tells_of_a_secret_is_shown(name):
    """By what is in the name, in every spelling."""
    assert "[hidden]" == shown_header(name, [SECRET])


@pytest.mark.parametrize(
    "value",
    [
        f"Bearer {SECRET}",
        f"basic {SECRET}",
        f"a, Bearer {SECRET}",
        f"https://me:{SECRET}@h.test/p",
        f"//{SECRET}@h.test",
        f"/cb?{SECRET}",
        f"x#{SECRET}",
    ],
)
def test_no_value_that_looks_like_a_secret_is_shown(value):
    """Whatever header it is in: a scheme with its credentials, or an address with a user's."""
    assert SECRET not in shown_header("x-other", [value])


def test_a_target_that_is_no_path_is_hidden():
    """It has a host, and may have a name and a password before it."""
    assert SECRET not in shown_path(f"http://me:{SECRET}@h.test/v2")
    assert SECRET not in shown_path(f"http%3A//me%3A{SECRET}%40h.test/v2")
