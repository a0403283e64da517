"""What is refused at the start: a log that could not be written."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bundleserver.errors import ConfigError, FrameworkError
from bundleserver.serving.payload_log import starting
from bundleserver.serving.payload_log.starting import check_log


def test_the_directory_is_created(tmp_path):
    """For the server's user and its group, with those above it; nothing is left in it."""
    check_log(tmp_path / "a" / "log", tmp_path / "models")

    assert [] == list((tmp_path / "a" / "log").iterdir())
    assert 0 == os.stat(tmp_path / "a" / "log").st_mode & 0o007  # noqa: PTH116


def test_a_directory_that_cannot_be_written_is_refused(tmp_path):
    """The message says which, why, and what is usual."""
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError) as raised:
        check_log(tmp_path / "file" / "log", None)

    assert str(raised.value).startswith(
        f"serve: --log_requests: '{tmp_path}/file/log' cannot be written: "
    )
    assert "fsGroup" in str(raised.value)


@pytest.mark.parametrize("inside", [".", "log", "fraud/../log"])
def test_a_directory_among_the_models_is_refused(tmp_path, inside):
    """Its folders would be served as models."""
    with pytest.raises(ConfigError, match="lies in --model_dir"):
        check_log(tmp_path / inside, tmp_path)


def test_a_directory_around_the_models_is_refused(tmp_path):
    """Readers would find whatever files the models have."""
    with pytest.raises(ConfigError, match="has --model_dir in it"):
        check_log(tmp_path, tmp_path / "models")


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    """Before anything is loaded."""
    monkeypatch.setattr(starting, "find_spec", lambda name: None)

    with pytest.raises(FrameworkError, match=r"pip install 'bundleserver\[batch\]'"):
        check_log(tmp_path, None)


def test_a_server_without_the_flag_does_not_import_pyarrow():
    """It takes time and memory."""
    script = "import sys, bundleserver.serving.server; print('pyarrow' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert "False" == ended.stdout.strip()
