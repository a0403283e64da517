"""The page's routes: what they show to whom, and how they are guarded."""

from __future__ import annotations

import re
from dataclasses import replace

import httpx
import pytest

from bundleserver.serving.options import ServerOptions
from bundleserver.serving.page.static_files import NAMES
from bundleserver.tensors import TensorSpec
from bundleserver.tensors.signature import Signature
from bundleserver.versions.lifecycle import State
from bundleserver.versions.serving_config import ServingConfig
from tests.serving.fakes import FakeManager, FakeModel, FakeVersion, serving

PAGE = ServerOptions(enable_page=True)
BROWSER = {"accept": "text/html,*/*;q=0.8"}
BROKEN = FakeVersion("2", state=State.FAILED, reason="FAILED while LOADING: a secret path")
SUMS = FakeModel(
    "sums",
    versions=(BROKEN, FakeVersion("1", loaded_at=1e9, metadata={"digest": "abc"})),
    config=ServingConfig(traffic={"1": 3, "2": 1}),
    known=("2", "1", "0"),
)
EVIL = "\"'><script>alert(1)</script>\u202e\n&\ud800"


@pytest.fixture(scope="module")
def server():
    """Serve one model with a broken version, and one whose name is evil."""
    with serving(FakeManager(SUMS, FakeModel(EVIL)), PAGE) as served:
        yield served


def get(server, path="/", **headers):
    """Ask as a browser does."""
    return httpx.get(server.rest + path, headers={**BROWSER, **headers})


def test_each_path_has_its_answer(server):
    """What is not a route is a page that says so, for programs an error."""
    found = {
        path: (answer.status_code, answer.headers["content-type"].partition(";")[0])
        for path in (
            *("/", "/page/models/sums", "/page/models/nope", "/page", "/page/models"),
            *("/page/data", "/page/models/sums/data", "/page/models/nope/data", "/page/static/x"),
            *("/page/static/page.js", "/page/static/..%2fpages.py", "/page/static/%2e%2e/pages.py"),
        )
        if (answer := get(server, path))
    }

    assert found == {
        "/": (200, "text/html"),
        "/page/models/sums": (200, "text/html"),
        "/page/models/nope": (404, "text/html"),
        "/page": (404, "text/html"),
        "/page/models": (404, "text/html"),
        "/page/data": (200, "application/json"),
        "/page/models/sums/data": (200, "application/json"),
        "/page/models/nope/data": (404, "application/json"),
        "/page/static/x": (404, "text/html"),
        "/page/static/page.js": (200, "text/javascript"),
        "/page/static/..%2fpages.py": (404, "text/html"),
        "/page/static/%2e%2e/pages.py": (404, "text/html"),
    }


@pytest.mark.parametrize("path", ["/", "/page/models/sums", "/page/models/nope", "/page/data"])
def test_every_answer_is_guarded(server, path):
    """A browser runs only the package's scripts, sends nothing elsewhere, and keeps nothing."""
    headers = get(server, path).headers

    policy = headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "base-uri 'none'"} <= {*policy}
    assert "frame-ancestors 'none'" in policy
    assert not any("unsafe" in part for part in policy)
    assert "nosniff" == headers["x-content-type-options"]
    assert "no-referrer" == headers["referrer-policy"]
    assert "no-store" == headers["cache-control"]
    assert "set-cookie" not in headers


def test_no_page_has_a_script_or_style_of_its_own(server):
    """All of them are files of the package."""
    for path in ("/", "/page/models/sums"):
        text = get(server, path).text
        assert not re.search(r"<script(?! defer src=)|<style| style=| on\w+=", text)


def test_addresses_are_relative(server):
    """Behind a proxy that takes off a prefix every link still leads to this server."""
    for path in ("/", "/page/models/sums", "/page/models/sums/"):
        text = get(server, path).text
        targets = re.findall(r'(?:href|src|action|data-source)="([^"#]+)', text)
        depth = path.count("/") - 1
        assert targets
        assert {target.startswith("../" * depth or "./") for target in targets} == {True}


def test_names_are_escaped_wherever_they_stand(server):
    """In text, in addresses, in attributes; what cannot be seen is made visible."""
    overview = get(server).text
    assert "<script>alert" not in overview
    assert "\u202e" not in overview
    assert r"\u202e\n&amp;\ud800" in overview

    link = next(one for one in re.findall(r'href="([^"]+)"', overview) if "script" in one)
    assert re.fullmatch(r"\./page/models/[\w.~%-]+", link)


def test_a_long_text_is_cut_in_the_middle():
    """A reason of a megabyte does not become a page of one."""
    broken = replace(BROKEN, reason=f"FAILED while LOADING: {'x' * 10**6}")
    with serving(FakeManager(replace(SUMS, versions=(broken,), default=None)), PAGE) as served:
        assert len(get(served, "/page/models/sums").content) < 20_000


def test_static_files_are_kept_until_they_change(server):
    """Under the address with their mark for ever, under another they are asked for again."""
    for name in NAMES:
        first = get(server, f"/page/static/{name}")
        mark = first.headers["etag"].strip('"')
        marked = get(server, f"/page/static/{name}?v={mark}")
        again = get(server, f"/page/static/{name}", **{"if-none-match": f'"{mark}"'})

        assert "no-cache" == first.headers["cache-control"]
        assert "immutable" in marked.headers["cache-control"]
        assert (304, b"") == (again.status_code, again.content)


def test_the_page_shows_what_is_worse_than_it_should_be():
    """A version that is READY with a warning, a serving.json that is not in effect, an outage."""
    warned = FakeVersion("1", reason="READY although its probe failed: no", probe_problem="no")
    model = FakeModel(
        "sums",
        versions=(warned,),
        config_problem="serving.json has no default",
        stale_since=1e9,
        source_problem="the registry does not answer",
    )
    with serving(FakeManager(model), PAGE) as served:
        for path in ("/", "/page/models/sums"):
            text = get(served, path).text
            assert "although its probe failed: no" in text
            assert "serving.json has no default" in text
            assert "the registry does not answer" in text


LOADING = FakeVersion("2", state=State.LOADING)


@pytest.mark.parametrize(
    ("version", "is_problem"),
    [
        (LOADING, False),
        (replace(LOADING, state=State.DISCOVERED), False),
        (replace(LOADING, reason="LOADING again; FAILED: no", failing_since=1e9), True),
        (replace(LOADING, state=State.DISCOVERED, waits_for="model 'x' is not ready"), True),
        (replace(LOADING, state=State.DISCOVERED, wanted=False), True),
        (replace(LOADING, state=State.UNLOADED), True),
        (BROKEN, True),
    ],
)
def test_a_model_that_is_only_loading_has_no_problem(version, is_problem):
    """One that is loaded again, waits for another or is not wanted has one."""
    why = f"version 2 is {version.reason or version.state.value}"
    model = FakeModel("sums", (version,), default=None, reason=why)
    with serving(FakeManager(model), PAGE) as served:
        (shown,) = get(served, "/page/data").json()["models"]
        found = get(served, "/page/data?only=problems").json()["models"]

    assert is_problem == bool(shown["problems"]) == bool(found)


def test_a_failure_is_shown_with_when_it_began_and_its_last_retry():
    """Since its first time, however often it has come again."""
    failed = replace(BROKEN, failing_since=1e9, entered_at=1e9 + 3600)
    once = replace(BROKEN, version="3", failing_since=1e9, entered_at=1e9)
    with serving(FakeManager(replace(SUMS, versions=(once, failed))), PAGE) as served:
        text = get(served, "/page/models/sums").text

    assert 2 == text.count("2001-09-09 01:46:40 UTC")
    assert 1 == text.count("last tried 2001-09-09 02:46:40 UTC")


def test_any_metadata_can_be_shown():
    """A manifest's free keys may be of any kind, and known ones too."""
    metadata = {
        "metrics": [1, {"a": None}],
        "trained_at": ["x", EVIL],
        "components": {"a": {"framework": {}}},
        "methods": ["predict"],
        "digest": None,
        "verification": "none",
        "tags": {EVIL: [EVIL]},
        EVIL: 10**400,
        "training_data": float("nan"),
    }
    spec = TensorSpec("x", None, None, ("a", "b"), column_datatypes=("FP64", "BYTES"))
    version = FakeVersion("1", metadata=metadata, signature=Signature((spec,), (spec,)))
    with serving(FakeManager(FakeModel("sums", versions=(version,))), PAGE) as served:
        answer = get(served, "/page/models/sums")

    assert 200 == answer.status_code
    assert "any shape" in answer.text
    assert "<script>alert" not in answer.text


@pytest.mark.parametrize(
    "query",
    [
        *("from=-1", "from=99999999999999999999", "from=x", "filter=%ff%00", "only=nothing"),
        *("filter=" + "x" * 5000, "&".join(["a=1"] * 1000), "=&;%"),
    ],
)
def test_any_query_has_an_answer(server, query):
    """Fields that mean nothing are as if they were not there."""
    assert 200 == get(server, f"/?{query}").status_code


def test_a_long_filter_filters_and_a_query_that_is_too_long_is_refused(server):
    """What is asked for is not dropped without a word."""
    found = get(server, "/page/data?filter=" + "%F0%9F%8C%8D" * 1000)
    refused = get(server, "/?filter=" + "x" * 20_000)

    assert 0 == found.json()["matching"]
    assert (414, True) == (refused.status_code, "at most 16384" in refused.json()["error"])


def test_counts_are_of_what_is_found(server):
    """Of the models that have problems alone, and none where nothing is found."""
    models = [FakeModel(f"model-{at}") for at in range(3)]
    with serving(FakeManager(SUMS, *models), PAGE) as served:

        def counted(query):
            text = get(served, f"/?{query}").text
            (found,) = re.findall(r'<p class="counts">(.*?)</p>', text, re.DOTALL)
            return " ".join(found.split())

        assert counted("").startswith("4 models: 4 ready, 0 on the way")
        assert counted("").endswith("; 1 with problems")
        assert counted("only=problems").startswith("4 models, 1 found: 1 ready")
        assert "4 models, 0 found" == counted("only=problems&filter=model")


def test_a_reason_is_told_once():
    """Beside its version, and not above it again."""
    broken = replace(SUMS, versions=(BROKEN,), default=None, reason=f"version 2 is {BROKEN.reason}")
    with serving(FakeManager(broken), PAGE) as served:
        text = get(served, "/page/models/sums").text

    assert "no version answers by default" in text
    assert 1 == text.count("a secret path")


def test_metrics_are_shown_as_they_are_written():
    """Integers with all digits, fractions with what they have."""
    written = {"rows": 123456789012345678, "rmse": 152.74, "auc": 0.1 + 0.2, "huge": 10**400}
    written |= {"sum": 1234567.25, "tiny": 1.5e-9, "whole": 3.0, "is_final": True, "unit": "ms"}
    model = FakeModel("sums", (FakeVersion("1", metadata={"metrics": written}),))
    with serving(FakeManager(model), PAGE) as served:
        text = get(served, "/page/models/sums").text
    shown = dict(re.findall(r"<div><dt>(\w+)</dt><dd>(.*?)</dd></div>", text))

    assert {
        "rows": "123456789012345678",
        "rmse": "152.74",
        "auc": "0.3",
        "huge": str(10**400),
        "sum": "1234567.25",
        "tiny": "1.5e-09",
        "whole": "3",
        "is_final": "true",
        "unit": "ms",
    } == {name: shown[name] for name in written}


def test_the_last_minutes_are_shown():
    """Requests come into figures and plots with the next step."""
    with serving(FakeManager(FakeModel("sums")), PAGE) as served:
        for _ in range(3):
            httpx.post(
                f"{served.rest}/v1/models/sums:predict", json={"instances": [[1.0, 2.0]]}
            ).raise_for_status()
        served.server._edge.history.sample()
        data = get(served, "/page/models/sums/data").json()
        (model,) = get(served, "/page/data").json()["models"]

    plots = data["plots"]
    assert 3 == pytest.approx(sum(plots["requests"]) * 5)
    assert {len(plots["times"])} == {len(values) for values in plots.values()}
    assert model["p99_seconds"] > 0
