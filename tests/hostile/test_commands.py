"""Commands end in bounded time, with one clean line, and write only where they are told to."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import joblib
import pytest
from sklearn.dummy import DummyRegressor

from bundleserver import cli
from bundleserver.commands import asking, bundles, console
from bundleserver.documents.bounded_yaml import parse_yaml
from bundleserver.documents.printable import printable, shell_word
from bundleserver.errors import (
    BundleError,
    BundleServerError,
    ConfigError,
    ManifestError,
    SourceError,
    StoreError,
)
from bundleserver.manifest import Manifest
from bundleserver.settings import Settings
from bundleserver.sources.layouts import shown_names
from bundleserver.store import BundleStore, copying
from tests.end_to_end.processes import BUNDLESERVER, command, environment, eventually, running

MODEL = DummyRegressor(strategy="constant", constant=[7.0]).fit([[0.0]], [7.0])
ESCAPE = "\x1b"
MANIFEST = {
    "format": "bundle/v1",
    "components": {"model": {"framework": "sklearn", "path": "model.pkl"}},
}


class Runs:
    """A pickled object that runs code when it is opened."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        return exec, (self.code,)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Make a directory with one model."""
    directory = tmp_path / "bundle"
    directory.mkdir()
    joblib.dump(MODEL, directory / "model.joblib")
    return directory


@pytest.fixture
def store(tmp_path: Path) -> BundleStore:
    """Make a store without models."""
    return BundleStore(tmp_path / "store")


def _link_to_zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = os.open(path.parent, os.O_RDONLY)
        made.bind(f"/proc/self/fd/{here}/{path.name}")
        os.close(here)


def _pipe_below(path: Path) -> None:
    path.mkdir()
    os.mkfifo(path / "below")


@pytest.mark.parametrize("make", [_link_to_zero, os.mkfifo, _socket, _pipe_below])
def test_what_is_no_file_is_refused_before_anything_is_copied(bundle, store, monkeypatch, make):
    """A device, a pipe or a socket ends a publish that has copied nothing, and leaves nothing."""
    make(bundle / "odd")
    monkeypatch.setattr(copying, "copy_file", lambda *_: pytest.fail("a byte was copied"))

    with pytest.raises(StoreError, match="has only files and directories"):
        store.publish(bundle, "fraud")

    assert [] == [*store.path("fraud").iterdir()]


def test_what_has_no_room_is_refused_with_both_numbers(bundle, store):
    """A file of many terabytes that takes no room where it is never fills a disk."""
    with (bundle / "notes.bin").open("wb") as file:
        file.truncate(9 << 40)

    with pytest.raises(StoreError, match=r"has 98956\d+ bytes, and .* has room for \d+"):
        store.publish(bundle, "fraud")

    assert [] == [*store.path("fraud").iterdir()]


def test_a_hole_in_a_file_stays_one(bundle, store):
    """A published copy is the same to the byte and takes no more room."""
    with (bundle / "notes.bin").open("wb") as file:
        file.seek(50 << 20)
        file.write(b"in the middle")
        file.truncate(100 << 20)

    version = store.publish(bundle, "fraud")

    copy = store.path("fraud", version) / "notes.bin"
    assert (bundle / "notes.bin").stat().st_blocks >= copy.stat().st_blocks
    assert 100 << 20 == copy.stat().st_size
    with copy.open("rb") as file:
        file.seek(50 << 20)
        assert b"in the middle\0" == file.read(14)


def test_a_file_of_another_size_than_announced_is_refused(bundle, store):
    """What says that it has no bytes, and has some, is not copied as an empty file."""
    (bundle / "status").symlink_to("/proc/self/status")

    with pytest.raises(StoreError, match="changed while it was copied"):
        store.publish(bundle, "fraud")


def test_the_number_of_files_is_bounded(bundle, store, monkeypatch):
    """A directory of endless names is refused."""
    monkeypatch.setattr(copying, "MOST_ENTRIES", 3)
    for number in range(4):
        (bundle / f"notes-{number}.txt").touch()

    with pytest.raises(StoreError, match="more than 3 files"):
        store.publish(bundle, "fraud")


def test_what_is_beyond_the_most_files_is_not_even_listed(tmp_path, monkeypatch):
    """A directory of millions of names takes no memory for them, and what is left behind no place.

    Names of Kubernetes' own files count for nothing either.
    """
    source, target, asked = tmp_path / "bundle", tmp_path / "copy", []
    source.mkdir()
    target.mkdir()
    for number in range(40):
        (source / f"notes-{number}.txt").touch()
        (source / f"..data-{number}").touch()
        (source / f"skipped-{number}").touch()

    def left_behind(_directory: str, names: list[str]) -> set[str]:
        asked.extend(name for name in names if name.startswith("notes"))
        return {name for name in names if name.startswith("skipped")}

    monkeypatch.setattr(copying, "MOST_ENTRIES", 39)
    with pytest.raises(StoreError, match="more than 39 files"):
        copying.copy_bundle(source, target, left_behind)
    assert 40 == len(asked)

    monkeypatch.setattr(copying, "MOST_ENTRIES", 3)
    asked.clear()
    with pytest.raises(StoreError, match="more than 3 files"):
        copying.copy_bundle(source, target, left_behind)
    assert 4 == len(asked)

    monkeypatch.setattr(copying, "MOST_ENTRIES", 40)
    copying.copy_bundle(source, target, left_behind)
    assert {f"notes-{number}.txt" for number in range(40)} == {
        path.name for path in target.iterdir()
    }


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.timeout(120)
def test_a_publish_that_is_ended_removes_what_it_copied(tmp_path, store, number):
    """SIGTERM, Ctrl-C and a closed terminal leave no hidden directory behind."""
    source, gate = tmp_path / "bundle", tmp_path / "gate"
    source.mkdir()
    os.mkfifo(gate)
    (source / "model.pkl").write_bytes(pickle.dumps(Runs(f"open({str(gate)!r}).read()")))
    (source / "manifest.json").write_text(json.dumps(MANIFEST))
    publishing = subprocess.Popen(
        [*BUNDLESERVER, "publish", str(source), str(store.path("fraud"))],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        # nohup, and a shell's background jobs, have what they start ignore it.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    # A pipe opens for writing once something reads it, which is the model in its copy; it reads on
    # until the other end is closed.
    ends = []
    writer = threading.Thread(target=lambda: ends.append(gate.open("wb", buffering=0)), daemon=True)
    with publishing:
        try:
            eventually(lambda: [*tmp_path.glob("store/fraud/.staging-*/model.pkl")], "it copied")
            writer.start()
            writer.join(60)
            publishing.send_signal(number)
            said = publishing.communicate(timeout=60)[1]
        finally:
            publishing.kill()

    # A shell says 128 and the number of both; Python ends so where exec saw the interrupt.
    assert publishing.returncode in (128 + number, -number), said
    assert "Traceback" not in said
    assert [] == [*store.path("fraud").iterdir()]


@pytest.mark.parametrize("link", ["symlink", "hardlink"])
def test_a_lock_that_leads_out_of_the_store_changes_nothing_there(tmp_path, store, link):
    """A file outside keeps its mode and content, and the roll-back is made anyway."""
    for _ in range(2):
        store.save("fraud", MODEL)
    outside = tmp_path / "outside"
    outside.write_text("secret")
    outside.chmod(0o600)
    lock = store.path("fraud") / ".serving.lock"
    lock.unlink(missing_ok=True)
    lock.symlink_to(outside) if link == "symlink" else lock.hardlink_to(outside)

    config = store.rollback("fraud", "v1")

    assert "v1" == config.default
    assert 0o600 == stat.S_IMODE(outside.stat().st_mode)
    assert "secret" == outside.read_text()


def test_a_pipe_in_the_place_of_the_lock_does_not_hold_up_a_change(store):
    """Nothing waits for a pipe that nobody writes to."""
    store.save("fraud", MODEL)
    lock = store.path("fraud") / ".serving.lock"
    lock.unlink(missing_ok=True)
    os.mkfifo(lock)

    assert "v1" == store.promote("fraud", "v1").default


@pytest.mark.parametrize("name", [".manifest.json", "manifest.json"])
def test_no_manifest_is_written_through_a_link(tmp_path, bundle, store, name):
    """Neither init nor publish creates or changes what a link in a bundle leads to."""
    (bundle / name).symlink_to(tmp_path / "outside")

    command("init", bundle, "--force")
    with contextlib.suppress(BundleServerError):
        store.publish(bundle, "fraud")

    assert not (tmp_path / "outside").exists()


def test_links_in_the_place_of_staging_directories_are_removed_and_not_followed(tmp_path, store):
    """Clearing what killed writers left behind touches nothing outside."""
    outside = tmp_path / "outside"
    (outside / "kept").mkdir(parents=True)
    store.path("fraud").mkdir(parents=True)
    link = store.path("fraud") / ".staging-old"
    link.symlink_to(outside)
    os.utime(link, (0, 0), follow_symlinks=False)

    store.save("fraud", MODEL)

    assert (outside / "kept").is_dir()
    assert not link.is_symlink()


@pytest.mark.parametrize(
    "text", ['!!int ""', '!!float ""', "!!timestamp soon", "!!bool perhaps", "2001-99-99"]
)
def test_a_yaml_value_that_is_not_what_it_says_is_an_error_of_the_document(text):
    """Whatever the library raises for it."""
    with pytest.raises(ValueError, match=r"."):
        parse_yaml(f"a: {text}")


class EvilServer:
    """A server of one answer, whatever it is asked."""

    def __init__(self, answer: bytes, goes_on: bytes = b"") -> None:
        self._answer, self._goes_on = answer, goes_on
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._ended = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._ended.set()
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = self._listening.accept()[0]
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.recv(9999)
            connection.sendall(self._answer)
            while self._goes_on and not self._ended.wait(0.01):
                connection.sendall(self._goes_on)


@contextlib.contextmanager
def _evil(answer: bytes, goes_on: bytes = b"") -> Iterator[str]:
    server = EvilServer(answer, goes_on)
    try:
        yield server.url
    finally:
        server.close()


def _http(document: object) -> bytes:
    body = json.dumps(document).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


ANSWERS = {
    "no HTTP": b"\x1b[31mNOPE\r\n\r\n",
    "nothing": b"",
    "short": b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{}",
    "short error": b"HTTP/1.1 503 \x1b[31mNo\r\nContent-Length: 500\r\n\r\n{}",
    "bad chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\x1b[2J\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 500 + b"\r\n",
    "elsewhere": b"HTTP/1.1 302 F\r\nLocation: file:///etc/hostname\r\nContent-Length: 0\r\n\r\n",
    "deep": b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 200_000,
    "another list": _http([{"name": "\x1b[31m"}]),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=[*ANSWERS])
def test_a_server_that_answers_oddly_is_one_clean_error(answer):
    """Whatever comes over HTTP, asking ends with our own error and without control characters."""
    with _evil(answer) as url, pytest.raises(SourceError) as caught:
        asking.ask_server(url)

    assert printable(str(caught.value)) == str(caught.value)


ODD_MODELS = [
    {"models": ["m"], "name": 5, "traffic": {"shares": {"1": "x"}}, "default_version": "1"},
    {"models": ["m"], "traffic": {"shadow": [{}]}},
    {"models": ["m"], "traffic": {"shadow": [{"version": 1, "compared_with": 2, "copies": 3}]}},
    {"models": [{}], "error": ["\x1b[31m"]},
]


@pytest.mark.parametrize("document", ODD_MODELS)
def test_documents_of_no_bundleserver_are_one_clean_error(document, capsys):
    """Fields of other types than ours are told, never a traceback or a control character."""
    with _evil(_http(document)) as url, contextlib.suppress(SourceError):
        asking.print_server(*asking.ask_server(url))

    assert ESCAPE not in capsys.readouterr().out


def test_an_answer_without_an_end_ends_at_a_size(monkeypatch):
    """A server that sends for ever is told off for it."""
    monkeypatch.setattr(asking, "_MOST_BYTES", 1 << 16)
    with (
        _evil(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 65536) as url,
        pytest.raises(SourceError, match="65536 bytes"),
    ):
        asking.ask_server(url)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"H"])
def test_an_answer_that_trickles_ends_at_a_deadline(monkeypatch, head):
    """Neither a body nor a head that comes byte by byte holds up a command for longer."""
    monkeypatch.setattr(asking, "_ANSWER_SECONDS", 0.3)
    with _evil(head, b" ") as url, pytest.raises(SourceError, match=r"within 0\.3 s"):
        asking.ask_server(url)


def test_an_input_without_an_end_is_refused(bundle, tmp_path, monkeypatch):
    """A device that never ends is an error with the limit; a pipe is read as a file is."""
    monkeypatch.setattr(bundles, "MOST_INPUT_BYTES", 1 << 20)
    with pytest.raises(BundleError, match="more than 1048576 bytes"):
        bundles.read_requests_file("/dev/zero")

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b'{"instances": [[1.0]]}',))
    writer.start()
    assert b'{"instances": [[1.0]]}' == bundles.read_requests_file(str(pipe))
    writer.join()


@pytest.mark.parametrize("error", [RuntimeError("\x1b[31mred\nerror: forged"), MemoryError()])
def test_what_nobody_expects_is_one_line(monkeypatch, capsys, error):
    """The last resort of every command escapes, and tells where it was."""

    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)

    with pytest.raises(SystemExit) as ended:
        cli.main(["schema"])

    said = capsys.readouterr().err
    assert 1 == ended.value.code
    assert re.fullmatch(r"error: unexpected \w+Error \(test_commands\.py:\d+\): .+\n", said)
    assert ESCAPE not in said


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e300, 10**30])
def test_every_number_of_the_settings_has_a_range(value):
    """No flag takes what is no number, or one that no machine has."""
    numbers = [
        field.name
        for field in fields(Settings)
        if "int" in str(field.type) or "float" in str(field.type)
    ]
    taken = []
    for name in sorted({*numbers} - {"traffic"}):
        with contextlib.suppress(ConfigError):
            Settings(**{name: value})
            taken.append(name)

    assert [] == taken


@pytest.mark.parametrize("path", ["a/" * 3000 + "b", "n" * 300, "ä" * 150])
def test_a_path_that_no_file_may_have_is_a_problem_of_the_manifest(path):
    """Whatever is longer than file systems allow is refused before anybody looks for it."""
    document = {
        "format": "bundle/v1",
        "components": {"model": {"framework": "sklearn", "path": path}},
    }
    with pytest.raises(ManifestError, match="at most 1024 bytes"):
        Manifest.from_json(json.dumps(document), "manifest.json")


def test_no_two_names_are_shown_alike():
    """A name with a backslash is not taken for one with the character that it stands for."""
    names = ["a\n", "a\\n", "a\\n\n", "a\n\\n", "b", "a\\n\\n (2)"]

    shown = shown_names(names)

    assert len(names) == len({*shown.values()})
    assert ("a\\n", "b") == (shown["a\\n"], shown["b"])
    assert all(text == printable(text) for text in shown.values())


@pytest.mark.parametrize(
    "name", [b"sp ace", b"it's", b"q?x=1#f", b"$(x);&", b"\xff\x1b[31m'\\n", b"nl\nx", b"{a,b}*"]
)
def test_a_name_in_a_suggested_command_is_one_word_for_a_shell(name):
    """What a message suggests can be copied into a shell, whatever the directory is called."""
    word = shell_word(os.fsdecode(name))

    said = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True)

    assert name == said.stdout
    assert printable(word) == word


def test_json_of_names_that_are_no_text_is_json(capsys):
    """A file's name in any bytes, and a number of any size, come out as JSON."""
    console.say_json({"file": os.fsdecode(b"a\xff"), "number": 10**40})

    assert {"file": "a\udcff", "number": 10**40} == json.loads(capsys.readouterr().out)


WHAT_PYTHON_SAYS = """
import threading, warnings
def fail():
    raise ValueError('\\x1b[31mred\\n2026-01-01 00:00:00.000 ERROR forged')
class Dies:
    def __del__(self):
        raise ValueError('\\x1b[31mred')
warnings.warn('\\x1b[31mwarned\\n2026-01-01 00:00:00.000 ERROR forged')
Dies()
started = threading.Thread(target=fail)
started.start()
started.join()
raise ValueError('the end')
"""


@pytest.mark.timeout(120)
def test_what_python_says_of_a_models_code_reaches_the_log_escaped(tmp_path):
    """Warnings and errors of threads and destructors forge no line and command no terminal."""
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "model.pkl").write_bytes(pickle.dumps(Runs(WHAT_PYTHON_SAYS)))
    (tmp_path / "odd" / "manifest.json").write_text(json.dumps(MANIFEST))

    with running(tmp_path) as server:
        server.wait_for_reason("odd", "the end")
    validated = command("validate", tmp_path / "odd")

    for said in (server.log, validated.err):
        assert "warned" in said
        assert 2 <= said.count("ValueError: \\x1b[31mred")
        assert ESCAPE not in said
        assert not re.search(r"^(2026-01-01|Traceback)", said, re.MULTILINE)
