"""Odd files in a volume are their own model's trouble, told in clean and bounded words."""

from __future__ import annotations

import os
import pickle
import re
import socket
from collections.abc import Callable
from pathlib import Path

import joblib
import pytest
from sklearn.dummy import DummyRegressor

from tests.end_to_end.processes import command, eventually, running

MODEL = DummyRegressor(strategy="constant", constant=[2.0]).fit([[0.0]], [2.0])
FORGED = "2026-01-01 00:00:00.000 ERROR forged"
BODY = {"instances": [[1.0]]}
HASH_BOMB = b"\x80\x04})" + b"2\x86" * 60 + b"K\x01s."


def _name(make: Callable[..., None]) -> str:
    return make.__name__.strip("_")


def _version(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    joblib.dump(MODEL, directory / "model.joblib")
    return directory


def _fifo_manifest(model: Path) -> None:
    (model / "v1").mkdir(parents=True)
    os.mkfifo(model / "v1" / "manifest.json")


def _socket_manifest(model: Path) -> None:
    _version(model / "v1")
    with socket.socket(socket.AF_UNIX) as made:
        # The whole path would be too long for a socket.
        here = os.open(model / "v1", os.O_RDONLY)
        made.bind(f"/proc/self/fd/{here}/manifest.json")
        os.close(here)


def _large_manifest(model: Path) -> None:
    _version(model / "v1")
    (model / "v1" / "manifest.json").write_bytes(b'{"format": "bundle/v1"}' + b" " * (5 << 20))


def _deep_manifest(model: Path) -> None:
    _version(model / "v1")
    (model / "v1" / "manifest.json").write_bytes(b"[" * 900_000 + b"]" * 900_000)


def _many_problems(model: Path) -> None:
    _version(model / "v1")
    components = ",".join(f'"\\u001b{number}": 1' for number in range(900))
    text = f'{{"format": "bundle/v1", "components": {{{components}}}}}'
    (model / "v1" / "manifest.json").write_text(text)


def _fifo_model_file(model: Path) -> None:
    (model / "v1").mkdir(parents=True)
    os.mkfifo(model / "v1" / "model.pkl")


def _endless_model_file(model: Path) -> None:
    (model / "v1").mkdir(parents=True)
    (model / "v1" / "model.pkl").symlink_to("/dev/zero")


def _fifo_component(model: Path) -> None:
    (model / "v1").mkdir(parents=True)
    os.mkfifo(model / "v1" / "model.pkl")
    manifest = '{"format": "bundle/v1", "components": {"m": {"framework": "sklearn", "path": '
    (model / "v1" / "manifest.json").write_text(manifest + '"model.pkl"}}}')


def _nested_fifo(model: Path) -> None:
    (model / "v1" / "inner").mkdir(parents=True)
    os.mkfifo(model / "v1" / "inner" / "manifest.json")
    manifest = '{"format": "bundle/v1", "components": {"m": {"framework": "bundle", "path": '
    (model / "v1" / "manifest.json").write_text(manifest + '"inner"}}}')


def _hash_bomb(model: Path) -> None:
    (model / "v1").mkdir(parents=True)
    (model / "v1" / "model.pkl").write_bytes(HASH_BOMB)


ODD = {
    _fifo_manifest: "named pipe",
    _socket_manifest: "a socket",
    _large_manifest: "may have 4194304",
    _deep_manifest: "nested deeper than",
    _many_problems: "900 problems: .*and 880 more",
    _fifo_model_file: "not a regular file",
    _endless_model_file: "regular file|outside of",
    _fifo_component: "no regular file",
    _nested_fifo: "named pipe|has no manifest|cannot be read",
    _hash_bomb: "cannot be inspected within the limits",
}


def _put_names(root: Path) -> None:
    """Put names that forge lines of a log and commands of a terminal wherever a name may be."""
    odd = f"\n{FORGED}\x1b[2J\x9b31m\u202e\u2028\r"
    joblib.dump(MODEL, _version(root / "names" / "v1") / f"a{odd}.joblib")
    (root / "names" / "v1" / f"b{odd}").symlink_to("/etc")
    _version(root / f"model{odd}"[:60] / "v1")
    (_version(root / "conf" / "v1").parent / "serving.json").write_text(
        f'{{"policy": "x\\n{FORGED}\\u001b[2J", "labels": {{"\\u202e": "v1"}}}}'
    )
    (root / "conf" / "3\x1b[2J").mkdir()


def _index(server) -> dict[str, str]:
    """Return what is said of each model."""
    entries = server.post("/v2/repository/index").json()
    return {entry["name"]: str(entry.get("reason", "")) for entry in entries}


def test_an_odd_file_is_its_own_models_trouble(tmp_path):
    """Whatever lies in place of a file, other models go on, and the reason says what it is."""
    root = tmp_path / "models"
    _version(root / "good" / "v1")
    for make in ODD:
        make(root / _name(make))
    (root / "good" / "v3").symlink_to(root / "good" / "v3")
    os.mkfifo(root / "good" / "v4")
    os.mkfifo(root / "good" / ".canary.json")
    with running(root) as server:
        server.wait_until_ready("good", "v1")
        for make, words in ODD.items():
            eventually(
                lambda make=make, words=words: re.search(words, server.reason(_name(make))),
                f"{_name(make)} is refused for {words!r}: {_index(server)}",
            )
        _version(root / "good" / "v2")
        server.wait_until_ready("good", "v2")
        answer = server.predict("good", BODY, "v2")
        reasons = _index(server)

    assert [2.0] == answer.json()["predictions"]
    assert all(len(reason) < 2_000 for reason in reasons.values())
    assert "Traceback" not in server.log


def test_names_neither_forge_lines_nor_command_a_terminal(tmp_path):
    """Control characters in names and configurations are escaped in logs, index and metrics."""
    root = tmp_path / "models"
    _version(root / "good" / "v1")
    _put_names(root)
    with running(root) as server:
        server.wait_until_ready("good")
        server.wait_until_ready("conf")
        eventually(lambda: len(_index(server)) == 4, f"all are listed: {_index(server)}")
        texts = [server.post("/v2/repository/index").text, server.get("/metrics").text]
        log = server.log
    said = command("inspect", root / "names")
    checked = command("validate", root / "conf")

    assert not re.search(f"(?m)^{FORGED}", log)
    for text in (log, *texts, said.out, said.err, checked.out, checked.err):
        assert not re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]", text)


@pytest.mark.parametrize("word", ["inspect", "init", "validate"])
def test_a_command_refuses_a_bomb_at_once(tmp_path, word):
    """A pickle of a few bytes holds up no command: it is refused by name, without a traceback."""
    (tmp_path / "model.pkl").write_bytes(HASH_BOMB)

    ended = command(word, tmp_path)

    said = ended.out + ended.err
    assert "Traceback" not in said
    assert re.search(r"model\.pkl' cannot be inspected within\s+the limits", said)


def test_a_pickle_that_announces_gigabytes_is_refused(tmp_path):
    """What a file says to have and has not is told, before memory is taken for it."""
    (tmp_path / "model.pkl").write_bytes(b"\x80\x05\x96" + b"\xff" * 4 + b"\0" * 4 + b"x.")

    ended = command("validate", tmp_path)

    assert 1 == ended.code
    assert "is truncated or damaged (it ends 4294967293 bytes too early)" in ended.out


def test_a_good_pickle_is_no_bomb(tmp_path):
    """A vocabulary of hundreds of thousands of words is inspected to its end, compressed too."""
    from bundleserver.frameworks import pickles

    words = {f"word{number}": number for number in range(200_000)}
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(words))
    joblib.dump(words, tmp_path / "small.joblib", compress=3)

    assert pickles.held_in(tmp_path / "plain.pkl").is_plain
    assert pickles.held_in(tmp_path / "small.joblib").is_plain
