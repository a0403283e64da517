"""``--first_load_failure``: what can never be ready ends, and says why where KServe reads."""

from __future__ import annotations

import json
import pickle
import signal
import socket
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.end_to_end import gated
from tests.end_to_end.processes import ServerProcess, command, eventually
from tests.end_to_end.versions import other_bytes, publish, unknown_framework, write_bundle

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def log(tmp_path) -> Path:
    """Lend a termination log, as the kubelet makes one."""
    place = tmp_path / "termination-log"
    place.write_text("of before")
    return place


@contextmanager
def exiting(directory, log, name="fraud", **flags):
    """Serve with ``--first_load_failure=exit`` while the block runs."""
    given = {
        "http_port": 0,
        "grpc_port": 0,
        "poll_interval_seconds": 0.1,
        "lame_duck_seconds": 0,
        "model_dir": directory,
        "first_load_failure": "exit",
        "termination_log": log,
        **({"model_name": name} if name else {}),
        **flags,
    }
    server = ServerProcess(tuple(f"--{flag}={value}" for flag, value in given.items()))
    try:
        yield server
    finally:
        server.kill()


def broken(root: Path, label: str = "v1") -> None:
    """Publish a version whose file is not what its manifest says."""
    root.mkdir(exist_ok=True)
    publish(root, label, 1.0, other_bytes)


def not_a_pickle(directory: Path) -> None:
    """Write a text for a model."""
    directory.mkdir()
    (directory / "model.pkl").write_text("a page about a model")


def no_json(directory: Path) -> None:
    """Write half a manifest."""
    directory.mkdir()
    (directory / "manifest.json").write_text("{")


def odd_framework(directory: Path) -> None:
    """Write a manifest of a framework that there is not."""
    unknown_framework(write_bundle(directory, gated.Times(2.0)))


@pytest.mark.parametrize(
    ("write", "said", "workers"),
    [
        (not_a_pickle, "is not a pickle", 1),
        (no_json, "manifest.json", 1),
        (odd_framework, "expected one of", 1),
        (broken, "sha256", 2),
    ],
    ids=lambda it: getattr(it, "__name__", None),
)
def test_what_can_never_be_served_ends_the_server(write, said, workers, tmp_path, log):
    """It ends with 1; the file has the ready path's sentence, and so has the last line."""
    write(tmp_path / "fraud")

    with exiting(tmp_path / "fraud", log, workers=workers) as server:
        code = server.exit_code()
        server.kill()

    assert 1 == code
    told = log.read_text()
    assert told.startswith("model 'fraud' is not ready: version ")
    assert "is FAILED while" in told
    assert said in told
    assert f"error: {told}\n" == server.lines[-1]
    assert 1 == server.log.count("error: model 'fraud'")


def test_a_broken_newest_version_beside_a_sound_one_serves_that(tmp_path, log):
    """The sound one answers, and the server goes on."""
    root = tmp_path / "fraud"
    root.mkdir()
    publish(root, "v1", 1.0)
    broken(root, "v2")

    with exiting(root, log) as server:
        server.wait_until_listening()
        server.wait_until_ready("fraud")
        server.wait_for_line("fraud v2: failed")
        eventually(lambda: server.log.count("fraud v2: failed") > 2, "it used up its retries")

        assert server.popen.poll() is None
        assert 200 == server.get("/v2/health/ready").status_code


def test_forty_models_with_one_broken_are_served(tmp_path, log):
    """One bad directory takes none of the others down, and does not end the server."""
    for number in range(40):
        root = tmp_path / "models" / f"m{number}"
        root.mkdir(parents=True)
        (broken if number == 7 else publish_one)(root)

    with exiting(tmp_path / "models", log, name=None) as server:
        server.wait_until_listening()
        eventually(lambda: server.get("/v2/health/ready").status_code == 200, "it is ready")
        eventually(lambda: server.log.count("m7 v1: failed") > 2, "it used up its retries")

        assert server.popen.poll() is None
        assert "" == log.read_text()


def publish_one(root: Path) -> None:
    """Publish a sound version."""
    publish(root, "v1", 1.0)


def test_several_models_that_can_never_be_served_are_all_named(tmp_path, log):
    """The message names each model, newest version first."""
    for name in ("churn", "fraud"):
        root = tmp_path / "models" / name
        root.mkdir(parents=True)
        broken(root, "v1")
        broken(root, "v2")

    with exiting(tmp_path / "models", log, name=None) as server:
        assert 1 == server.exit_code()

    told = log.read_text()
    assert told.startswith("model 'churn' is not ready: version v2 is FAILED")
    assert "version v1 is FAILED" in told
    assert "model 'fraud' is not ready: version v2" in told


@pytest.mark.parametrize("place", ["missing", "empty"])
def test_what_is_not_there_yet_is_waited_for(place, tmp_path, log):
    """An upload that comes late is served."""
    root = tmp_path / "fraud"
    if place == "empty":
        root.mkdir()
    with exiting(root, log) as server:
        server.wait_until_listening()
        before = server.wait_for_reason("fraud", "waiting for")
        publish_into(root)
        server.wait_until_ready("fraud")

    assert before
    assert "" == log.read_text()


def publish_into(root: Path) -> None:
    """Publish a sound version where there may be no directory yet."""
    root.mkdir(exist_ok=True)
    publish(root, "v1", 1.0)


def test_a_server_that_has_been_ready_goes_on(tmp_path, log):
    """What breaks later is FAILED, with the version before or without."""
    root = tmp_path / "fraud"
    publish_into(root)
    with exiting(root, log, admin="open") as server:
        server.wait_until_listening()
        server.wait_until_ready("fraud")
        server.post("/v2/repository/models/fraud/unload")
        broken(root, "v2")
        server.post("/v2/repository/models/fraud/load")
        eventually(lambda: server.log.count("fraud v2: failed") > 2, "it used up its retries")

        assert server.popen.poll() is None


def test_files_that_are_repaired_meanwhile_are_served(tmp_path, log):
    """A failure of files that have changed since is none for good."""
    root = tmp_path / "fraud"
    root.mkdir()
    (root / "model.pkl").write_text("half of an upload")
    with exiting(root, log) as server:
        server.wait_until_listening()
        server.wait_for_line("fraud 1: failed")
        (root / "model.pkl").unlink()
        publish_into(root)
        server.wait_until_ready("fraud")


def test_wait_is_the_default(tmp_path, log):
    """Elsewhere a server goes on, and is ready once the files are."""
    root = tmp_path / "fraud"
    not_a_pickle(root)
    with exiting(root, log, first_load_failure="wait") as server:
        server.wait_until_listening()
        server.wait_for_reason("fraud", "FAILED while LOADING")
        (root / "model.pkl").unlink()
        publish_into(root)
        server.wait_until_ready("fraud")


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--modle_name=x"], 2, "unknown flag --modle_name; did you mean --model_name?"),
        (["--http_port=many"], 2, "--http_port: is 'many'; expected an integer"),
        (["--trusted_keys=/nowhere/keys"], 1, "--trusted_keys '/nowhere/keys': cannot be read"),
        (["--host=256.0.0.1"], 1, "--host: is '256.0.0.1'"),
        (["--model_uri=models:/m@a"], 1, "requires $MLFLOW_TRACKING_URI"),
        (["x\x1b[2Jy\nz"], 2, "unexpected argument 'x\\x1b[2Jy"),
    ],
)
def test_a_server_that_cannot_start_says_why_too(flags, code, said, log):
    """Whatever --first_load_failure is; nothing in the file commands a terminal."""
    ended = command("serve", f"--termination_log={log}", *flags)

    assert code == ended.code
    assert said in log.read_text()
    assert log.read_text().isprintable()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_in_use_is_said_too(workers, log):
    """The variable stands for the flag."""
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        ended = command(
            "serve",
            f"--http_port={port}",
            f"--workers={workers}",
            variables={"TERMINATION_LOG": str(log)},
        )

    assert 1 == ended.code
    assert f":{port}" in log.read_text()


def test_no_termination_log_is_created(tmp_path):
    """Only what the kubelet made is written."""
    place = tmp_path / "none"
    ended = command("serve", f"--termination_log={place}", "--zzz")

    assert 2 == ended.code
    assert not place.exists()


class Ends:
    """A model whose load ends its process, in one of several ways."""

    def __init__(self, how: str) -> None:
        self._how = how

    def __reduce__(self) -> tuple[object, ...]:
        return (eval, (_ENDS[self._how],))


_ENDS = {
    "a crash": "__import__('ctypes').string_at(8)",
    "an exit": "__import__('os')._exit(0)",
    "a kill": "__import__('os').kill(__import__('os').getpid(), 9)",
}


def ends_the_process(directory: Path, how: str) -> None:
    """Write a model file of that kind."""
    write_pickle(directory, Ends(how))


def write_pickle(directory: Path, model: object) -> None:
    """Write a bundle whose file is that pickle, whatever it does."""
    directory.mkdir(parents=True)
    (directory / "model.pkl").write_bytes(pickle.dumps(model))
    component = {"framework": "sklearn", "path": "model.pkl"}
    manifest = {"format": "bundle/v1", "components": {"model": component}}
    (directory / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("how", [*_ENDS])
def test_a_load_that_ends_its_process_is_named_in_the_file(how, tmp_path, log):
    """It was written before the load, as nobody can write it afterwards."""
    ends_the_process(tmp_path / "tides" / "v7", how)
    with exiting(tmp_path / "tides", log, name="tides") as server:
        server.exit_code()

    assert log.read_text().startswith(
        "the process ended while it loaded model 'tides' version 'v7'; its files crash"
    )


@pytest.mark.parametrize("how", ["a crash", "a kill"])
def test_worker_processes_that_a_load_ends_give_it_up_after_three_tries(how, tmp_path, log):
    """With short pauses, before anything was served; then the supervisor ends and says so."""
    ends_the_process(tmp_path / "tides" / "v7", how)
    with exiting(tmp_path / "tides", log, name="tides", workers=2) as server:
        code = server.exit_code()

    assert 1 == code
    assert log.read_text().startswith("model 'tides' is not ready: version v7 is FAILED")
    assert "it is not loaded again before its files change" in log.read_text()


def test_an_orderly_end_during_a_load_leaves_no_reason(tmp_path, log):
    """A pod that is deleted meanwhile has not failed."""
    root = tmp_path / "tides"
    write_pickle(root, Waits())
    with exiting(root, log, name="tides") as server:
        server.wait_until_listening()
        eventually(lambda: "while it loaded" in log.read_text(), "the load is told")
        server.send(signal.SIGTERM)
        code = server.exit_code()

    assert (0, "") == (code, log.read_text())


class Waits:
    """A model whose load takes long."""

    def __reduce__(self) -> tuple[object, ...]:
        return (eval, ("__import__('time').sleep(60)",))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_while_it_ends_loses_neither_the_reason_nor_the_code(workers, tmp_path, log):
    """The file is written before the drain, which a client that sends slowly draws out."""
    broken(tmp_path / "fraud")
    body = b"POST /v1/models/fraud:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{"
    with exiting(tmp_path / "fraud", log, workers=workers, grace_period_seconds=4) as server:
        server.wait_until_listening()
        with socket.create_connection(("127.0.0.1", int(server.rest.rpartition(":")[2]))) as slow:
            slow.sendall(body)
            eventually(lambda: log.read_text().startswith("model 'fraud'"), "the end is decided")
            told, ended = log.read_text(), server.popen.poll()
            server.send(signal.SIGTERM)
            code = server.exit_code()

    assert ended is None
    assert (1, told) == (code, log.read_text())


@pytest.mark.parametrize("flags", [["--termination_log"], ["--termination_log="], ["--zz"]])
def test_a_termination_log_without_a_name_is_said_in_the_variables_file(flags, log):
    """Whoever reads that file learns what is wrong with the flag."""
    ended = command("serve", *flags, variables={"TERMINATION_LOG": str(log)})

    assert 2 == ended.code
    assert log.read_text().startswith("serve: ")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("none.yaml", None, "cannot be read: No such file"),
        ("half.yaml", "handlers: [", "is not a logging configuration: while parsing"),
        ("odd.json", '{"version": 1, "handlers": {"h": {"class": "no.Such"}}}', "handler 'h': "),
        ("old.ini", "no sections", "is not a logging configuration: "),
    ],
)
def test_a_logging_configuration_that_is_none_is_one_sentence(name, text, said, tmp_path, log):
    """It names the flag, the file, and what is wrong with it."""
    file = tmp_path / name
    if text is not None:
        file.write_text(text)
    ended = command(
        "serve",
        f"--log_config_file={file}",
        f"--termination_log={log}",
        f"--model_dir={tmp_path}",
        "--http_port=0",
        "--grpc_port=0",
    )

    assert 1 == ended.code
    assert log.read_text().startswith(f"serve: --log_config_file: '{file}' ")
    assert said in log.read_text()


def test_a_model_dir_that_is_a_file_ends_it_at_once(tmp_path, log):
    """With the code of a usage error."""
    file = tmp_path / "model.joblib"
    file.touch()
    ended = command("serve", f"--model_dir={file}", f"--termination_log={log}")

    assert 2 == ended.code
    assert f"serve: --model_dir: '{file}' is not a directory" in log.read_text()
