"""The images as a platform runs them: any user, nothing writable but /tmp, limits."""

from __future__ import annotations

import re

import numpy as np
import pytest

from bundleserver import BundleStore
from tests.end_to_end.adr import ROW
from tests.end_to_end.calls import ask_grpc, v2_input
from tests.end_to_end.processes import eventually
from tests.end_to_end.published import Detector
from tests.image.conftest import BOTH, SLIM
from tests.image.containers import MODELS, running

ROWS = [[0.5, 0.3, 0.8], [3.0, -1.0, 0.0]]
FEATURES = v2_input("features", "FP64", [2, 3], np.ravel(ROWS).tolist())


@pytest.fixture(params=["full", "slim"])
def container(request):
    """Give each image's container in turn."""
    return request.getfixturevalue(request.param)


def close(values: object) -> object:
    """Compare with what this process answers: another processor may round differently."""
    if isinstance(values, dict):
        return {name: close(value) for name, value in values.items()}
    return pytest.approx(values, rel=1e-9, abs=1e-12)


def test_a_bundle_answers_over_all_protocols(container, volume):
    """V1, V2 and gRPC carry the numbers of the fitted objects."""
    expected = volume.detector.answer(ROWS)
    container.wait_until_ready("detector")

    v1 = container.predict("detector", ROWS).json()["predictions"]
    over_grpc = ask_grpc(container.grpc, "detector", FEATURES)

    assert expected["label"] == [row["label"] for row in v1]
    assert close(expected["score"]) == [row["score"] for row in v1]
    assert close(expected) == container.infer("detector", FEATURES)
    assert ("OK", "v1") == (over_grpc.code, over_grpc.version)
    assert close(expected) == over_grpc.outputs


def test_a_legacy_directory_answers_over_all_protocols(container, volume):
    """A scaler and a forest, as joblib wrote them, run one after the other."""
    expected = volume.systems.label(ROWS)
    container.wait_until_ready("predictive-analytics")

    v1 = container.predict("predictive-analytics", ROWS)

    assert expected == v1.json()["predictions"]
    assert {"output-0": expected} == container.infer("predictive-analytics", FEATURES)
    assert {"output-0": expected} == ask_grpc(
        container.grpc, "predictive-analytics", FEATURES
    ).outputs


def test_torch_answers_in_the_full_image(full, volume):
    """An exported program, and an LSTM autoencoder's weights with its scaler."""
    full.wait_until_ready("program")
    full.wait_until_ready("lstm-predictor")
    zeros = full.predict("program", np.zeros((2, 5, 3)).tolist())

    assert 200 == zeros.status_code
    assert [2, 5, 3] == list(np.shape(zeros.json()["predictions"]))
    assert (
        pytest.approx(volume.systems.error(ROW), rel=1e-5)
        == (full.predict("lstm-predictor", ROW).json()["predictions"])
    )


@pytest.mark.parametrize("model", ["prophet", "prophet-predictor"])
def test_prophet_answers_in_the_full_image(full, volume, model):
    """A model saved as JSON, and one in a pickle, forecast what Prophet does."""
    prophet = volume.systems.prophet
    future = prophet.make_future_dataframe(4, freq="h", include_history=False)
    full.wait_until_ready(model)

    forecast = full.predict(model, [{"horizon": 4}]).json()["predictions"][0]

    assert close(prophet.predict(future)["yhat"].tolist()) == forecast["mean"]


def test_arima_answers_in_the_full_image(full, volume):
    """Saved results of statsmodels forecast what they do in a notebook."""
    expected = volume.systems.arima_forecast(5, 0.9)
    full.wait_until_ready("arima-predictor")

    asked = full.predict("arima-predictor", [{"horizon": 5, "level": 0.9}])
    forecast = asked.json()["predictions"][0]

    assert close(expected) == {name: forecast[name] for name in expected}


@pytest.mark.parametrize(
    ("model", "extra"),
    [("program", "torch"), ("prophet", "prophet"), ("arima-predictor", "statsmodels")],
)
def test_the_slim_image_names_the_extra_that_is_missing(slim, model, extra):
    """A model of a library that the image lacks is refused, with what to install; others answer."""
    slim.wait_until_ready("detector")

    reason = eventually(
        lambda: (said := slim.reason(model)) and "bundleserver[" in said and said,
        f"{model} is refused",
    )

    assert f"bundleserver[{extra}]" in reason


def test_a_version_published_on_the_volume_takes_over(tmp_path):
    """What the host publishes on the mounted volume answers, and no request fails meanwhile."""
    store, (first, second) = BundleStore(tmp_path / "models"), (Detector(1), Detector(2))
    first.save(store)
    flags = ("--model_name=detector", "--poll_interval_seconds=0.2")
    with running(SLIM, store.path("detector"), *flags) as container:
        container.wait_until_ready("detector")
        answers = [container.predict("detector", ROWS)]
        second.save(store)

        def has_swapped() -> bool:
            answers.append(container.predict("detector", ROWS))
            return answers[-1].headers["x-model-version"] == "v2"

        eventually(has_swapped, "version v2 answers")
        scores = [row["score"] for row in answers[-1].json()["predictions"]]

    assert {200} == {answer.status_code for answer in answers}
    assert "v1" == answers[0].headers["x-model-version"]
    assert close(second.answer(ROWS)["score"]) == scores


@BOTH
def test_an_image_runs_without_any_option(image, volume):
    """``docker run`` as a person types it answers, and docker finds the container healthy."""
    options = ("--health-interval=1s",)
    with running(image, volume.root / "detector", "--model_name=detector", options=options) as it:
        it.wait_until_ready("detector")

        assert 200 == it.predict("detector", ROWS).status_code
        eventually(lambda: it.health() == "healthy", "the container is healthy")
        assert "1001" == it.execute("id", "-u").strip()


def test_a_container_without_an_answer_is_unhealthy(volume):
    """The health check asks the server and not merely whether a process is there."""
    options = ("--health-interval=1s", "--health-start-period=1s", "--health-retries=1")
    with running(SLIM, volume.root, "--http_port=8090", options=options) as container:
        eventually(lambda: container.health() == "unhealthy", "the container is unhealthy")

        assert container.state()["Running"]


@pytest.mark.usefixtures("full")
def test_nothing_is_written_but_below_tmp(full):
    """The root file system is read-only, and the user has no rights that it could use."""
    full.wait_until_ready("detector")
    status = full.execute("cat", "/proc/1/status")

    assert re.search(r"^Uid:\s+1000730000\s", status, re.MULTILINE)
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert (
        "read-only"
        in full.execute("sh", "-c", f"touch /opt/venv/x {MODELS}/x 2>&1 || true").lower()
    )
