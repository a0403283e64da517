"""The demo, run as a user runs it: one process that ends, and what it shows and writes."""

from __future__ import annotations

import json
import re
import signal
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo.py"
ENDS_WITHIN_SECONDS = 240
FOREST = "predictive-analytics · V1"
LEGACY = "predictive-analytics-legacy · V1"
ARIMA = "arima-predictor · V2"
PROPHET = "prophet-predictor · V1"
LSTM = "lstm-predictor · V2, with a binary tensor"
ENSEMBLE = "ensemble-predictor · gRPC, with KServe's client (as a command: grpcurl)"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Run:
    """One run of the demo with ``--once``."""

    directory: Path
    exit_code: int
    output: str

    def part(self, heading: str) -> str:
        """Return what was printed under a heading."""
        parts = re.split(r"^(.+) ─+$", self.output, flags=re.MULTILINE)
        return dict(zip(parts[1::2], parts[2::2], strict=True))[heading]

    def answer(self, heading: str) -> Any:
        """Return the answer that was printed under a heading, between command and meaning."""
        after_command = self.part(heading).partition("\n$ ")[2].partition("\n")[2]
        return json.loads(after_command.partition("→")[0])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run the demo once for all tests that only look at what it left."""
    directory = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, DEMO, "--once", "--directory", directory],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=ENDS_WITHIN_SECONDS,
        check=False,
    )
    return Run(directory, done.returncode, done.stdout)


def test_demo_once_ends_with_success(run: Run) -> None:
    """With ``--once`` the demo stops after the answers, with exit code 0."""
    assert 0 == run.exit_code, run.output
    assert run.output.endswith("the server has stopped\n")


@pytest.mark.parametrize(
    ("heading", "command", "meaning"),
    [
        (
            FOREST,
            r"curl -s http://127.0.0.1:\d+/v1/models/predictive-analytics:predict -d '{.+}'",
            "1983: unusual, 1990: usual, 1992: ",
        ),
        (
            LEGACY,
            r"curl -s http://127.0.0.1:\d+/v1/models/predictive-analytics-legacy:predict -d '{.+}'",
            "1983: unusual, 1990: usual, 1992: ",
        ),
        (
            ARIMA,
            r"curl -s http://127.0.0.1:\d+/v2/models/arima-predictor/infer -d '{.+}'",
            "the most are expected in 1991: ",
        ),
        (
            PROPHET,
            r"curl -s http://127.0.0.1:\d+/v1/models/prophet-predictor:predict -d '{.+}'",
            "2001-12: 37",
        ),
        (
            LSTM,
            r"curl -s http://127.0.0.1:\d+/v2/models/lstm-predictor/infer "
            r"-H 'Inference-Header-Content-Length: \d+' --data-binary @\S+",
            "1983: unusual, 1990: usual, 1992: ",
        ),
        (
            ENSEMBLE,
            r"grpcurl -plaintext -d '{.+}' 127.0.0.1:\d+ "
            r"inference\.GRPCInferenceService/ModelInfer",
            "1983: unusual, 1990: usual, 1992: ",
        ),
    ],
)
def test_demo_shows_a_request_and_what_its_answer_means_for_every_system(
    run: Run, heading: str, command: str, meaning: str
) -> None:
    """Every system gets a request that can be copied, and its answer is put into words."""
    lines = run.part(heading).splitlines()

    assert any(re.fullmatch(rf"\$ {command}", line) for line in lines)
    assert any(line.startswith(f"→ {meaning}") for line in lines)


def test_demo_shows_the_votes_of_every_detector(run: Run) -> None:
    """Forest, its legacy twin, LSTM and ensemble all find 1983 unusual and 1990 usual."""
    forest = [row["label"] for row in run.answer(FOREST)["predictions"]]
    lstm = {output["name"]: output["data"] for output in run.answer(LSTM)["outputs"]}

    assert [-1, 1] == forest[:2]
    assert forest == run.answer(LEGACY)["predictions"]
    assert [-1, 1] == lstm["label"][:2]
    assert [-1, 1] == run.answer(ENSEMBLE)["label"][:2]
    assert [1.0, 0.0] == run.answer(ENSEMBLE)["score"][:2]


def test_demo_shows_forecasts_with_interval_and_dates(run: Run) -> None:
    """Both forecasters answer mean, interval and dates that follow what they were trained on."""
    arima = {output["name"]: output["data"] for output in run.answer(ARIMA)["outputs"]}
    prophet = run.answer(PROPHET)["predictions"][0]

    assert "1987-01-01T00:00:00" == arima["ds"][0]
    assert "2000-01-01T00:00:00" == prophet["ds"][0]
    for forecast in (arima, prophet):
        assert forecast["lower"][0] < forecast["mean"][0] < forecast["upper"][0]


def test_demo_leaves_the_files_that_its_commands_name(run: Run) -> None:
    """The body of the binary request lies where the printed command reads it."""
    named = re.search(r"--data-binary @(\S+)", run.output)

    assert named is not None
    assert Path(named[1]).read_bytes().startswith(b'{"id"')


def test_demo_writes_the_forecasts_as_a_picture(run: Run) -> None:
    """The forecasts are drawn into a PNG that is large enough to be read."""
    head = (run.directory / "forecast.png").read_bytes()[:24]
    width, height = struct.unpack(">II", head[16:24])

    assert PNG_SIGNATURE == head[:8]
    assert width >= 1000
    assert height >= 800


def test_demo_leaves_no_server_behind(run: Run) -> None:
    """Nobody listens on the demo's ports any more once it has ended."""
    ports = {int(port) for port in re.findall(r"127.0.0.1:(\d+)", run.output)}

    assert 2 == len(ports)
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)


def test_demo_serves_until_ctrl_c_and_ends_with_success(tmp_path: Path) -> None:
    """Without ``--once`` it starts clean where one ran before, and serves until Ctrl-C."""
    (tmp_path / "models" / "left-over").mkdir(parents=True)
    (tmp_path / "models" / ".made-by-the-demo").touch()
    with subprocess.Popen(
        [sys.executable, DEMO, "--directory", tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A runner in the background passes on that it ignores Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        before = list(takewhile(lambda line: "bundleserver rollback" not in line, process.stdout))
        process.send_signal(signal.SIGINT)
        after = process.stdout.read()
        exit_code = process.wait(ENDS_WITHIN_SECONDS)

    assert 0 == exit_code, "".join(before) + after
    assert after.endswith("the server has stopped\n")
    assert not (tmp_path / "models" / "left-over").exists()


def test_demo_refuses_a_directory_of_models_that_is_not_its_own(tmp_path: Path) -> None:
    """Models that the demo has not made are never deleted."""
    model = tmp_path / "models" / "fraud" / "model.pkl"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"precious")
    done = subprocess.run(
        [sys.executable, DEMO, "--once", "--directory", tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 1 == done.returncode
    assert f"{tmp_path / 'models'} was not made by this demo" in done.stderr
    assert b"precious" == model.read_bytes()
