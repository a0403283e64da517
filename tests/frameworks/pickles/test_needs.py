from __future__ import annotations

import collections
import gzip
import os
import pickle
import zipfile
from pathlib import Path

import cloudpickle
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

from bundleserver.cli import app
from bundleserver.errors import LoadError
from bundleserver.frameworks import pickles
from bundleserver.frameworks.pickles import bounded
from bundleserver.frameworks.pickles.needs import needs_below
from bundleserver.frameworks.trust import CodeTrust, PicklePolicy, read_names


@pytest.fixture
def printed(tmp_path: Path) -> str:
    """Lend what 'inspect --pickles' prints for a directory of several kinds of pickles."""
    models = tmp_path / "models"
    models.mkdir()
    (models / "a.pkl.gz").write_bytes(gzip.compress(pickle.dumps(LogisticRegression())))
    (models / "b.pkl").write_bytes(cloudpickle.dumps(lambda value: value))
    (models / "c.pkl").write_bytes(pickle.dumps([os.getcwd, collections.UserDict]))
    (models / "d.pkl").write_bytes(b"\x80\x04\x8c\x10mine\nos.a\nb\nc\n12\x8c\x06system\x93.")
    torch.save([torch.nn.Linear(2, 2)], models / "m.pt")
    done = CliRunner().invoke(app, ["inspect", "--pickles", str(models)])
    assert 0 == done.exit_code, done.output
    return done.output


def test_it_prints_a_file_of_names_for_the_operator(printed: str, tmp_path: Path) -> None:
    """What is printed is a list for --pickle_allow; what is listed, or never can be, is comment."""
    mine = tmp_path / "names.txt"
    mine.write_text(printed)

    assert {"collections.UserDict", "torch.nn.modules.linear.Linear"} <= read_names(mine)
    assert not {name for name in read_names(mine) if name.startswith(("posix", "os", "cloud"))}
    assert "# listed: sklearn.linear_model._logistic.LogisticRegression" in printed
    assert "needs --pickle_policy=any: cloudpickle.cloudpickle._make_function" in printed


def test_a_name_with_line_breaks_adds_no_line(printed: str) -> None:
    """A file cannot write a line of the operator's list by what it calls a class."""
    assert "mine\\nos.a\\nb\\nc\\n12.system" in printed
    assert "os.a" not in printed.splitlines()


@pytest.mark.parametrize("protocol", range(6))
def test_what_inspect_lists_the_gate_opens(protocol: int, tmp_path: Path) -> None:
    """A name that Python 2 had otherwise is listed for whoever asks, as it is for the server."""
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps([{1, 2}, range(3), slice(1)], protocol))

    (needs,) = needs_below(path)
    assert all(needed.is_listed for needed in needs.names), needs
    assert isinstance(pickles.load(path, CodeTrust(PicklePolicy.LISTED)), list)


CALLS = b"cnowhere\nat_all\n(S'x'\ntR."


def zipped(path: Path, members: dict[str, bytes]) -> None:
    """Write an archive."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def test_what_torch_reads_is_shown_behind_any_number_of_members(tmp_path: Path) -> None:
    """The pickle that a load reads is not lost among others, and those left out are counted."""
    zipped(tmp_path / "m.pt", {f"a/{n}.pkl": b"N." for n in range(333)} | {"a/data.pkl": CALLS})

    (needs,) = needs_below(tmp_path / "m.pt")

    assert ["nowhere.at_all"] == [name.name for name in needs.names]
    assert "of its 334 pickles 200 were read" in needs.problem


UNREAD = {
    "another pickle": (b"N." + CALLS, "bytes follow its end"),
    "another pickle, packed": (gzip.compress(b"N." + CALLS), "bytes follow its end"),
    "an extension code": (b"\x80\x02\x83\x07\x01.", "the extension code 263"),
    "a name that is made": (b"\x80\x04cbuiltins\nstr\n)R\x8c\x01a\x93.", "a name is made"),
    "no end": (b"\x80\x04]", "it has no end"),
}


@pytest.mark.parametrize(("data", "why"), UNREAD.values(), ids=UNREAD)
def test_it_says_why_there_may_be_more(data: bytes, why: str, tmp_path: Path) -> None:
    """Where a scan stops, or cannot know a name, the operator reads so, and what a load does."""
    (tmp_path / "m.pkl").write_bytes(data)

    (needs,) = needs_below(tmp_path / "m.pkl")

    assert why in needs.problem
    assert "--pickle_policy=listed opens nothing" in needs.problem


def test_members_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    """Neither a broken member nor the signs of TorchScript hide what an archive names."""
    zipped(tmp_path / "m.pt", {"a/constants.pkl": b"]", "a/data.pkl": CALLS})

    (needs,) = needs_below(tmp_path / "m.pt")

    assert ["nowhere.at_all"] == [name.name for name in needs.names]
    assert "TorchScript" in needs.problem
    assert "it has no end" in needs.problem


@pytest.mark.parametrize("code", [b"]", b"}0", b"(0", b"NN0", b"K\x01"], ids=str)
def test_a_small_file_of_very_many_instructions_is_left(
    code: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instructions count as more than a byte each: following one takes as long as that."""
    monkeypatch.setattr(bounded, "MOST_UNPACKED_BYTES", 1 << 20)
    path = tmp_path / "m.pkl"
    path.write_bytes(gzip.compress(b"\x80\x04" + code * 400_000))

    with pytest.raises(LoadError, match="each counted as 16"):
        pickles.load(path, CodeTrust(PicklePolicy.LISTED))
    (needs,) = needs_below(path)
    assert "each counted as 16" in needs.problem


def test_pickles_of_an_archive_share_their_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many members may take together what one may take."""
    monkeypatch.setattr(bounded, "MOST_UNPACKED_BYTES", 1 << 20)
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for n in range(40):
            archive.writestr(f"a/{n}.pkl", b"]0" * 20_000 + b"N.")

    (needs,) = needs_below(path)

    assert "each counted as 16" in needs.problem
