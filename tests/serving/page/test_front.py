"""PageFront: what a browser gets at ``/``, and what a program goes on getting."""

from __future__ import annotations

import subprocess
import sys

import httpx
import pytest

from bundleserver.serving.options import ServerOptions
from bundleserver.serving.page.front import prefers_html
from tests.serving.fakes import FakeManager, FakeModel, serving

CHROMIUM = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;"
    "q=0.8,application/signed-exchange;v=b3;q=0.7"
)
ALIVE = '{"status":"alive"}'


@pytest.fixture(scope="module")
def server():
    """Serve one model, with the page."""
    with serving(FakeManager(FakeModel("sums")), ServerOptions(enable_page=True)) as served:
        yield served


@pytest.mark.parametrize(
    ("accept", "is_preferred"),
    [
        (CHROMIUM, True),
        ("text/html", True),
        ("TEXT/HTML ; charset=utf-8, */*", True),
        ("application/json;q=0.5, text/html", True),
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("application/json, text/html", False),
        ("application/json, text/plain, */*", False),
        ("text/html;q=0.5, application/json", False),
        ("text/html;q=0", False),
        ("text/html;q=much", False),
        ("text/html;q=nan, application/json;q=0.1", False),
        (",;,=", False),
    ],
)
def test_html_is_for_those_who_name_it_and_like_it_more_than_json(accept, is_preferred):
    """A browser names HTML; whatever names none, or JSON as well, is a program."""
    assert is_preferred == prefers_html(accept)


@pytest.mark.parametrize("accept", ["*/*", "application/json", None])
def test_programs_get_json_as_ever(server, accept):
    """Liveness at ``/`` stays what it is."""
    headers = {} if accept is None else {"accept": accept}
    with httpx.Client() as client:
        if accept is None:
            del client.headers["accept"]
        answer = client.get(server.rest, headers=headers)

    assert (200, ALIVE) == (answer.status_code, answer.text)
    assert "vary" not in answer.headers


def test_without_the_flag_there_is_no_page():
    """A browser gets what programs get, and the page's paths are unknown."""
    with serving(FakeManager(FakeModel("sums"))) as served:
        headers = {"accept": CHROMIUM}
        assert ALIVE == httpx.get(served.rest, headers=headers).text
        assert 404 == httpx.get(f"{served.rest}/page/models/sums", headers=headers).status_code
        assert 404 == httpx.get(f"{served.rest}/page/static/page.css").status_code


@pytest.mark.parametrize("path", ["/", "/page/models/sums", "/page/static/page.js", "/page/data"])
def test_head_has_the_head_of_get(server, path):
    """HEAD has the length and no body."""
    headers = {"accept": CHROMIUM}
    head, get = (httpx.request(v, server.rest + path, headers=headers) for v in ("HEAD", "GET"))

    assert (200, b"") == (head.status_code, head.content)
    assert get.headers["content-length"] == head.headers["content-length"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/page/models/sums", "/page/data", "/page/static/page.js"])
def test_the_page_only_reads(server, method, path):
    """No method but GET and HEAD is known."""
    answer = httpx.request(method, server.rest + path, headers={"accept": CHROMIUM})

    assert 405 == answer.status_code
    assert "GET" in answer.headers["allow"]


def test_templates_are_imported_when_they_are_needed():
    """A server whose page nobody opens does not pay for it."""
    script = "import bundleserver.serving.server, sys; print('jinja2' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )

    assert "False" == done.stdout.strip()
