"""The termination message: what Kubernetes shows of a container that ended."""

from __future__ import annotations

import os

import pytest

from bundleserver.serving.stopping import write_termination_message


@pytest.mark.parametrize("character", ["x", "é", "語", "😀"])
@pytest.mark.parametrize("more", range(4))
def test_it_has_at_most_4096_bytes_and_the_beginning(character, more, tmp_path):
    """Kubernetes would show the end of a longer one; no character is cut in two."""
    place = tmp_path / "log"
    place.write_text("of before" * 1000)
    write_termination_message("x" * more + character * 5000, place)

    written = place.read_bytes()
    assert 4088 <= len(written) <= 4096
    assert written.decode().startswith("x" * more + character * 100)


def test_it_is_plain_text(tmp_path):
    """What a file's name or a library put into it commands no terminal and forges no line."""
    place = tmp_path / "log"
    place.touch()
    write_termination_message("a\x1b[2J\nb\u202ec\udcff\0", place)

    assert place.read_text().isprintable()
    assert "a\\x1b[2J b" in place.read_text()


def test_only_a_file_that_is_there_is_written(tmp_path):
    """None is created, and a pipe, a directory or a file of another's is left alone."""
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("none", "directory", "pipe", "no\0name"):
        write_termination_message("why", tmp_path / name)

    assert ["directory", "pipe"] == sorted(it.name for it in tmp_path.iterdir())
