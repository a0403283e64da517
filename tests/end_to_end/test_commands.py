"""``bundleserver init | validate | inspect | predict | schema | …`` as a user types them."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.end_to_end.adr import ROW
from tests.end_to_end.processes import command, running

COMMANDS = (
    "serve",
    "init",
    "validate",
    "inspect",
    "predict",
    "publish",
    "promote",
    "rollback",
    "split",
    "schema",
)


@pytest.fixture
def forest(volume, tmp_path):
    """Copy a directory without a manifest, to be written into."""
    return shutil.copytree(volume.root / "predictive-analytics", tmp_path / "forest")


def test_help_lists_every_command():
    """``--help`` names each command and how flags without one are read."""
    ended = command("--help")

    assert (0, "") == (ended.code, ended.err)
    assert all(f" {name} " in ended.out for name in COMMANDS)
    assert "--model_name" in ended.out


@pytest.mark.parametrize("name", ["serve", "rollback"])
def test_help_of_a_command_has_an_example_and_is_readable(name):
    """A command's help says what it does, by an example too, on lines of a terminal's width."""
    ended = command(name, "--help")

    assert 0 == ended.code
    assert f"example: bundleserver {name}" in " ".join(ended.out.lower().split())
    assert 100 >= max(map(len, ended.out.splitlines()))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["inti", "x"], "Did you mean 'init'?"),
        (["--model_nam=x"], "unknown flag --model_nam; did you mean --model_name?"),
        (["serve", "--http_port=abc"], "--http_port: is 'abc'; expected an integer"),
        (["serve", "--http_port=99999"], "--http_port: is 99999; expected a number from 0 to"),
        (
            ["serve", "--version_policy=newest"],
            "--version_policy: 'newest' is not a valid version policy",
        ),
        (["serve", "--grpc_port=8080"], "--grpc_port: is 8080, the port of REST"),
        (["serve", "models"], "unexpected argument 'models'; expected only flags"),
        (["validate"], "Missing argument 'DIR'"),
        (["init", "x", "--nam=y"], "--nam"),
    ],
)
def test_a_wrong_word_ends_with_2_and_names_the_nearest(words, says):
    """What the command line does not take is exit code 2, and nothing on standard output."""
    ended = command(*words)

    assert (2, "") == (ended.code, ended.out)
    assert says in ended.err
    assert "Traceback" not in ended.err


def test_init_writes_a_manifest_that_validates_and_serves(forest, volume):
    """What ``init`` writes can be read, checked, asked and served as the directory was before."""
    written = command("init", forest)
    document = json.loads((forest / "manifest.json").read_text())

    assert (0, document) == (written.code, written.document)
    assert f"wrote {forest / 'manifest.json'}" in written.err
    assert ["scaler", "model"] == list(document["components"])
    assert all(len(entry["sha256"]) == 64 for entry in document["components"].values())
    checked = command("validate", forest)
    assert (0, "ok ") == (checked.code, checked.out[:3])
    assert "2 of 2 digests" in checked.out
    body = json.dumps({"instances": ROW})
    asked = command("predict", forest, "--input", "-", stdin=body)
    expected = {"predictions": volume.systems.label(ROW)}
    assert (0, expected) == (asked.code, asked.document)
    with running(forest, "forest") as server:
        server.wait_until_ready("forest")
        assert expected == server.predict("forest", {"instances": ROW}).json()


def test_init_does_not_overwrite(forest):
    """A manifest that is there stays there, unless ``--force`` says otherwise."""
    (forest / "manifest.json").write_text("mine")
    refused = command("init", forest)
    kept = (forest / "manifest.json").read_text()
    forced = command("init", forest, "--force", "--name", "other", "--json")

    assert (1, "mine") == (refused.code, kept)
    assert "already exists; use --force to replace it" in refused.err
    assert "other" == forced.document["manifest"]["name"]


def test_the_refusals_own_command_mends_it(volume, tmp_path):
    """The command that the refusal of two models shows writes a manifest that serves one."""
    directory = shutil.copytree(volume.root / "anomaly-detector", tmp_path / "anomaly-detector")
    refused = command("init", directory)
    words = refused.err.split("bundleserver init ")[1].split()
    mended = command("init", *words)

    assert (1, 0) == (refused.code, mended.code)
    asked = command("predict", directory, stdin='{"instances": [{"horizon": 3, "level": 0.9}]}')
    expected = volume.systems.arima_forecast(3, 0.9)
    forecast = asked.document["predictions"][0]
    assert expected == {name: forecast[name] for name in expected}


BAD_DIRECTORIES = [
    ("init", "nowhere", "No such file or directory"),
    ("init", "empty", "is empty; expected manifest.json, or a model file"),
    ("validate", "empty", "has no models"),
    ("validate", "nowhere", "does not exist; expected a bundle"),
    ("inspect", "nowhere", "does not exist; expected a bundle"),
    ("predict", "nowhere", "does not exist; expected 'manifest.json' or model files"),
    ("predict", "empty", "holds no bundle; expected 'manifest.json' or model files"),
    ("inspect", "empty", "has no models"),
]


@pytest.mark.parametrize(("name", "directory", "says"), BAD_DIRECTORIES)
def test_a_directory_that_is_no_bundle_is_one_sentence(tmp_path, name, directory, says):
    """What cannot be read is said in one line that names the directory, without a traceback."""
    (tmp_path / "empty").mkdir()
    ended = command(name, tmp_path / directory, stdin="{}")

    assert (0 if (name, directory) == ("inspect", "empty") else 1) == ended.code
    (line,) = (ended.out + ended.err).strip().splitlines()
    assert says in line
    assert str(tmp_path / directory) in line


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("hello", "the request body is not valid JSON"),
        ("{}", "'instances'"),
        ('{"instances": [[1, 2]]}', "expects [-1, 3]"),
        ('{"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1]}]}', "[-1, 3]"),
    ],
)
def test_predict_refuses_what_the_server_would(volume, body, says):
    """A bad request to ``predict`` is one sentence and exit code 1."""
    ended = command("predict", volume.root / "predictive-analytics", stdin=body)

    assert (1, "") == (ended.code, ended.out)
    assert ended.err.startswith("error: ")
    assert says in ended.err
    assert 1 == len(ended.err.strip().splitlines())


def test_predict_reads_a_file_and_answers_v2(published, tmp_path):
    """A V2 request from a file is answered in V2, by the version that would serve or is named."""
    tensor = {"name": "features", "shape": [1, 3], "datatype": "FP64", "data": ROW}
    (tmp_path / "request.json").write_text(json.dumps({"id": "5", "inputs": [tensor]}))
    directory = published.root / "detector"
    newest = command("predict", directory, "--input", tmp_path / "request.json").document
    named = command(
        "predict", directory, "--input", tmp_path / "request.json", "--version", "v1"
    ).document

    for version, answer in (("v2", newest), ("v1", named)):
        expected = published.detectors[version].answer(ROW)
        assert ("5", version) == (answer["id"], answer["model_version"])
        assert expected == {output["name"]: output["data"] for output in answer["outputs"]}


def test_inspect_shows_versions_and_why_one_would_not_serve(published, tmp_path):
    """Versions, what they are made of, metadata and problems stand in a table, or in JSON."""
    root = shutil.copytree(published.root / "detector", tmp_path / "detector")
    (root / "v2" / "model.joblib").write_bytes(b"other")
    table = command("inspect", root)
    (document,) = command("inspect", root, "--json").document

    assert 0 == table.code
    assert "differs from its manifest: model.joblib: has 5 bytes" in table.out
    assert "f1 0.92" in table.out
    serves = {entry["version"]: entry["serves"] for entry in document["versions"]}
    assert {"v2": "cannot", "v1": "default"} == serves
    assert {"f1": 0.92} == document["versions"][1]["metadata"]["metrics"]


def test_schema_is_the_published_json_schema():
    """``schema`` prints a JSON Schema, and nothing else."""
    ended = command("schema")

    assert (0, "") == (ended.code, ended.err)
    assert "https://json-schema.org/draft/2020-12/schema" == ended.document["$schema"]
    assert {"format", "components", "steps", "examples"} <= ended.document["properties"].keys()


def test_a_new_version_is_shipped_and_rolled_back(forest, tmp_path):
    """publish, promote, split and rollback do what they say, and ``--json`` tells machines."""
    store = tmp_path / "store" / "forest"
    labels = [command("publish", forest, store, "--json").document["version"] for _ in range(3)]
    steps = [
        command("promote", store, "v2", "--label", "stable", "--json").document,
        command("split", store, "stable=90", "v3=10", "--json").document,
        command("rollback", store, "--json").document,
        command("promote", store, "latest", "--json").document,
    ]

    assert ["v1", "v2", "v3"] == labels
    assert [{"stable": "v2"}] * 4 == [step["labels"] for step in steps]
    assert [{}, {"stable": 90, "v3": 10}, {}, {}] == [step["traffic"] for step in steps]
    assert [None, None, "v2", None] == [step["default"] for step in steps]
    refused = command("rollback", store, "--to", "v9")
    assert (1, True) == (
        refused.code,
        "has no version or label 'v9'; versions: 'v1'" in refused.err,
    )
    again = command("publish", forest, store, "--version", "v3")
    assert (1, True) == (again.code, "a published version is never changed" in again.err)
