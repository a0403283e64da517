"""What commands print of names from outside commands no terminal, and a hang-up may be ignored."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import typer.rich_utils  # noqa: F401  # it reads FORCE_COLOR once, when it is imported
from sklearn.dummy import DummyRegressor

from bundleserver import cli
from bundleserver.commands import asking, console
from bundleserver.store import BundleStore
from bundleserver.versions.comparison import OutputDifference, SideBySide
from tests.end_to_end.processes import BUNDLESERVER, environment

MODEL = DummyRegressor(strategy="constant", constant=[7.0]).fit([[0.0]], [7.0])
ODD = "a[/b][red]\x1b]0;X\x07\u202e\u2028\nerror: forged"
ONE_NAME = ODD.replace("/", "")
FORGED = ("\x1b]0", "\x07", "\u202e", "\u2028", "\nerror: forged", "Traceback", "error: unexpected")


@pytest.fixture
def said(monkeypatch, capfd):
    """Return a function that runs a command on a terminal, and returns what it said."""
    # rich then behaves as on a terminal: colours, a title of its own, a progress indicator.
    monkeypatch.setenv("FORCE_COLOR", "1")

    def run(*words: object) -> str:
        with pytest.raises(SystemExit):
            cli.main([*map(str, words)])
        out, err = capfd.readouterr()
        return str(out + err)

    return run


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Make a bundle of an odd name, with an odd file beside its model."""
    directory = tmp_path / ONE_NAME
    directory.mkdir()
    joblib.dump(MODEL, directory / "model.joblib")
    (directory / f"{ONE_NAME}.txt").touch()
    return directory


COMMANDS = {
    "no command": [ODD],
    "no flag": [f"--{ODD}"],
    "no option": ["validate", f"--{ODD}"],
    "too many words": ["validate", "x", ODD],
    "not there": ["validate", ODD],
    "no address": ["inspect", "--url", f"http://{ODD}"],
    "nothing to publish": ["publish", ODD, ODD],
    "nothing to push": ["push", ODD, ODD],
    "nothing to register": ["push", ODD, "models:/a"],
    "nothing to pull": ["pull", ODD, ODD],
    "no version": ["compare", "DIR", ODD, ODD, "--input", ODD],
    "no input": ["predict", "DIR", "--input", ODD],
    "no device": ["validate", "DIR", "--device", ODD],
    "no name": ["init", "DIR", "--name", ODD],
    "no label": ["promote", "DIR", ODD, "--label", ODD],
    "no number": ["split", "DIR", ODD],
    "not back": ["rollback", "DIR", "--to", ODD],
    "inspect": ["inspect", "DIR"],
    "validate": ["validate", "DIR"],
    "init": ["init", "DIR"],
    "publish": ["publish", "DIR", "DIR/../store/m"],
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=[*COMMANDS])
def test_names_command_no_terminal(said, bundle, monkeypatch, words):
    """Whatever a name holds, each command prints it escaped, and as no markup of the table's."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    text = said(*[word.replace("DIR", str(bundle)) for word in words])

    assert [] == [forged for forged in FORGED if forged in text]


def test_a_title_commands_no_terminal(monkeypatch, capfd):
    """The name of a model of an unknown server is escaped above its table, too."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    states = [{"version": ODD, "reason": ODD}]
    asking.print_server([{"name": ODD, "default_version": ODD, "states": states}])
    with console.working(ODD):
        pass

    text = "".join(capfd.readouterr())
    assert "[/b][red]\\x1b" in text
    assert [] == [forged for forged in FORGED if forged in text]


@pytest.mark.parametrize("name", ["\x7f", "\x9b", "\U000e0001", "\u202e"])
def test_json_of_invisible_characters_is_json(capfd, name):
    """A document is escaped as JSON escapes, whichever command prints it."""
    console.say_json_text(json.dumps({name: 1}, ensure_ascii=False))

    text = capfd.readouterr().out
    assert {name: 1} == json.loads(text)
    assert text.rstrip("\n").isprintable()


def test_a_name_is_no_formula_in_a_plot(tmp_path):
    """A dollar sign in the name of a model or an output is drawn as it is."""
    pytest.importorskip("matplotlib")
    from bundleserver.commands.comparison_plot import draw

    values = np.array([1.0, 2.0])
    found = SideBySide(("v1", "v2"), 1, 1)
    found.outputs["$x_$"] = OutputDifference(values=2)
    found.points["$x_$"] = [(values, values)]
    for seconds in found.seconds:
        seconds.append(0.1)

    draw(found, "$\\frac$", tmp_path / "plot.png")

    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.timeout(120)
def test_a_command_that_is_to_outlive_its_terminal_goes_on(tmp_path):
    """Under nohup a hang-up is ignored; SIGTERM ends it as ever."""
    bundle, gate = tmp_path / "bundle", tmp_path / "gate"
    bundle.mkdir()
    joblib.dump(MODEL, bundle / "model.joblib")
    os.mkfifo(gate)
    # As nohup does it.
    ignoring = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
    start = [sys.executable, "-c", ignoring + "os.execv(sys.argv[1], sys.argv[1:])"]
    command = [*start, *BUNDLESERVER, "predict", str(bundle), "--input", str(gate)]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE) as predicting:
        try:
            with gate.open("wb") as writer:  # opens once the command reads
                predicting.send_signal(signal.SIGHUP)
                writer.write(b'{"instances": [[1.0]]}')
            out = predicting.communicate(timeout=60)[0]
        finally:
            predicting.kill()

    assert 0 == predicting.returncode
    assert {"predictions": [7.0]} == json.loads(out)


def test_a_store_of_odd_names_is_shown(said, tmp_path):
    """A model beside one of an odd name is listed."""
    BundleStore(tmp_path).save("good", MODEL)
    (tmp_path / ONE_NAME / "v1").mkdir(parents=True)

    text = said("inspect", tmp_path)

    assert "good" in text
    assert "invisible characters" in text
    assert [] == [forged for forged in FORGED if forged in text]
