"""Clients of bare files after they are published, and versions that would break them, live."""

from __future__ import annotations

import shutil

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from bundleserver import BundleStore
from tests.end_to_end.calls import ask_grpc, v2_input
from tests.end_to_end.processes import eventually, running

X = np.random.default_rng(11).normal(size=(50, 3))


def fitted(offset=0.0, width=3):
    """Fit a model whose answer for zeros is the offset."""
    return LinearRegression().fit(X[:, :width], X[:, 0] + offset)


def answer(server, name="anything", datatype="FP64"):
    """Ask over V2 and gRPC with a tensor of some name, and return what both say."""
    tensor = v2_input(name, datatype, [1, 3], [0, 0, 0])
    told = server.infer("toll", tensor)
    said = ask_grpc(server.grpc, "toll", tensor)
    assert 200 == told.status_code, told.text
    assert said.details in ("", None), said.details
    return round(told.json()["outputs"][0]["data"][0], 3)


def version(server, label):
    """Return a version's row of the index."""
    rows = server.post("/v2/repository/index", json={}).json()
    return next((row for row in rows if row.get("version") == label), {})


def test_clients_of_bare_files_go_on_after_they_are_published(tmp_path):
    """A tensor of any name is answered before and after, over V2 and gRPC."""
    root = tmp_path / "toll"
    root.mkdir()
    joblib.dump(fitted(), root / "model.joblib")
    with running(root, "toll") as server:
        eventually(lambda: server.is_ready("toll"), "the bare files serve")
        before = answer(server), answer(server, "other", "INT64")
        joblib.dump(fitted(5.0), tmp_path / "model.joblib")
        source = tmp_path / "new"
        source.mkdir()
        shutil.move(tmp_path / "model.joblib", source)
        BundleStore(tmp_path).publish(source, "toll", "v2")
        eventually(lambda: version(server, "v2").get("state") == "READY", "v2 serves")

        assert ((0, 0), (5, 5)) == (before, (answer(server), answer(server, "other", "INT64")))


@pytest.mark.parametrize("policy", ["warn", "refuse"])
def test_a_copied_version_that_breaks_clients_is_told_or_refused(tmp_path, policy):
    """The sentence is in index, metric and log; with refuse the version before goes on."""
    store = BundleStore(tmp_path)
    store.save("toll", fitted())
    other = BundleStore(tmp_path / "elsewhere")
    other.save("toll", fitted(width=2), version="v2")
    with running(tmp_path / "toll", "toll", breaking_signature=policy) as server:
        eventually(lambda: server.is_ready("toll"), "v1 serves")
        shutil.copytree(other.path("toll", "v2"), tmp_path / "toll" / ".copy")
        (tmp_path / "toll" / ".copy").rename(tmp_path / "toll" / "v2")
        what = "it breaks clients of version v1: input 'input-0' is [-1, 3] in version v1"
        row = eventually(
            lambda: what in str(version(server, "v2").get("reason")) and version(server, "v2"),
            "v2 is judged",
        )
        metrics = server.get("/metrics").text

        server.wait_for_line(what)
        if policy == "warn":
            assert row["state"] == "READY"
            assert 'bundleserver_version_breaking{model="toll",version="v2"} 1.0' in metrics
        else:
            assert "FAILED while WARMING" in row["reason"]
            assert 'bundleserver_version_breaking{model="toll",version="v1"} 0.0' in metrics
            assert 0 == answer(server)
