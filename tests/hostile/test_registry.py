"""Downloads from a registry are as long as announced."""

import threading

import pytest

from bundleserver.errors import IntegrityError
from bundleserver.sources.registry.exact import download_exactly


def writes(*pieces):
    """Make a download that writes these pieces, and says when its reader was gone."""
    gone = threading.Event()

    def download(path):
        with open(path, "wb") as file:  # noqa: PTH123  # as MLflow does
            try:
                for piece in pieces:
                    file.write(piece)
                    file.flush()
            except OSError:
                gone.set()
                raise

    return download, gone


@pytest.mark.parametrize("pieces", [[], [b"abc"], [b"a", b"", b"bc" * 700_000]])
def test_a_download_of_the_announced_size_is_written_whole(tmp_path, pieces):
    """Whatever its pieces are."""
    whole = b"".join(pieces)
    download, _ = writes(*pieces)

    download_exactly(download, tmp_path / "file", len(whole), "file", "'m' version 1")

    assert whole == (tmp_path / "file").read_bytes()


def test_a_download_without_an_end_is_cut_off_at_the_announced_size(tmp_path):
    """The library's own writing fails, so that it leaves the connection."""
    download, gone = writes(*[b"x" * 1_000_000] * 50)

    with pytest.raises(IntegrityError, match="more than the announced 1500 bytes"):
        download_exactly(download, tmp_path / "file", 1500, "model.joblib", "'m' version 1")

    assert gone.is_set()
    assert (tmp_path / "file").stat().st_size <= 1500


def test_an_error_of_the_library_or_of_the_disk_is_passed_on(tmp_path):
    """Neither is taken for a download that is too long."""

    def refused(path):
        raise ConnectionRefusedError("refused")

    with pytest.raises(ConnectionRefusedError):
        download_exactly(refused, tmp_path / "file", 10, "file", "'m' version 1")
    with pytest.raises(FileNotFoundError):
        download_exactly(writes(b"abc")[0], tmp_path / "no" / "file", 3, "file", "'m' version 1")
