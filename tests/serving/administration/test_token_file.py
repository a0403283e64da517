"""TokenFile: the token is what the file has now, and a file without one admits nobody."""

import asyncio
import logging
import os
import threading

import pytest

from bundleserver.serving.administration.token_file import TokenFile
from tests.end_to_end.processes import eventually

TOKEN = b"a-long-token-of-ours"
OTHER = b"A-LONG-TOKEN-OF-OURS"  # of the same length
WARNING = "nobody may load or unload until it has a token"


@pytest.fixture
def path(tmp_path):
    """Write a token to a file."""
    path = tmp_path / "token"
    path.write_bytes(TOKEN + b"\n")
    return path


def accepts(file, token=TOKEN):
    """Ask a file of a token."""
    return asyncio.run(file.accepts(token))


@pytest.mark.parametrize(
    "other",
    [
        None,
        b"",
        b" ",
        TOKEN[:-1],
        TOKEN + b"x",
        OTHER,
        TOKEN + b"\x00",
        b"\xff\xfe",
        b"*",
        b"a" * 9999,
    ],
)
def test_only_the_whole_token_is_accepted(path, other):
    """Neither a part of it nor more, no other case, no other bytes."""
    file = TokenFile(path)

    assert accepts(file) is True
    assert accepts(file, other) is False


@pytest.mark.parametrize("written", [TOKEN, b"  " + TOKEN + b"\t\r\n\n", b"\n" + TOKEN])
def test_white_space_around_the_token_does_not_count(path, written):
    """Editors and ``echo`` end a file with a line break."""
    path.write_bytes(written)

    assert accepts(TokenFile(path)) is True


def test_the_mark_that_editors_begin_a_file_with_is_no_part_of_the_token(path, caplog):
    """It is accepted as it stands, and as ``$(cat FILE)`` sends it; a file of it alone is empty."""
    mark = "\ufeff".encode()
    path.write_bytes(mark + TOKEN + b"\r\n")
    file = TokenFile(path)

    assert accepts(file) is True
    assert accepts(file, mark + TOKEN) is True
    assert accepts(file, mark) is False
    assert accepts(file, mark * 2 + TOKEN) is False
    path.write_bytes(mark + b"\n")
    assert accepts(file, mark) is None
    assert accepts(file, b"") is None
    assert "it is empty" in caplog.text


@pytest.mark.parametrize("word", ["schlüssel-für-alle", "ключ-для-всех-нас", "鍵鍵鍵鍵鍵鍵鍵鍵"])
def test_a_token_beyond_ascii_is_compared_as_bytes(path, word):
    """A client sends it in UTF-8, or in Latin-1 where that has its characters."""
    path.write_text(word, encoding="utf-8")
    file = TokenFile(path)

    assert accepts(file, word.encode()) is True
    latin = word.encode("latin-1", "ignore")
    assert accepts(file, latin) is (latin.decode("latin-1") == word)


def test_a_token_that_is_replaced_counts_at_once(path):
    """The old one is refused with the next request, even if size and times are the same."""
    file, facts = TokenFile(path), path.stat()
    assert accepts(file) is True

    with path.open("r+b") as opened:
        opened.write(OTHER)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))

    assert (False, True) == (accepts(file, TOKEN), accepts(file, OTHER))


def test_a_secret_of_kubernetes_is_followed(tmp_path):
    """Its file is a link into a directory that is itself a link, which is swapped."""
    for name, token in (("..1", TOKEN), ("..2", OTHER)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_bytes(token)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "token").symlink_to("..data/token")
    file = TokenFile(tmp_path / "token")
    assert (True, False) == (accepts(file, TOKEN), accepts(file, OTHER))

    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").rename(tmp_path / "..data")

    assert (False, True) == (accepts(file, TOKEN), accepts(file, OTHER))


def nothing(path):
    """Leave no file there."""


def many_bytes(path):
    """Write more than a token may have, the token first."""
    path.write_bytes(TOKEN + b"\n" * 4096)


def directory(path):
    """Make a directory there."""
    path.mkdir()


def unreadable(path):
    """Make a link that leads to itself there."""
    path.symlink_to(path)


UNUSABLE = {
    "missing": (nothing, "No such file"),
    "empty": (lambda path: path.write_bytes(b""), "it is empty"),
    "white space": (lambda path: path.write_bytes(b" \n\t\r\n"), "it is empty"),
    "two lines": (lambda path: path.write_bytes(TOKEN + b"\n" + OTHER), "more than one word"),
    "a comment": (lambda path: path.write_bytes(b"# " + TOKEN), "more than one word"),
    "zero bytes": (lambda path: path.write_bytes(TOKEN + b"\x00"), "control characters"),
    "too long": (many_bytes, "more than 4096 bytes"),
    "a directory": (directory, "Is a directory"),
    "a pipe": (os.mkfifo, "named pipe"),
    "a circle": (unreadable, "Too many levels"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_file_without_a_token_admits_nobody(path, kind, caplog):
    """Whatever takes the file's place closes, and the log says once what it is."""
    caplog.set_level(logging.WARNING)
    make, said = UNUSABLE[kind]
    file = TokenFile(path)
    assert accepts(file) is True

    path.unlink()
    make(path)

    sent = (TOKEN, OTHER, b"", b"\n", None, TOKEN + b"\x00", TOKEN)
    assert [None] * 7 == [accepts(file, token) for token in sent]
    lines = [record.getMessage() for record in caplog.records]
    assert 1 == len(lines)
    assert said in lines[0]
    assert WARNING in lines[0]
    assert TOKEN.decode() not in lines[0]


def test_a_file_that_comes_back_opens_again(path, caplog):
    """A token that vanishes for a while, as while it is replaced, is no restart."""
    caplog.set_level(logging.INFO)
    file = TokenFile(path)
    path.rename(path.with_name("aside"))
    assert accepts(file) is None

    path.with_name("aside").rename(path)

    assert accepts(file) is True
    assert "has a token again" in caplog.messages[-1]


def test_a_short_token_is_told_once(path, caplog):
    """What can be guessed is accepted, with a warning that does not have it."""
    path.write_bytes(b"hunter2")
    file = TokenFile(path)

    assert [True, True] == [accepts(file, b"hunter2") for _ in range(2)]
    assert 1 == len(caplog.messages)
    assert "can be guessed" in caplog.messages[0]
    assert "hunter2" not in caplog.messages[0]


class Hanging(TokenFile):
    """A file on a volume that hangs until it is let go."""

    def __init__(self, path, patience_seconds=0.05):
        self.reads, self.goes_on = 0, threading.Event()
        super().__init__(path, patience_seconds)

    def _read(self):
        self.reads += 1
        found = super()._read()
        assert self.goes_on.wait(20)
        return found


def test_a_volume_that_hangs_admits_nobody_and_holds_up_nothing(path):
    """Requests wait for one read, not each for its own, and the event loop goes on."""
    file = Hanging(path)

    async def ask():
        return await asyncio.gather(*(file.accepts(TOKEN) for _ in range(50)))

    assert [None] * 50 == asyncio.run(ask())
    assert 1 == file.reads
    file.goes_on.set()
    eventually(lambda: accepts(file), "the token is accepted")


def test_a_read_that_had_begun_before_does_not_count(path):
    """A token that is replaced while its file is read is refused by the requests that follow."""
    path.write_bytes(OTHER)
    file = Hanging(path, patience_seconds=20)
    path.write_bytes(TOKEN)

    async def ask():
        asked = [asyncio.ensure_future(file.accepts(token)) for token in (TOKEN, OTHER) * 5]
        await asyncio.sleep(0)
        file.goes_on.set()
        return await asyncio.gather(*asked)

    assert [True, False] * 5 == asyncio.run(ask())
    assert 2 == file.reads


@pytest.mark.parametrize("written", ["\u00a0", " \u2003\n", "\u200b", "\ufeff\u00a0\ufeff"])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_white_space_of_any_alphabet_is_no_token(path, written, encoding):
    """What nobody sees in a file is nothing that anybody has to know."""
    content = written.encode(encoding, "ignore")
    path.write_bytes(content)

    assert accepts(TokenFile(path), content) is None


def test_a_file_that_flips_fills_no_log(path, caplog):
    """Of what is wrong with it there are ten lines at once, whatever comes in between."""
    file = TokenFile(path)
    for _ in range(40):
        for content in (b"short", TOKEN, b""):
            path.write_bytes(content)
            accepts(file)

    assert 5 <= len([it for it in caplog.records if it.levelno >= logging.WARNING]) <= 15
