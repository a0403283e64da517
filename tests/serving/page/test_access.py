"""Who sees what of the page: strangers, and administrators by their token."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.serving.fakes import FakeManager, FakeModel, FakeVersion, serving
from tests.serving.page.test_pages import BROKEN, PAGE, SUMS, get

TOKEN = "a-token-of-32-bytes-and-some-more"  # noqa: S105  # of the tests


@pytest.fixture
def guarded(tmp_path):
    """Serve it with an index for administrators who have a token."""
    (tmp_path / "token").write_text(TOKEN)
    options = replace(
        PAGE, repository_index="admin", admin_token_file=tmp_path / "token", enable_grpc=False
    )
    with serving(FakeManager(SUMS), options) as served:
        yield served


@pytest.mark.parametrize("path", ["/", "/page/models/sums", "/page/data"])
def test_strangers_see_what_metadata_tell(guarded, path):
    """Neither reasons nor states of what does not answer, nor since when."""
    text = get(guarded, path).text

    assert "sums" in text
    assert "secret" not in text
    assert "FAILED" not in text
    assert "2001-09-09" not in text


def test_strangers_see_neither_names_nor_labels_of_what_is_not_ready(guarded):
    """Whether another version answers or none."""
    broken = replace(BROKEN, version="v2-of-nobody")
    labels = {"label-of-broken": broken.version, "label-of-ready": "1"}
    known = (broken.version, "1")
    one = FakeModel("one", (broken, FakeVersion("1")), labels=labels, known=known)
    guarded.manager.add(one)
    guarded.manager.add(replace(one, name="none", versions=(broken,), default=None))
    texts = [get(guarded, path).text for path in ("/", "/page/models/one", "/page/models/none")]

    for text in texts:
        assert broken.version not in text
        assert "label-of-broken" not in text
    assert ["label-of-ready" in text for text in texts] == [True, True, False]


@pytest.mark.parametrize("path", ["/", "/page/models/sums", "/page/data"])
def test_the_token_shows_all_and_is_counted(guarded, path):
    """It is the index's token, decided and counted where the index's is."""
    answer = get(guarded, path, authorization=f"Bearer {TOKEN}")

    assert "a secret path" in answer.text
    labels = {"request": "index", "protocol": "rest", "result": "allowed"}
    assert 1 == guarded.registry.get_sample_value("bundleserver_admin_requests_total", labels)


@pytest.mark.parametrize("path", ["/", "/page/models/sums", "/page/models/nope", "/page/data"])
def test_another_token_is_refused(guarded, path):
    """As it is for the index: a page is no place to guess without a line in the log."""
    answer = get(guarded, path, authorization="Bearer another")

    assert 401 == answer.status_code
    assert "Bearer" == answer.headers["www-authenticate"]
    labels = {"request": "index", "protocol": "rest", "result": "unauthenticated"}
    assert 1 == guarded.registry.get_sample_value("bundleserver_admin_requests_total", labels)


@pytest.mark.parametrize(
    ("admin", "site", "is_shown"),
    [
        ("closed", "same-origin", False),
        ("open", "same-origin", True),
        ("open", "cross-site", False),
    ],
)
def test_without_a_token_the_index_decides_as_well(admin, site, is_shown):
    """Closed to all, or open to whom no other site has sent."""
    options = replace(PAGE, admin=admin, repository_index="admin")
    with serving(FakeManager(SUMS), options) as served:
        text = get(served, **{"sec-fetch-site": site}).text

    assert is_shown == ("a secret path" in text)
