"""Directories without a manifest, as they lie on disk today, served by a process of its own."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from tests.end_to_end.adr import ROW
from tests.end_to_end.calls import ask_grpc, v2_input
from tests.end_to_end.dropins import FILES
from tests.end_to_end.processes import run_client, running

SEQUENCES = [[[0.5, 0.3, 0.8], [0.1, 0.2, 0.9]], [[0.0, 1.0, 0.5], [0.4, 0.4, 0.4]]]
ARIMA, PROPHET = "arima-predictor", "prophet-predictor"


def test_one_directory_is_served_under_its_model_name(volume, tmp_path):
    """``--model_name X --model_dir DIR`` serves an ADR-031 directory as one model called X."""
    copied = shutil.copytree(volume.root / "predictive-analytics", tmp_path / "elsewhere")
    with running(copied, "anomalies") as server:
        server.wait_until_ready("anomalies")
        answer = server.predict("anomalies", {"instances": ROW})

        assert {"predictions": volume.systems.label(ROW)} == answer.json()
        assert "1" == answer.headers["x-model-version"]
        assert {"ready": True} == server.get("/v2/health/ready").json()
        assert "inferred manifest" in server.log


def test_a_volume_gives_the_child_that_is_called_like_the_model(volume):
    """With a whole volume mounted ``--model_name`` names the one directory that is served."""
    with running(volume.root, "predictive-analytics") as server:
        server.wait_until_ready("predictive-analytics")

        assert {"models": ["predictive-analytics"]} == server.get("/v1/models").json()


def test_isolation_forest_answers_as_scaler_and_model_do(volume, volume_server):
    """The scaler runs before the model, over V1, V2 and gRPC."""
    rows = np.random.default_rng(3).normal(0.5, 0.6, (40, 3)).tolist()
    expected = volume.systems.label(rows)
    tensor = v2_input("any-name", "FP64", [40, 3], np.ravel(rows).tolist())

    v1 = volume_server.predict("predictive-analytics", {"instances": rows})
    v2 = volume_server.infer("predictive-analytics", tensor)
    over_grpc = ask_grpc(volume_server.grpc, "predictive-analytics", tensor)

    assert {1, -1} == set(expected)
    assert expected == v1.json()["predictions"]
    assert expected == v2.json()["outputs"][0]["data"]
    assert {"output-0": expected} == over_grpc.outputs


@pytest.mark.parametrize("rows", [ROW, SEQUENCES], ids=["rows", "sequences"])
def test_lstm_gives_the_reconstruction_error(volume, volume_server, rows):
    """Rows are sequences of length 1; the error is that of the scaled values, per row."""
    shape = list(np.shape(rows))
    expected = volume.systems.error(rows)
    tensor = v2_input("x", "FP64", shape, np.ravel(rows).tolist())

    v1 = volume_server.predict("lstm-predictor", {"instances": rows})
    v2 = volume_server.infer("lstm-predictor", tensor)

    assert expected == v1.json()["predictions"]
    assert ("error", expected) == tuple(v2.json()["outputs"][0][key] for key in ("name", "data"))
    assert {"error": expected} == ask_grpc(volume_server.grpc, "lstm-predictor", tensor).outputs


def test_arima_forecasts_as_the_results_do(volume, volume_server):
    """Mean and interval are those of ``get_forecast``, over V1, V2 and gRPC, with their dates."""
    expected = volume.systems.arima_forecast(5, 0.9)
    dates = [
        str(date) for date in pd.date_range("2025-01-06", periods=5, freq="h").strftime("%FT%T")
    ]
    horizon = v2_input("horizon", "INT64", [1], [5])

    v1 = volume_server.predict(ARIMA, {"instances": [{"horizon": 5, "level": 0.9}]})
    v2 = volume_server.infer(ARIMA, horizon, parameters={"level": 0.9})
    over_grpc = ask_grpc(volume_server.grpc, ARIMA, horizon, parameters={"level": 0.9})

    assert {"predictions": [{**expected, "ds": dates}]} == v1.json()
    assert {**expected, "ds": dates} == {
        output["name"]: output["data"] for output in v2.json()["outputs"]
    }
    assert {**expected, "ds": dates} == over_grpc.outputs


def test_instances_of_a_forecast_have_lengths_of_their_own(volume, volume_server):
    """Each V1 instance is answered by one object, as long as its horizon; the level is 0.95."""
    answer = volume_server.predict(ARIMA, {"instances": [{"horizon": 2}, {"horizon": 4}]})

    means = [len(forecast["mean"]) for forecast in answer.json()["predictions"]]
    assert [2, 4] == means
    expected = volume.systems.arima_forecast(4, 0.95)["upper"]
    assert expected == answer.json()["predictions"][1]["upper"]


def test_history_replaces_the_training_series(volume, volume_server):
    """``history`` is applied under the fitted parameters, nothing is refitted."""
    history = [0.1, 0.5, 0.9, 0.7, 0.2]
    expected = np.asarray(volume.systems.arima.apply(history).forecast(3))
    body = {"instances": [{"horizon": 3, "history": history}]}

    answer = volume_server.predict(ARIMA, body).json()["predictions"][0]

    assert expected.tolist() == answer["mean"]


def test_prophet_forecasts_as_the_model_does(volume, volume_server):
    """The mean is ``yhat`` of the dates that follow the history at its spacing."""
    model = volume.systems.prophet
    future = model.make_future_dataframe(4, freq="h", include_history=False)
    expected = model.predict(future)

    answer = volume_server.predict(PROPHET, {"instances": [{"horizon": 4}]})
    forecast = answer.json()["predictions"][0]

    assert expected["yhat"].tolist() == forecast["mean"]
    assert [date.isoformat() for date in expected["ds"]] == forecast["ds"]
    # The bounds are drawn at random, around the same middle.
    assert np.allclose(expected["yhat_upper"], forecast["upper"], atol=0.1)
    assert all(np.array(forecast["lower"]) < forecast["mean"])


def test_prophet_answers_dates_asked_for(volume, volume_server):
    """``ds`` asks for dates by name, also inside the training range."""
    dates = ["2025-01-03T05:00:00", "2025-01-07T00:00:00"]
    expected = volume.systems.prophet.predict(pd.DataFrame({"ds": pd.to_datetime(dates)}))
    tensor = v2_input("ds", "BYTES", [2], dates)

    said = ask_grpc(volume_server.grpc, PROPHET, tensor)

    assert expected["yhat"].tolist() == said.outputs["mean"]
    assert dates == said.outputs["ds"]


@pytest.mark.parametrize(
    ("votes", "label", "score"),
    [([1, 0, 0, 1], 1, 0.6), ([0, 1, 1, 0], 0, 0.4), ([1, 1, 1, 1], 1, 1.0), ([0] * 4, 0, 0.0)],
)
def test_ensemble_weighs_the_votes(volume_server, votes, label, score):
    """The configuration's weights and threshold decide, over V1 rows and V2 tensors by member."""
    members = ("isolation_forest", "arima", "prophet", "lstm")
    tensors = [
        v2_input(name, "INT64", [1], [vote]) for name, vote in zip(members, votes, strict=True)
    ]

    v1 = volume_server.predict("ensemble-predictor", {"instances": [votes]})
    said = ask_grpc(volume_server.grpc, "ensemble-predictor", *tensors)

    assert {"label": label, "score": pytest.approx(score)} == v1.json()["predictions"][0]
    assert {"label": [label], "score": [pytest.approx(score)]} == said.outputs


def test_two_models_without_a_rule_are_refused(volume, volume_server):
    """``anomaly-detector`` is 503 for a reason that names both files and what to type."""
    directory = volume.root / "anomaly-detector"
    sentence = (
        "model 'anomaly-detector' is not ready: version 1 is FAILED while FETCHING: "
        f"{directory} holds 2 models, 'arima_model.pkl', 'prophet_model.pkl', which cannot be "
        "combined; keep each in a directory of its own, or create a manifest for one of them "
        f"with: bundleserver init {directory} --model arima_model.pkl"
    )

    answer = volume_server.predict("anomaly-detector", {"instances": ROW})
    said = ask_grpc(volume_server.grpc, "anomaly-detector", v2_input("x", "FP64", [1, 3], ROW))

    assert (503, {"error": sentence}) == (answer.status_code, answer.json())
    assert int(answer.headers["retry-after"]) >= 1
    assert ("UNAVAILABLE", sentence) == (said.code, said.details)


def test_one_bad_directory_does_not_take_the_others_down(volume_server):
    """A server of several models is ready when each has come up or failed and one answers."""
    assert 200 == volume_server.get("/v2/health/ready").status_code
    index = volume_server.index("anomaly-detector")["1"]
    assert ("UNAVAILABLE", True) == (index["state"], index["reason"].startswith("FAILED while"))


def question(model, **body):
    """Ask a model, and KServe's own functions around the same file."""
    return {"model": model, "body": body}


FOUR = [5.1, 3.5, 1.4, 0.2]
HOUSES = [v2_input("rooms", "INT64", [2], [3, 9]), v2_input("town", "BYTES", [2], ["Ulm", "Köln"])]
QUESTIONS = [
    question("iris", instances=[FOUR, [0.1, 0.2, 0.3, 0.4]]),
    question("iris", inputs=[FOUR]),
    question("iris", inputs=[v2_input("input-0", "FP64", [1, 4], FOUR)]),
    question("iris", inputs=[v2_input("predict", "FP32", [2, 4], [FOUR, FOUR])], id="7"),
    question("iris", inputs=[v2_input("x", "INT64", [1, 4], [5, 3, 1, 0])]),
    question("iris", inputs=[v2_input("x", "UINT8", [1, 4], [5, 3, 1, 0])]),
    question("digits", instances=[[1, 2, 3, 4]]),
    question("digits", inputs=[v2_input("x", "INT32", [1, 4], [1, 2, 3, 4])]),
    question("words", instances=[FOUR]),
    question("two-outputs", instances=[FOUR, FOUR]),
    question("two-outputs", inputs=[v2_input("x", "FP64", [1, 4], FOUR)]),
    question("prices", instances=[{"rooms": [3], "town": ["Ulm"]}]),
    question("prices", instances=[{"rooms": [3, 9], "town": ["Ulm", "Köln"]}]),
    question("prices", inputs=HOUSES, parameters={"content_type": "pd"}),
]


def test_dropins_answer_as_kserves_sklearn_server_does(volume, volume_server, tmp_path):
    """V1 and V2 answers are those of kserve's own functions around the same file."""
    asked = [
        {"file": str(volume.root / q["model"] / FILES[q["model"]]), "body": q["body"]}
        for q in QUESTIONS
    ]
    (tmp_path / "questions.json").write_text(json.dumps(asked))
    expected = run_client("sklearnserver.py", tmp_path / "questions.json")

    answers = []
    for q in QUESTIONS:
        is_v2 = isinstance(q["body"].get("inputs", [[]])[0], dict)
        path = f"/v2/models/{q['model']}/infer" if is_v2 else f"/v1/models/{q['model']}:predict"
        answers.append(volume_server.post(path, json=q["body"]).json())

    for q, one, other in zip(QUESTIONS, expected, answers, strict=True):
        assert comparable(one, q) == comparable(other, q), q


def comparable(answer, asked):
    """Leave out what names the server, and an id that nobody gave."""
    if "outputs" not in answer:
        return answer
    assert asked["body"].get("id") in (None, answer.get("id"))
    return [
        (output["name"], output["datatype"], output["shape"], output["data"])
        for output in answer["outputs"]
    ]


def test_labels_of_text_are_bytes(volume_server):
    """Text that a model answers is a BYTES tensor over V2 and gRPC, which KServe's cannot give."""
    tensor = v2_input("x", "FP64", [2, 4], [0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])

    v2 = volume_server.infer("words", tensor).json()["outputs"]
    said = ask_grpc(volume_server.grpc, "words", tensor)

    labels = ["größer", "less"]
    expected = {"name": "output-0", "datatype": "BYTES", "shape": [2], "data": labels}
    assert [expected] == v2
    assert {"output-0": labels} == said.outputs


def test_an_inferred_bundle_says_so(volume_server):
    """The metadata of a directory without a manifest tell that its manifest is inferred."""
    answer = volume_server.get("/v2/models/iris").json()

    assert True is answer["metadata"]["inferred"]
    assert [-1, 4] == answer["inputs"][0]["shape"]
    assert "output-0" == answer["outputs"][0]["name"]


def test_a_value_that_the_model_refuses_is_the_callers(volume_server):
    """A category that the model was not fitted on, and NaN, are 400 and name the model's reason."""
    unknown = volume_server.predict("prices", {"instances": [{"rooms": 3, "town": "Bonn"}]})
    gap = volume_server.predict("iris", {"instances": [[None, 1, 2, 3]]})

    assert (400, True) == (unknown.status_code, "Bonn" in unknown.json()["error"])
    assert (400, True) == (gap.status_code, "NaN" in gap.json()["error"])
