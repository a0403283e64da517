from __future__ import annotations

import collections
import gzip
import os
import pickle
from pathlib import Path

import cloudpickle
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

from bundleserver.cli import app
from bundleserver.frameworks import pickles
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
