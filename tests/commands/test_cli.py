"""The commands, as people and scripts call them."""

import json
import os
import subprocess
import sys
import urllib.request

import joblib
import jsonschema
import numpy as np
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

import bundleserver
from bundleserver.bundle.reading import read_manifest
from bundleserver.cli import app
from bundleserver.store import BundleStore
from bundleserver.versions import Version

X = np.random.default_rng(3).normal(size=(30, 3))


def run(*arguments, request=None):
    """Run one command in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=request)


def run_process(*arguments, request=""):
    """Run one command as ``python -m bundleserver`` and return the finished process."""
    return subprocess.run(
        [sys.executable, "-m", "bundleserver", *map(str, arguments)],
        input=request,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture
def line():
    """Fit the smallest model: y is the first column."""
    return LinearRegression().fit(X, X[:, 0])


@pytest.fixture
def pair(tmp_path):
    """Write ADR-031's predictive-analytics, as the notebook did."""
    directory = tmp_path / "predictive-analytics"
    directory.mkdir()
    scaler = StandardScaler().fit(X)
    forest = IsolationForest(n_estimators=5, random_state=0).fit(scaler.transform(X))
    joblib.dump(scaler, directory / "isolation_forest_scaler.pkl")
    joblib.dump(forest, directory / "isolation_forest_model.pkl")
    return directory


@pytest.fixture
def two_models(tmp_path, line):
    """Write ADR-031's anomaly-detector: two models that nothing combines."""
    directory = tmp_path / "anomaly-detector"
    directory.mkdir()
    joblib.dump(line, directory / "arima_model.pkl")
    joblib.dump(line, directory / "prophet_model.pkl")
    return directory


@pytest.fixture
def model(tmp_path, line):
    """Save v1, v2 and v3 of one model; v2 is broken afterwards."""
    store = BundleStore(tmp_path / "store")
    for _ in range(3):
        store.save("fraud", line, examples=X[:2], metrics={"r2": 0.5})
    with next(store.path("fraud", "v2").glob("model.*")).open("ab") as file:
        file.write(b"!")
    return store.path("fraud")


def test_init_writes_the_inferred_manifest_and_prints_it(pair):
    """The manifest on the disk is the printed one, with a digest for every file."""
    result = run("init", pair)

    manifest = read_manifest(pair)
    assert 0 == result.exit_code, result.output
    assert ["scaler", "model"] == list(manifest.components)
    assert all(component.sha256 for component in manifest.components.values())
    assert '"isolation_forest_scaler.pkl"' in result.output


def test_init_replaces_a_manifest_only_when_told_to(pair):
    """What somebody edited is not lost by accident."""
    (pair / "manifest.json").write_text("edited")

    refused = run("init", pair)
    forced = run("init", pair, "--force", "--name", "other")

    assert (1, 0) == (refused.exit_code, forced.exit_code)
    assert "--force to replace it" in refused.output
    assert "other" == read_manifest(pair).name


def test_init_explains_a_directory_that_no_rule_makes_one_model(two_models):
    """The error names both files and the command that settles it, and that command works."""
    refused = run("init", two_models)
    settled = run("init", two_models, "--model", "arima_model.pkl", "--json")

    assert 1 == refused.exit_code
    for said in ("arima_model.pkl", "prophet_model.pkl", "--model arima_model.pkl"):
        assert said in refused.output
    manifest = json.loads(settled.stdout)["manifest"]
    assert ["arima_model.pkl"] == [part["path"] for part in manifest["components"].values()]


@pytest.fixture
def scaled_both_ways(tmp_path):
    """Write a model between a scaler of its features and one of its target."""
    directory = tmp_path / "price"
    directory.mkdir()
    y = 500 + X @ [30.0, 20.0, 10.0]
    of_x, of_y = StandardScaler().fit(X), StandardScaler().fit(y[:, np.newaxis])
    model = LinearRegression().fit(of_x.transform(X), of_y.transform(y[:, np.newaxis])[:, 0])
    for stem, held in (("scaler_x", of_x), ("scaler_y", of_y), ("model", model)):
        joblib.dump(held, directory / f"{stem}.pkl")
    return directory


def test_init_says_what_it_guessed_and_the_manifest_answers(scaled_both_ways):
    """A refused directory gets its probable manifest; predict then gives the target's own units."""
    refused = run("predict", scaled_both_ways, request='{"instances": [[0, 0, 0]]}')
    written = run_process("init", scaled_both_ways)
    rows = json.dumps({"instances": X[:2].tolist()})
    answer = json.loads(run("predict", scaled_both_ways, request=rows).stdout)

    assert 1 == refused.exit_code
    assert all(f"{stem}.pkl" in refused.output for stem in ("scaler_x", "scaler_y", "model"))
    assert "guessed: 'scaler_y.pkl' transforms the target" in written.stderr
    assert "check 'steps'" in written.stderr
    assert [*(500 + X[:2] @ [30.0, 20.0, 10.0])] == pytest.approx(answer["predictions"])


def test_init_tells_machines_its_guesses(scaled_both_ways, pair):
    """--json has what was guessed, and nothing where all is certain."""
    guessed = json.loads(run("init", scaled_both_ways, "--json").stdout)
    certain = json.loads(run("init", pair, "--json").stdout)

    assert ["'scaler_y.pkl' transforms the target and not the features"] == guessed["guesses"]
    assert [] == certain["guesses"]


def test_inspect_tells_which_files_are_ignored(pair):
    """A list beside a model is shown with what it is, to people and machines."""
    joblib.dump(["cpu", "memory"], pair / "feature_names.pkl")

    shown = run("inspect", pair).output
    (document,) = json.loads(run("inspect", pair, "--json").stdout)

    assert "feature_names.pkl (a list)" in shown
    assert {"feature_names.pkl": "a list"} == document["versions"][0]["ignored"]


def test_init_refuses_a_name_that_no_model_may_have(pair):
    """A manifest that could not be read again is not written."""
    result = run("init", pair, "--name", "no name")

    assert 1 == result.exit_code
    assert "no name" in result.output
    assert not (pair / "manifest.json").exists()


def test_validate_says_what_it_checked(pair):
    """A sound directory ends with 0 and one line that says what was looked at."""
    run("init", pair)

    result = run("validate", pair)

    assert 0 == result.exit_code, result.stdout
    assert result.stdout.startswith("ok ")
    assert "2 of 2 digests" in result.stdout


def test_validate_checks_every_version_of_a_model_and_of_a_store(model):
    """The broken version is a problem, the others are fine, whichever directory is named."""
    for directory in (model, model.parent):
        result = run("validate", directory)

        assert 1 == result.exit_code
        assert ["ok", "problem", "ok"] == [line.split()[0] for line in result.stdout.splitlines()]
        assert "fraud/v2: model." in result.stdout


def test_validate_lists_all_problems_of_a_manifest(pair):
    """Every broken rule has its own line."""
    manifest = {"format": "bundle/v1", "components": {}, "stepz": [], "inputs": 3}
    (pair / "manifest.json").write_text(json.dumps(manifest))

    result = run("validate", pair, "--json")

    document = json.loads(result.stdout)
    assert 1 == result.exit_code
    assert not document["ok"]
    problems = " ".join(document["checked"][0]["problems"])
    for said in ("components", "did you mean 'steps'?", "inputs"):
        assert said in problems


def test_validate_names_the_manifest_of_a_nested_bundle(tmp_path):
    """A problem of a bundle in a bundle stands beside the file that has it."""
    inner = tmp_path / "outer" / "outer"
    inner.mkdir(parents=True)
    outer = {"part": {"framework": "bundle", "path": "outer"}}
    part = {"model": {"framework": "torhc", "path": "a", "size": "1"}}
    for directory, components in ((tmp_path / "outer", outer), (inner, part)):
        document = {"format": "bundle/v1", "components": components}
        (directory / "manifest.json").write_text(json.dumps(document))

    result = run("validate", tmp_path / "outer", "--json")

    problems = json.loads(result.stdout)["checked"][0]["problems"]
    assert 2 == len(problems)
    for place, problem in zip(("size", "framework"), problems, strict=True):
        assert problem.startswith(f"{inner / 'manifest.json'}: components.model.{place}: is ")


def test_a_command_names_itself_where_its_flags_do_not_fit(pair):
    """The flags for trust are those of ``serve``, and no server is what somebody has started."""
    result = run("validate", pair, "--profile", "production")

    assert 0 != result.exit_code
    assert "error: validate: --signatures: " in result.output
    assert "serve:" not in result.output


def test_validate_runs_the_examples(pair):
    """An answer that differs from the recorded one is a problem."""
    run("init", pair)
    document = json.loads((pair / "manifest.json").read_text())
    document["examples"] = [{"inputs": {"input-0": [[0, 0, 0]]}, "outputs": {"output-0": [5]}}]
    (pair / "manifest.json").write_text(json.dumps(document))

    result = run("validate", pair)

    assert 1 == result.exit_code
    assert "expected [5] as recorded" in result.stdout


def test_validate_warns_of_other_libraries(model):
    """A library of another version than at the time of saving is told, and is no failure."""
    path = model / "v3" / "manifest.json"
    document = json.loads(path.read_text())
    document["requirements"]["packages"]["numpy"] = "1.0.0"
    path.write_text(json.dumps(document))

    result = run("validate", model / "v3")

    assert 0 == result.exit_code
    assert "warning" in result.stdout
    assert "numpy: was 1.0.0" in result.stdout


@pytest.mark.parametrize("command", ["validate", "inspect"])
def test_a_broken_serving_file_is_shown(model, command):
    """What the server would report is seen without a server."""
    (model / "serving.json").write_text('{"labels": {"stable": 3}}')

    assert "labels.stable" in run(command, model).output


def test_validate_names_a_version_of_the_serving_file_that_is_not_there(model):
    """What keeps a server from putting the file into effect is a problem before it does."""
    (model / "serving.json").write_text('{"labels": {"stable": "v9"}, "default": "v1"}')

    result = run("validate", model)

    assert 1 == result.exit_code
    assert "serving.json refers to unknown version 'v9'; versions: 'v1', 'v2'" in result.stdout


@pytest.mark.parametrize("command", ["validate", "inspect"])
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_directory_that_is_not_there_is_an_error(tmp_path, command, flags):
    """A misspelled path is said to be missing, which is another thing than an empty directory."""
    result = run(command, tmp_path / "nowhere", *flags)

    assert 1 == result.exit_code
    assert f"error: {tmp_path / 'nowhere'} does not exist" in result.output


def test_validate_of_nothing_is_a_problem(tmp_path):
    """An empty directory is not valid."""
    result = run("validate", tmp_path)

    assert 1 == result.exit_code
    assert "has no models" in result.stdout


def test_inspect_shows_versions_with_what_they_are_and_why_not(model):
    """Each version has a row: whether it serves, its metrics, why it is broken."""
    run("promote", model, "v1", "--label", "stable")
    lines = run("inspect", model).output.splitlines()

    rows = {line.split()[0]: line for line in lines if line.split() and line.split()[0][0] == "v"}
    assert "default" in rows["v3"]
    assert "cannot" in rows["v2"]
    assert "listed" in rows["v2"]
    assert "yes" in rows["v1"]
    assert "r2 0.5" in rows["v3"]
    assert "stable → v1" in lines[0]


def test_inspect_tells_machines_the_same(model):
    """--json has labels, split, and each version's metadata, digest and reason."""
    run("promote", model, "v3", "--label", "stable")
    run("split", model, "stable=90", "v1=10")

    (document,) = json.loads(run("inspect", model.parent, "--json").stdout)

    assert "fraud" == document["model"]
    assert {"stable": "v3"} == document["labels"]
    assert {"stable": 90.0, "v1": 10.0} == document["traffic"]
    by_version = {entry["version"]: entry for entry in document["versions"]}
    assert {"r2": 0.5} == by_version["v3"]["metadata"]["metrics"]
    assert {"v1": "yes", "v2": "cannot", "v3": "default"} == {
        version: entry["serves"] for version, entry in by_version.items()
    }
    assert by_version["v2"]["reason"]
    assert 64 == len(by_version["v1"]["digest"])


def test_inspect_opens_no_model(pair):
    """A pickle that would do harm when opened can be inspected."""
    (pair / "isolation_forest_model.pkl").write_bytes(b"cos\nabort\n(tR.")

    assert 0 == run("inspect", pair).exit_code


def test_predict_answers_a_v1_request(pair):
    """Rows in, predictions out, as the server would answer."""
    expected = joblib.load(pair / "isolation_forest_model.pkl").predict(
        joblib.load(pair / "isolation_forest_scaler.pkl").transform(X[:2])
    )

    result = run("predict", pair, "--input", "-", request=json.dumps({"instances": X[:2].tolist()}))

    assert {"predictions": expected.tolist()} == json.loads(result.stdout)


def test_predict_answers_a_v2_request_of_the_default_version(model, tmp_path):
    """The default of serving.json answers, and says so; asking for binary data changes nothing."""
    run("promote", model, "v1")
    tensor = {
        "name": "input-0",
        "datatype": "FP64",
        "shape": [2, 3],
        "data": X[:2].ravel().tolist(),
    }
    request = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    (tmp_path / "request.json").write_text(json.dumps(request))

    answer = json.loads(run("predict", model, "--input", tmp_path / "request.json").stdout)

    assert ("fraud", "v1") == (answer["model_name"], answer["model_version"])
    np.testing.assert_allclose(X[:2, 0], answer["outputs"][0]["data"])


@pytest.mark.parametrize(
    ("arguments", "request_body", "said"),
    [
        ([], "{", "not valid JSON"),
        ([], '{"instances": [[1, 2]]}', "shape [1, 2]"),
        ([], "{}", "'instances'"),
        (["--version", "v9"], '{"instances": [[1, 2, 3]]}', "versions: 'v1', 'v2', 'v3'"),
        (["--version", "v2"], '{"instances": [[1, 2, 3]]}', "differs from its manifest"),
        (["--input", "nowhere.json"], "", "nowhere.json: No such file"),
    ],
)
def test_predict_says_what_is_wrong_in_one_line(model, arguments, request_body, said):
    """The caller's mistakes end with 1 and one line, not with a traceback."""
    result = run("predict", model, *arguments, request=request_body)

    assert 1 == result.exit_code
    assert result.output.startswith("error: ")
    assert 1 == len(result.output.splitlines())
    assert said in result.output


def test_publish_copies_a_bundle_into_a_store(pair, tmp_path):
    """The next version, or the one that is named, appears with a manifest."""
    first = run("publish", pair, tmp_path / "store" / "model")
    named = run("publish", pair, tmp_path / "store" / "model", "--version", "v7", "--json")

    assert "version v1" in first.output
    assert "v7" == json.loads(named.stdout)["version"]
    assert (Version("v1"), Version("v7")) == BundleStore(tmp_path / "store").versions("model")


def test_publish_refuses_a_version_that_exists(pair, model):
    """Versions are never changed."""
    result = run("publish", pair, model, "--version", "v1")

    assert 1 == result.exit_code
    assert "already exists" in result.output


def test_promote_and_rollback_move_the_default(model):
    """A rollback passes over the broken version and goes to the one that can serve."""
    back = run("rollback", model)
    forward = run("promote", model, "v3", "--json")

    assert "default v1" in back.output
    assert "v3" == json.loads(forward.stdout)["default"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["promote", "MODEL", "v9"], "no version or label 'v9'"),
        (["promote", "MODEL", "v2"], "differs from its manifest"),
        (["rollback", "MODEL", "--to", "v4"], "no version or label 'v4'"),
        (["rollback", "MODEL/nothing"], "is not a directory"),
        (["split", "MODEL", "stable=1"], "no version or label 'stable'"),
        (["split", "MODEL", "v1"], "'v1' is not a valid weight; expected LABEL=WEIGHT"),
        (["split", "MODEL", "v1=lots"], "'v1=lots' is not a valid weight"),
        (["split", "MODEL", "v1=nan"], "the weight of 'v1' is nan"),
        (["split", "MODEL", "v1=90", "v1=10"], "'v1' has two weights"),
        (["publish", "MODEL/nothing", "MODEL"], "is not a directory"),
    ],
)
def test_changes_that_cannot_be_made_end_with_one_line(model, arguments, said):
    """Exit code 1, one line, nothing written."""
    result = run(*(argument.replace("MODEL", str(model)) for argument in arguments))

    assert 1 == result.exit_code, result.output
    assert said in result.output.splitlines()[-1]
    assert not (model / "serving.json").exists()


def test_schema_is_the_schema_of_what_init_writes(pair):
    """The printed schema is one, and accepts the manifests written here."""
    run("init", pair)

    schema = json.loads(run("schema").stdout)

    assert schema == json.loads(run("schema", "--json").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads((pair / "manifest.json").read_text()), schema)


def test_version_and_help_end_with_0():
    """Every command explains itself and shows an example."""
    assert f"bundleserver {bundleserver.__version__}\n" == run("--version").output
    assert 0 == run("--help").exit_code
    for command in ("init", "validate", "inspect", "predict", "publish", "promote", "rollback"):
        result = run(command, "--help")
        assert 0 == result.exit_code
        assert "Example: bundleserver" in result.output or "| bundleserver" in result.output


def test_the_help_of_serve_is_its_own():
    """The list is of KServe's flags, which serve reads itself."""
    result = run("serve", "--help")

    assert 0 == result.exit_code
    assert "--grpc_max_receive_message_length" in result.output


@pytest.mark.parametrize("arguments", [["--modle_name", "X"], ["serve", "--modle_name", "X"]])
def test_an_unknown_flag_names_the_nearest_and_ends_with_2(arguments):
    """Flags without a command are those of serve."""
    done = run_process(*arguments)

    assert 2 == done.returncode
    assert "error: serve: unknown flag --modle_name; did you mean --model_name?\n" == done.stderr
    assert "" == done.stdout


def test_an_unknown_command_or_option_ends_with_2():
    """The mistaken word is named, with the option that comes nearest."""
    command, option = run("publihs"), run("init", "--forse", ".")

    assert (2, 2) == (command.exit_code, option.exit_code)
    assert "publihs" in command.output
    assert "--force" in option.output


def test_a_failure_is_one_line_on_standard_error(two_models):
    """A real process prints no traceback, and nothing on standard output."""
    done = run_process("init", two_models)

    assert 1 == done.returncode
    assert "" == done.stdout
    assert done.stderr.startswith(f"error: {two_models} holds 2 models")
    assert 1 == len(done.stderr.splitlines())


def test_a_model_that_fails_is_one_line_without_its_traceback(tmp_path):
    """What a model's own code raises is said in a sentence."""
    script = """
import sys, joblib, numpy as np
from sklearn.neighbors import KNeighborsRegressor
model = KNeighborsRegressor(n_neighbors=3).fit(np.eye(3), [1, 2, 3])
model.n_neighbors = 99
joblib.dump(model, sys.argv[1])
"""
    subprocess.run(
        [sys.executable, "-c", script, tmp_path / "model.joblib"], check=True, timeout=60
    )

    done = run_process("predict", tmp_path, request='{"instances": [[1, 0, 0]]}')

    assert 1 == done.returncode
    assert "Traceback" not in done.stderr
    assert "99" in done.stderr.splitlines()[-1]


def read_until(stream, text):
    """Read lines until one holds a text; return all of them."""
    lines = []
    for line in stream:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError("".join(lines))


@pytest.mark.timeout(120)
def test_serve_ends_with_0_before_it_listens(tmp_path):
    """A server that is stopped while it still imports its libraries ends as one that served."""
    flags = ["--model_dir", str(tmp_path), "--http_port", "0", "--grpc_port", "0"]
    command = [sys.executable, "-X", "importtime", "-m", "bundleserver", "serve", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        # The first module that serve imports once the signals are taken care of.
        read_until(server.stderr, "bundleserver.manager.watcher")
        server.terminate()
        rest = server.stderr.read()

    assert 0 == server.returncode
    assert "Traceback" not in rest


@pytest.mark.timeout(120)
def test_serve_answers_follows_a_rollback_and_ends_with_0(model):
    """From flags to answers, from a command to another version, from SIGTERM to exit code 0."""
    flags = ["--model_name", "fraud", "--model_dir", str(model.parent), "--http_port=0"]
    more = ["--grpc_port=0", "--enable_grpc", "false", "--poll_interval_seconds", "0.1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "bundleserver", *flags, *more, "--max_threads", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        started = read_until(process.stderr, "serving REST on")
        port = started[-1].strip().rpartition(":")[2]
        read_until(process.stderr, "fraud v3: ready")
        run("rollback", model)
        read_until(process.stderr, "fraud v1: ready")
        url = f"http://127.0.0.1:{port}/v1/models/fraud:predict"
        body = json.dumps({"instances": X[:2].tolist()}).encode()
        with urllib.request.urlopen(url, body, timeout=10) as answer:
            version, predictions = answer.headers["X-Model-Version"], json.load(answer)
        process.terminate()
        rest = process.communicate(timeout=60)[1]
    finally:
        process.kill()

    assert "v1" == version
    np.testing.assert_allclose(X[:2, 0], predictions["predictions"])
    assert 0 == process.returncode, rest
    assert any("--max_threads has no effect" in line for line in started)


def test_output_into_a_closed_pipe_is_no_failure_to_talk_about(model):
    """``bundleserver inspect | head -0`` prints no traceback."""
    command = f"'{sys.executable}' -m bundleserver inspect '{model}' | head -c 0"

    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False
    )

    assert "Traceback" not in done.stderr
