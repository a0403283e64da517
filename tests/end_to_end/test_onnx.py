"""ONNX models behind a real server answer every protocol with the bits of onnxruntime."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.end_to_end.calls import ask_grpc, v2_input
from tests.end_to_end.processes import running
from tests.frameworks.onnx.graphs import ROWS, asked, forest, mixed_pipeline

COLUMNS = {
    "town": np.array(["Rome", "Bonn", "Oslo"], dtype=object),
    "age": np.float32([3, 40.25, 7]),
    "count": np.array([1, 2, 4]),
}
DATATYPES = {"town": "BYTES", "age": "FP32", "count": "INT64"}
FEW = ROWS[::40]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Serve two bare files: a forest with maps of probabilities, and a table with text."""
    root = tmp_path_factory.mktemp("onnx")
    for name, made in (("iris", forest()), ("towns", mixed_pipeline())):
        (root / name).mkdir()
        (root / name / "model.onnx").write_bytes(made.SerializeToString())
    with running(root) as started:
        for name in ("iris", "towns"):
            started.wait_until_ready(name)
        yield started


@pytest.fixture(scope="module")
def iris():
    """Return onnxruntime's labels and probabilities of a few rows, as plain values."""
    answer = asked(forest(), {"X": FEW})
    probabilities = [[row[k] for k in (0, 1, 2)] for row in answer["output_probability"]]
    return {"output_label": answer["output_label"].tolist(), "output_probability": probabilities}


@pytest.fixture(scope="module")
def towns():
    """Return onnxruntime's answers for the table."""
    answer = asked(mixed_pipeline(), {name: column[:, None] for name, column in COLUMNS.items()})
    return {name: values.tolist() for name, values in answer.items()}


def outputs_of(answer):
    """Return the outputs of a V2 response by name, in their shapes."""
    assert 200 == answer.status_code, answer.text
    return {
        output["name"]: np.reshape(output["data"], output["shape"]).tolist()
        for output in answer.json()["outputs"]
    }


def as_floats(values):
    """Return numbers as FP32 has them, which is what JSON's digits stand for."""
    return np.float32(values).tolist()


def test_v1_rows(server, iris, towns):
    """Rows are lists, or objects by the names of the columns."""
    answer = server.predict("iris", {"instances": FEW.tolist()}).json()["predictions"]
    names = list(COLUMNS)
    lists = [list(row) for row in zip(*(COLUMNS[n].tolist() for n in names), strict=True)]
    objects = [dict(zip(names, row, strict=True)) for row in lists]

    assert iris["output_label"] == [row["output_label"] for row in answer]
    assert iris["output_probability"] == as_floats([row["output_probability"] for row in answer])
    for rows in (lists, objects):
        found = server.predict("towns", {"instances": rows}).json()["predictions"]
        assert towns["label"] == [row["label"] for row in found]
        assert towns["probabilities"] == as_floats([row["probabilities"] for row in found])


def test_v2_json(server, iris, towns):
    """FP64 is taken for FP32, and a column as one axis or two."""
    for datatype in ("FP32", "FP64"):
        rows = v2_input("X", datatype, list(FEW.shape), FEW.ravel().tolist())
        found = outputs_of(server.infer("iris", rows))
        assert iris["output_label"] == found["output_label"]
        assert iris["output_probability"] == as_floats(found["output_probability"])
    for shape in ([3], [3, 1]):
        columns = [v2_input(n, DATATYPES[n], shape, c.tolist()) for n, c in COLUMNS.items()]
        found = outputs_of(server.infer("towns", *columns))
        assert towns["label"] == found["label"]
        assert towns["probabilities"] == as_floats(found["probabilities"])


def test_v2_binary(server, iris):
    """Binary tensors have the same bits as onnxruntime's."""
    raw = FEW.tobytes()
    given = {"name": "X", "datatype": "FP32", "shape": list(FEW.shape)}
    head = json.dumps(
        {
            "inputs": [{**given, "parameters": {"binary_data_size": len(raw)}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    answer = server.post(
        "/v2/models/iris/infer",
        content=head + raw,
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    length = int(answer.headers["Inference-Header-Content-Length"])
    outputs = json.loads(answer.content[:length])["outputs"]
    tail = answer.content[length:]
    size = outputs[0]["parameters"]["binary_data_size"]

    assert ["output_label", "output_probability"] == [output["name"] for output in outputs]
    assert ["INT64", "FP32"] == [output["datatype"] for output in outputs]
    assert np.array(iris["output_label"]).tobytes() == tail[:size]
    assert np.float32(iris["output_probability"]).tobytes() == tail[size:]


def test_grpc(server, iris, towns):
    """Typed contents, of numbers and of strings."""
    rows = v2_input("X", "FP32", list(FEW.shape), FEW.ravel().tolist())
    columns = [v2_input(n, DATATYPES[n], [3], c.tolist()) for n, c in COLUMNS.items()]
    of_iris, of_towns = (
        ask_grpc(server.grpc, "iris", rows),
        ask_grpc(server.grpc, "towns", *columns),
    )

    assert ("OK", "OK") == (of_iris.code, of_towns.code)
    assert iris["output_label"] == of_iris.outputs["output_label"]
    assert np.ravel(iris["output_probability"]).tolist() == of_iris.outputs["output_probability"]
    assert np.ravel(towns["probabilities"]).tolist() == of_towns.outputs["probabilities"]


def test_metadata_say_what_the_file_says(server):
    """Inputs, outputs, producer, opsets, provider and the classes of the columns."""
    said = server.get("/v2/models/iris").json()
    component = json.dumps(said)

    assert [{"name": "X", "datatype": "FP32", "shape": [-1, 4]}] == [
        {key: entry[key] for key in ("name", "datatype", "shape")} for entry in said["inputs"]
    ]
    assert ["output_label", "output_probability"] == [entry["name"] for entry in said["outputs"]]
    assert '"labels": {"output_probability": [0, 1, 2]}' in component
    assert "CPUExecutionProvider" in component
    assert "skl2onnx" in component


def test_a_number_beyond_the_datatype_is_a_400_in_every_protocol(server):
    """A number that FP32 does not have becomes no infinity."""
    rows = v2_input("X", "FP64", [1, 4], [1, 2, 3, 1e39])
    columns = [
        v2_input("town", "BYTES", [1], ["Rome"]),
        v2_input("age", "FP64", [1], [1e39]),
        v2_input("count", "INT64", [1], [1]),
    ]
    answers = [
        server.predict("iris", {"instances": [[1, 2, 3, 1e39]]}),
        server.predict("towns", {"instances": [{"town": "Rome", "age": 1e39, "count": 1}]}),
        server.infer("iris", rows),
        server.infer("towns", *columns),
    ]

    assert [400] * 4 == [answer.status_code for answer in answers]
    assert all("has the value 1e+39" in answer.json()["error"] for answer in answers)
    assert "INVALID_ARGUMENT" == ask_grpc(server.grpc, "iris", rows).code


def test_what_is_wrong_is_a_400_with_the_expected_input(server):
    """A wrong width, an unknown category and a missing column are the caller's."""
    wide = server.predict("iris", {"instances": [[1.0, 2.0]]})
    unknown = server.predict("towns", {"instances": [["Paris", 1.0, 2]]})
    missing = server.infer("towns", v2_input("town", "BYTES", [1], ["Rome"]))

    assert [400, 400, 400] == [answer.status_code for answer in (wide, unknown, missing)]
    assert "expects [-1, 4]" in wide.json()["error"]
    assert "OneHotEncoder: Unknown Category" in unknown.json()["error"]
    assert "missing inputs" in missing.json()["error"]
