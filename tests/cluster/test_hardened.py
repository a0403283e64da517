"""``overlays/hardened``: only what a key has signed becomes Ready; tokens come from secrets."""

from __future__ import annotations

import json
import secrets

import pytest

from tests.cluster.kubectl import apply, eventually
from tests.cluster.models import ANY, save
from tests.cluster.place import inference_service
from tests.signatures import write_key

TOKEN = secrets.token_hex(16)


@pytest.fixture(scope="module")
def signed(place, tmp_path_factory):
    """Serve a signed version in a namespace that was given the keys and a token after it."""
    root = tmp_path_factory.mktemp("signed")
    key = write_key(root, "release")
    save(root / "models", "fraud", 11, sign_with=key)
    save(root / "models", "fraud", 12)
    save(root / "models", "fraud", 13, sign_with=key)
    with (root / "models/fraud/v3/model.joblib").open("ab") as file:
        file.write(b"x")
    place.upload(root / "models/fraud/v1", "fraud/v1")
    storage = "pvc://model-storage-pvc/fraud"
    place.apply(inference_service("fraud", storage, runtime="bundleserver-hardened"))
    eventually(lambda: "bundleserver-trusted-keys" in _events(place), "the pod waits for the keys")
    place.kubectl(
        "create", "configmap", "bundleserver-trusted-keys", f"--from-file={root / 'keys'}"
    )
    place.secret("bundleserver-admin", token=TOKEN)
    place.wait_until_ready("fraud")
    return place, root


def test_a_signed_version_is_ready_with_its_key(signed):
    """The pod waits for the ConfigMap, and serves what a key of it signed."""
    place, _ = signed
    told = place.ask("fraud-predictor", "/v2/models/fraud").json()

    assert [11] == place.predict("fraud", ANY).json()["predictions"]
    assert "verified" == told["metadata"]["verification"]["signature"]["status"]


def test_what_is_unsigned_or_changed_leaves_the_signed_version_serving(signed):
    """A hot version without a signature, or with one byte more, is FAILED for its own reason."""
    place, root = signed
    for version in ("v2", "v3"):
        place.upload(root / "models/fraud" / version, f"fraud/{version}")

    def reasons() -> dict[str, str]:
        index = _index(place)
        found = {row["version"]: row["reason"] for row in index if row["state"] != "READY"}
        return found if len(found) == 2 and all("FAILED" in why for why in found.values()) else {}

    told = eventually(reasons, "both versions have failed")

    assert "there is no 'model.sig'" in told["v2"]
    assert "is not the file that was signed" in told["v3"]
    assert "v1" == place.predict("fraud", ANY).version


def test_only_the_secrets_token_reads_the_index_and_unloads(signed):
    """Index, load and unload are 401 without the token of the Secret, and probes need none."""
    place, _ = signed
    paths = ["/v2/repository/index", "/v2/repository/models/fraud/unload"]
    without = [place.ask("fraud-predictor", path, "").status for path in paths]
    (pod,) = place.pods("fraud")

    assert [401, 401] == without
    assert [True] == [state["ready"] for state in pod["status"]["containerStatuses"]]
    assert {"v1", "v2", "v3"} == {row["version"] for row in _index(place)}


def test_the_administrators_example_waits_for_its_secret(place, tmp_path):
    """``examples/administration.yaml``: the token of a secret loads and unloads, by the Service."""
    save(tmp_path, "pricing-admin", 21)
    place.upload(tmp_path / "pricing-admin", "pricing")
    place.secret("pricing-admin", token=TOKEN)
    place.apply_example("administration")
    place.kubectl("delete", "networkpolicy", "pricing-admin")
    place.wait_until_ready("pricing-admin")
    path = "/v2/repository/models/pricing-admin/load"

    assert 401 == place.ask("pricing-admin-predictor", path, "").status
    assert 200 == _with_token(place, "pricing-admin-predictor", path).status


def test_restricted_means_restricted(place):
    """The namespace of these tests refuses a pod that may become root."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "root", "namespace": place.name},
        "spec": {"containers": [{"name": "root", "image": "scratch"}]},
    }
    with pytest.raises(AssertionError, match="violates PodSecurity"):
        apply([pod])


def _with_token(place, service: str, path: str):
    return place.ask(service, path, "", Authorization=f"Bearer {TOKEN}")


def _index(place) -> list[dict[str, str]]:
    answer = _with_token(place, "fraud-predictor", "/v2/repository/index")
    return answer.json() if answer.status == 200 else []


def _events(place) -> str:
    return json.dumps(place.get("events"))
