"""What KServe tells its user of a model that cannot be served, and of overridden arguments."""

from __future__ import annotations

import pytest

from tests.cluster.kubectl import condition, eventually
from tests.cluster.models import ANY, save
from tests.cluster.place import inference_service


@pytest.fixture(scope="module")
def volume(place, tmp_path_factory):
    """Upload a sound model, one whose only file is cut, and one that no framework opens."""
    root = tmp_path_factory.mktemp("models")
    save(root, "sound", 11)
    (root / "cut").mkdir()
    (root / "cut/model.pkl").write_bytes(b"\x80\x04\x95cut")
    (root / "odd").mkdir()
    (root / "odd/model.xyz").write_bytes(b"xyz")
    for name in ("sound", "cut", "odd"):
        place.upload(root / name, name)
    place.execute("mkdir", "/mnt/models/empty")
    return place


@pytest.mark.parametrize(
    ("name", "storage", "args", "words"),
    [
        ("cut", "cut", (), ["model.pkl"]),
        ("odd", "odd", (), ["model.xyz", ".joblib"]),
        ("flag", "sound", ("--version_policy=newest",), ["version_policy", "newest"]),
    ],
)
def test_what_will_never_serve_is_told_by_kserve(volume, name, storage, args, words):
    """``modelStatus`` says FailedToLoad, with the server's own sentence."""
    volume.apply(inference_service(name, f"pvc://model-storage-pvc/{storage}", *args))

    def message() -> str:
        status = volume.service(name).get("status", {}).get("modelStatus", {})
        failed = status.get("states", {}).get("targetModelState") == "FailedToLoad"
        return status.get("lastFailureInfo", {}).get("message", "") if failed else ""

    told = eventually(message, "KServe says FailedToLoad")

    assert [] == [word for word in words if word not in told]
    volume.kubectl("delete", "inferenceservice", name)


def test_an_empty_directory_is_waited_for(volume):
    """Files that come later are served by the pod that waited for them, without a restart."""
    volume.apply(inference_service("later", "pvc://model-storage-pvc/empty"))
    eventually(lambda: volume.pods("later"), "there is a pod")
    (pod,) = volume.pods("later")
    volume.execute("cp", "-r", "/mnt/models/sound/v1", "/mnt/models/empty/v1")
    volume.execute("sed", "-i", 's/"sound"/"later"/', "/mnt/models/empty/v1/manifest.json")
    volume.wait_until_ready("later")
    (after,) = volume.pods("later")

    assert pod["metadata"]["name"] == after["metadata"]["name"]
    assert [0] == [state["restartCount"] for state in after["status"]["containerStatuses"]]


def test_a_model_may_have_another_name_than_its_service(volume):
    """``args: [--model_name, sklearn]`` becomes Ready, and the model answers by that name."""
    storage = "pvc://model-storage-pvc/sound"
    volume.apply(inference_service("named", storage, "--model_name", "sklearn"))
    volume.wait_until_ready("named")
    body = {"instances": ANY}

    answer = volume.ask("named-predictor", "/v1/models/sklearn:predict", body)

    assert [11] == answer.json()["predictions"]
    assert "True" == condition(volume.service("named"), "PredictorReady")["status"]
